"""The final runs of a row, one by one: what each reached, and which came to nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, Literal

from benchbed.reporting.samples import closed_form
from benchbed.tracking.reading import RunRecord, SweepRecord

NO_BETTER_THAN_CHANCE = (0.49, 0.51)
"""An area under the curve between these is that of a model that tells nothing apart."""


@dataclass(frozen=True)
class FinalRun:
    """One ended final run.

    ``value`` is ``select_by`` on test, nan without a result; ``fate`` is empty for a run that went well.
    """

    split_seed: int | None
    seed: int | None
    value: float
    fate: Literal["", "collapsed", "failed"]

    def place(self, *, several_splits: bool) -> str:
        """Which run it is, in words."""
        return place_of(self, several_splits=several_splits)


def place_of(run: FinalRun | RunRecord, *, several_splits: bool) -> str:
    """Which run it is, in words."""
    split = f"split {run.split_seed}, " if several_splits else ""
    return f"{split}seed {run.seed}"


@dataclass(frozen=True)
class FoldInFacts:
    """How a model with user vectors scored users, means over its final runs; None for what was not told.

    Attributes
    ----------
    steps, learning_rate
        Of fold-in, as configured for each split.
    seconds
        Spent on it by a final run, validation and test together.
    agreement
        Mean rank correlation between trained rows and those of the same users folded in as if they were new.
    """

    steps: tuple[int, ...]
    learning_rate: tuple[float, ...]
    seconds: float | None
    agreement: float | None


def final_runs(record: SweepRecord, model: str, ended: Sequence[RunRecord]) -> tuple[FinalRun, ...]:
    """Every ended final run of a model, in order of split seed and training seed. None is ever drawn again."""
    column = record.select_by
    values = [float(run.test.get(column, math.nan)) for run in ended]
    finite = [value for value in values if math.isfinite(value)]
    middle = median(finite) if finite else math.nan
    made = []
    for run, value in zip(ended, values, strict=True):
        fate: Literal["", "collapsed", "failed"] = "failed" if run.state == "FAIL" else ""
        if _collapsed(run, column, middle, random=not closed_form(record, model)):
            fate = "collapsed"
        made.append(FinalRun(run.split_seed, run.seed, value, fate))
    return tuple(made)


def _collapsed(run: RunRecord, column: str, middle: float, *, random: bool) -> bool:
    """Whether training came to nothing: it ended in nan, far below the other seeds, or where chance would have ended."""
    if "nan" in (run.closed.get("finished"), run.closed.get("reason")):
        return True
    value = run.test.get(column)
    if value is None:
        return False
    low, high = NO_BETTER_THAN_CHANCE
    return not value >= middle / 2 or (column == "auc" and random and low <= value <= high)


@dataclass(frozen=True)
class CoarseFacts:
    """What became of a row's coarse scores (``scoring: bf16``).

    Attributes
    ----------
    compared
        Validations of the final runs that were made both ways.
    changed
        Most cases of one of them that had another metric; above 0 the runs went on in full.
    """

    compared: int
    changed: int


def coarse_facts(finals: Sequence[RunRecord]) -> CoarseFacts | None:
    """What is known of a row's coarse scores; None for a row that did not ask for them."""
    told = [run.closed for run in finals if run.closed.get("coarse_compared")]
    if not told:
        return None
    return CoarseFacts(
        sum(int(each["coarse_compared"]) for each in told), max(int(each["coarse_cases_changed"]) for each in told)
    )


def fold_in_facts(finals: Sequence[RunRecord], configurations: Mapping[int | None, Mapping[str, Any]]) -> FoldInFacts | None:
    """What is known of a row's fold-in; None for a model without user vectors."""
    told = [each for each in configurations.values() if each.get("fold_in_steps") is not None]
    if not told:
        return None

    def mean(fact: str) -> float | None:
        found = [float(run.closed[fact]) for run in finals if isinstance(run.closed.get(fact), int | float)]
        return fmean(found) if found else None

    return FoldInFacts(
        tuple(dict.fromkeys(int(each["fold_in_steps"]) for each in told)),
        tuple(dict.fromkeys(float(each["fold_in_learning_rate"]) for each in told if "fold_in_learning_rate" in each)),
        mean("fold_in_seconds"),
        mean("fold_in_agreement"),
    )
