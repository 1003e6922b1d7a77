"""The leaderboard as data: rows, ranks and marks, made from the record of a sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median, stdev
from typing import Any

from benchbed.errors import counted, listed
from benchbed.evaluation.significance import LEAST_USERS, Comparison, compare, tested_users
from benchbed.reporting.marks import Mark, marks_of
from benchbed.reporting.published import PublishedLine, published_lines
from benchbed.reporting.runs import CoarseFacts, FinalRun, FoldInFacts, coarse_facts, final_runs, fold_in_facts
from benchbed.reporting.samples import ReadCases, case_key, closed_form, finals_of, test_row
from benchbed.tracking.reading import RunRecord, SweepRecord

LEAST_TRIALS, LEAST_SEEDS = 10, 3
"""Below either, a leaderboard is no evidence and says so."""


@dataclass(frozen=True)
class Spread:
    """One metric over the final runs of a row.

    Attributes
    ----------
    values
        One per ended run, in order of split seed and training seed; nan for one without a result.
    mean, deviation, middle
        Over the finite values; nan without any. The deviation of a single value is 0 for a closed form, else nan.
    """

    values: tuple[float, ...]
    mean: float
    deviation: float
    middle: float

    @classmethod
    def of(cls, values: Sequence[float], splits: Sequence[int | None], *, closed_form: bool) -> Spread:
        """The mean weighs every split the same."""
        finite = [(value, split) for value, split in zip(values, splits, strict=True) if math.isfinite(value)]
        if not finite:
            return cls(tuple(values), math.nan, math.nan, math.nan)
        by_split: dict[int | None, list[float]] = {}
        for value, split in finite:
            by_split.setdefault(split, []).append(value)
        plain = [value for value, _ in finite]
        alone = 0.0 if closed_form else math.nan
        return cls(
            tuple(values), fmean(map(fmean, by_split.values())), stdev(plain) if len(plain) > 1 else alone, median(plain)
        )


@dataclass(frozen=True)
class Budget:
    """What a model's search was given and what it used."""

    declared: int
    complete: int
    pruned: int
    failed: int
    open: int
    seconds: float
    epochs: int


@dataclass(frozen=True)
class LeaderboardRow:
    """One model of the leaderboard.

    Attributes
    ----------
    rank, last_rank
        Interval of ranks that the data allow; None for a row without test results.
    metrics
        Test metrics by column.
    default_value, tuned_value
        ``select_by`` on *validation*, of trial 0 and of the best complete trial, mean over splits.
    parameters
        Count of trained numbers.
    configurations
        The tuned hyper-parameters by split seed.
    seeds
        Final runs planned, ended, tested, collapsed (ended in nan, below half the median, or with an AUC of chance) and failed
        otherwise.
    runs
        The ended final runs one by one.
    fold_in
        Of models with user vectors.
    coarse
        Of models that were told to score coarsely in validation.
    """

    model: str
    variant: str
    user_mode: str
    baseline: bool
    reference: str
    closed_form: bool
    rank: int | None
    last_rank: int | None
    metrics: dict[str, Spread]
    default_value: float | None
    tuned_value: float | None
    budget: Budget
    final_seconds: float
    best_epochs: tuple[int, ...]
    parameters: int | None
    peak_memory_mb: float | None
    coverage: float | None
    configurations: dict[int | None, dict[str, Any]]
    seeds: dict[str, int]
    runs: tuple[FinalRun, ...]
    fold_in: FoldInFacts | None
    coarse: CoarseFacts | None
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Leaderboard:
    """Rows in order of rank, with what is needed to judge them.

    Attributes
    ----------
    record
        The sweep.
    rows
        Ranked rows first, best first; then those without test results.
    comparison
        All pairs of ranked rows; None with no ranked row.
    best_baseline
        Name of the baseline with the highest test mean, if any.
    reservations
        Why this is no evidence, or not yet: sentences.
    published
        Rows beside the published values that the benchmark names.
    """

    record: SweepRecord
    rows: tuple[LeaderboardRow, ...]
    comparison: Comparison | None
    best_baseline: str | None
    reservations: tuple[str, ...] = field(default=())
    published: tuple[PublishedLine, ...] = field(default=())


def make_leaderboard(record: SweepRecord, read_cases: ReadCases) -> Leaderboard:
    """Make the leaderboard of a sweep.

    Parameters
    ----------
    record
        What the store holds.
    read_cases
        Gives the values per test case of a final run.
    """
    # What knows the planted truth competes with nobody.
    rivals = [name for name, about in record.facts["models"].items() if not about.get("ceiling")]
    samples = [row for name in rivals if (row := test_row(record, name, read_cases, record.select_by)) is not None]
    comparison = compare(samples) if samples else None
    means = {row.name: row.mean for row in samples}
    baselines = [name for name in means if record.facts["models"][name].get("baseline")]
    best_baseline = max(baselines, key=lambda name: means[name], default=None)
    rows = [_row(record, name, comparison, best_baseline) for name in record.facts["models"]]
    rows.sort(
        key=lambda row: (
            row.rank is None,
            row.rank or 0,
            -_or_low(row.metrics[record.select_by].mean),
            -_or_low(row.tuned_value),
        )
    )
    published = tuple(published_lines(record, read_cases))
    return Leaderboard(record, tuple(rows), comparison, best_baseline, tuple(_reservations(record)), published)


def _or_low(value: float | None) -> float:
    return -math.inf if value is None or math.isnan(value) else value


def _variant(finals: list[RunRecord], about: dict[str, Any]) -> str:
    """What was tested; before that, what the search starts from."""
    tested = dict.fromkeys(run.variant for run in finals if run.variant)
    return ", ".join(tested) or str(about.get("variant") or "")


