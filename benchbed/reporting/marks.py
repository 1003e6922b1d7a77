"""Remarks on the rows of a leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchbed.errors import counted
from benchbed.evaluation.significance import Comparison
from benchbed.reporting.runs import place_of
from benchbed.tracking.reading import RunRecord, SweepRecord

if TYPE_CHECKING:
    from benchbed.reporting.leaderboard import LeaderboardRow


@dataclass(frozen=True)
class Mark:
    """A remark on a row: a word to show, what it means, and whether it is a warning."""

    word: str
    meaning: str
    warning: bool = True


def marks_of(
    record: SweepRecord,
    row: LeaderboardRow,
    best: Mapping[int | None, RunRecord],
    done: Sequence[RunRecord],
    comparison: Comparison | None,
    best_baseline: str | None,
) -> list[Mark]:
    """The remarks on one row.

    Parameters
    ----------
    record
        The sweep.
    row
        Without marks.
    best
        The best complete trial of each split.
    done
        Final runs with a test result.
    comparison
        Of all ranked rows.
    best_baseline
        The baseline with the highest test mean.
    """
    if record.facts["models"][row.model].get("ceiling") and done:
        meaning = (
            "Ranks by the truth that the data were made of. None can be above it but by luck, and none is ranked against it."
        )
        return [Mark("ceiling", meaning, warning=False)]
    marks = []
    if row.baseline:
        marks.append(Mark("baseline", "A simple method, tuned with the same budget.", warning=False))
    elif comparison and best_baseline and row.rank is not None:
        marks += _beside_baselines(record, row, comparison, best_baseline)
    if reason := _not_converged(record, row, best, done):
        marks.append(Mark("not converged", reason))
    marks += _of_runs(record, row)
    if row.budget.failed:
        words = counted(row.budget.failed, "failed trial")
        marks.append(Mark(words, "Trials of the search that failed count against the budget: the row was tuned on fewer."))
    marks += _said_little(record, done)
    marks += _without_triples(row, done)
    if row.rank is None:
        marks.append(Mark("no test result", "No final run of this model has a test result."))
    return marks


def _beside_baselines(record: SweepRecord, row: LeaderboardRow, comparison: Comparison, best_baseline: str) -> list[Mark]:
    """Not above the best baseline, and which baselines are above it."""
    if comparison.better(row.model, best_baseline):
        return []
    column = record.select_by
    marks = [Mark("not above baseline", f"Not significantly above the best baseline ({best_baseline}) on {column}.")]
    names = [name for name, about in record.facts["models"].items() if about.get("baseline") and name in comparison.ranks]
    above = [name for name in names if comparison.better(name, row.model)]
    if above:
        meaning = f"Significantly below {'this baseline' if len(above) == 1 else 'these baselines'} on {column}."
        marks.append(Mark(f"below {', '.join(above)}", meaning))
    return marks


def _of_runs(record: SweepRecord, row: LeaderboardRow) -> list[Mark]:
    """Final runs that collapsed, failed, or have not run yet."""
    marks = []
    seeds = row.seeds
    several = len(record.benchmark["split"].get("seeds") or [0]) > 1
    if seeds["collapsed"]:
        which = "; ".join(run.place(several_splits=several) for run in row.runs if run.fate == "collapsed")
        chance = ", or with an AUC of chance (.49 to .51)" if record.select_by == "auc" else ""
        meaning = (
            f"{which}. Final runs that ended in nan, or below half the median{chance}. Never redrawn; "
            "finite values count in the mean."
        )
        marks.append(Mark(f"{seeds['collapsed']} collapsed", meaning))
    if seeds["failed"]:
        which = "; ".join(run.place(several_splits=several) for run in row.runs if run.fate == "failed")
        marks.append(
            Mark(f"{seeds['failed']} failed", f"{which}. Final runs that failed: never redrawn, left out of the mean.")
        )
    missing = seeds["planned"] - seeds["ended"]
    if row.rank is not None and missing > 0:
        marks.append(Mark(f"{missing} missing", "Final seeds that have not run yet."))
    return marks


def _said_little(record: SweepRecord, done: Sequence[RunRecord]) -> list[Mark]:
    """Final runs of networks with dead units, and test cases whose candidates all got one score."""
    marks = []
    several = len(record.benchmark["split"].get("seeds") or [0]) > 1
    dead = [run for run in done if run.closed.get("dead_relu")]
    if dead:
        which = "; ".join(
            f"{place_of(run, several_splits=several)} ({100 * float(run.closed.get('constant_users') or 0):.1f} % of users)"
            for run in dead
        )
        meaning = (
            f"{which}. Final runs whose rectified units died: to more than 1 % of the users all items are the same, or "
            "training pairs are told from others no better than by chance. What they reach says little about the model. Never "
            "redrawn; they count in the mean."
        )
        marks.append(Mark(f"{len(dead)} with dead units", meaning))
    constant = {run.key: float(run.closed.get("constant_cases") or 0) for run in done}
    if any(constant.values()):
        cases = sum(float(run.closed.get("cases") or 0) for run in done)
        worst = max(done, key=lambda run: constant[run.key])
        share = sum(constant.values()) / max(cases, 1.0)
        meaning = (
            f"Of {counted(int(cases), 'test case')} of {counted(len(done), 'final run')} {sum(constant.values()):.0f} "
            f"got one score for all candidates (most: {constant[worst.key]:.0f}, {place_of(worst, several_splits=several)}): "
            "their order is none of the model's."
        )
        marks.append(Mark(f"constant scores {100 * share:.1f} %" if share >= 0.001 else "constant scores under 0.1 %", meaning))
    return marks


def _without_triples(row: LeaderboardRow, done: Sequence[RunRecord]) -> list[Mark]:
    """A model that should learn from a graph, and found none."""
    asked = any(parameters.get("kge_interval") for parameters in row.configurations.values())
    found = [run for run in done if run.closed.get("triples") == 0]
    if not asked or not found:
        return []
    left_out = counted(int(max(float(run.closed.get("triples_left_out") or 0) for run in found)), "triple")
    meaning = (
        f"The graph says nothing about the candidates ({left_out} with other heads left out): there were no graph steps, and "
        "their hyper-parameters changed nothing. The row is the model without a graph."
    )
    return [Mark("no triples", meaning)]


def _not_converged(
    record: SweepRecord, row: LeaderboardRow, best: Mapping[int | None, RunRecord], done: Sequence[RunRecord]
) -> str | None:
    """A best epoch in the last tenth of the cap, of epochs or of seconds: training was cut, not finished."""
    if row.closed_form:
        return None
    if any(
        run.closed.get("finished") == "seconds"
        and float(run.closed.get("best_epoch") or 0) > 0.9 * float(run.closed.get("epochs") or len(run.epochs))
        for run in best.values()
    ):
        return "The best trial of the search was still improving when its seconds were spent."
    cap = record.facts["models"][row.model].get("max_epochs")
    late = [run for run in best.values() if cap and float(run.closed.get("best_epoch") or 0) > 0.9 * float(cap)]
    if late:
        return f"The best trial of the search was still improving in the last tenth of its {counted(int(cap), 'epoch')}."
    cut = [
        run
        for run in done
        if run.closed.get("finished") in ("max_epochs", "seconds")
        and float(run.closed.get("best_epoch") or 0) > 0.9 * float(run.opened.get("max_epochs") or len(run.epochs)) > 0
    ]
    return "A final run was still improving when it reached its cap." if cut else None