def _row(record: SweepRecord, model: str, comparison: Comparison | None, best_baseline: str | None) -> LeaderboardRow:
    about = record.facts["models"][model]
    counted = closed_form(record, model)
    trials = [run for run in record.trials if run.model == model]
    finals = finals_of(record, model)
    ended = [run for run in finals if run.state != "RUNNING"]
    done = [run for run in ended if run.test]
    splits = [run.split_seed for run in ended]
    metrics = {
        column: Spread.of([run.test.get(column, math.nan) for run in ended], splits, closed_form=counted)
        for column in record.columns
    }
    best = _best_trials(trials)
    rank, last = comparison.ranks.get(model, (None, None)) if comparison else (None, None)
    costs = done or trials
    runs = final_runs(record, model, ended)
    configurations = {
        **{split: run.parameters for split, run in best.items()},
        **{run.split_seed: run.parameters for run in finals},
    }
    row = LeaderboardRow(
        model=model,
        variant=_variant(finals, about),
        user_mode=str(about.get("user_mode") or ""),
        baseline=bool(about.get("baseline")),
        reference=str(about.get("reference") or ""),
        closed_form=counted,
        rank=rank,
        last_rank=last,
        metrics=metrics,
        default_value=_mean(run.value for run in trials if run.number == 0),
        tuned_value=_mean(run.value for run in best.values()),
        budget=_budget(record, model, trials),
        final_seconds=sum(run.seconds for run in finals),
        best_epochs=tuple(int(run.closed["best_epoch"]) for run in done if run.closed.get("best_epoch")),
        parameters=_largest(costs, "parameters"),
        peak_memory_mb=_largest([*trials, *finals], "peak_memory_mb"),
        coverage=_mean(run.closed.get("coverage") for run in done),
        configurations=configurations,
        seeds=_seeds(record, counted, ended, runs),
        runs=runs,
        fold_in=fold_in_facts(done, configurations),
        coarse=coarse_facts(done),
        marks=(),
    )
    return replace(row, marks=tuple(marks_of(record, row, best, done, comparison, best_baseline)))


def _best_trials(trials: Sequence[RunRecord]) -> dict[int | None, RunRecord]:
    """The best complete trial of each split: what the search stage handed on."""
    best: dict[int | None, RunRecord] = {}
    for run in trials:
        if run.state == "COMPLETE" and run.value is not None and not math.isnan(run.value):
            old = best.get(run.split_seed)
            if old is None or run.value > _or_low(old.value):
                best[run.split_seed] = run
    return best


def _budget(record: SweepRecord, model: str, trials: Sequence[RunRecord]) -> Budget:
    states = [run.state for run in trials]
    splits = len(record.benchmark["split"].get("seeds") or [0])
    return Budget(
        declared=int(record.facts["models"][model].get("declared_trials") or 0) * splits,
        complete=states.count("COMPLETE"),
        pruned=states.count("PRUNED"),
        failed=states.count("FAIL"),
        open=states.count("RUNNING"),
        seconds=sum(run.seconds for run in trials),
        epochs=sum(len(run.epochs) for run in trials),
    )


def _seeds(record: SweepRecord, closed_form: bool, ended: Sequence[RunRecord], runs: Sequence[FinalRun]) -> dict[str, int]:
    planned = 1 if closed_form else len(record.benchmark["final"]["seeds"])
    splits = len(record.benchmark["split"].get("seeds") or [0])
    fates = [run.fate for run in runs]
    return {
        "planned": planned * splits,
        "ended": len(ended),
        "tested": sum(bool(run.test) for run in ended),
        "collapsed": fates.count("collapsed"),
        "failed": fates.count("failed"),
    }


def _reservations(record: SweepRecord) -> list[str]:
    found = []
    if not record.finished:
        found.append("This sweep is not finished: rows may be missing, and everything here may still change.")
    over = []
    for name in record.facts["models"]:
        budget = _budget(record, name, [run for run in record.trials if run.model == name])
        if (spent := budget.complete + budget.pruned + budget.failed) > budget.declared:
            over.append(f"{name} {spent} of {budget.declared}")
    if over:
        found.append(f"Some searches had more trials than are declared for all: {', '.join(over)}.")
    found += [f"{name} did not run. {reason}" for name, reason in (record.facts.get("left_out") or {}).items()]
    trials = int(record.benchmark["search"]["trials"])
    seeds = len(record.benchmark["final"]["seeds"])
    key = case_key(record.benchmark["evaluation"])
    found_users = [tested_users(split.get("audit") or {}, key) for split in record.facts.get("splits") or ()]
    users = min((number for number in found_users if number is not None), default=LEAST_USERS)
    tested = "test session" if record.benchmark["split"].get("kind") == "session" else "test user"
    few = [
        text
        for text, lacks in (
            (f"{counted(users, tested)} (at least {LEAST_USERS})", users < LEAST_USERS),
            (f"{counted(trials, 'trial')} a model (at least {LEAST_TRIALS})", trials < LEAST_TRIALS),
            (f"{counted(seeds, 'training seed')} (at least {LEAST_SEEDS})", seeds < LEAST_SEEDS),
        )
        if lacks
    ]
    if few:
        found.append(f"Not evidence: {listed(few)}. It shows how benchbed works, not which model is better.")
    return found


def _mean(values: Any) -> float | None:
    found = [float(value) for value in values if value is not None and math.isfinite(value)]
    return fmean(found) if found else None


def _largest(runs: Sequence[RunRecord], fact: str) -> Any:
    found = [run.closed[fact] for run in runs if isinstance(run.closed.get(fact), int | float)]
    return max(found) if found else None
