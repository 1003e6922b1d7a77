"""Values per test user of the rows of a leaderboard, as significance wants them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchbed.evaluation.averages import by_user
from benchbed.evaluation.significance import Row, Sample
from benchbed.tracking.reading import RunRecord, SweepRecord

if TYPE_CHECKING:
    import pandas as pd

ReadCases = Callable[[RunRecord, Sequence[str]], "pd.DataFrame | None"]
"""Gives some columns of the values per test case of a final run."""


def case_key(evaluation: Mapping[str, Any]) -> str:
    """Under what the audit of a split counts the cases of an evaluation block."""
    names = ["seen_items", "candidates", "unknown_targets", "targets"]
    if evaluation.get("mode") == "click_through":
        names = ["mode", "candidates", "unknown_targets"]
    return "-".join(str(evaluation.get(name)) for name in names)


def closed_form(record: SweepRecord, model: str) -> bool:
    """Whether a model has no random numbers."""
    return bool(record.facts["models"][model].get("trained_by") == "counting")


def finals_of(record: SweepRecord, model: str) -> list[RunRecord]:
    """Final runs of a model with the seeds of the benchmark file; a study may hold others from before these were changed."""
    seeds = record.benchmark["final"]["seeds"]
    asked = set(seeds[:1] if closed_form(record, model) else seeds)
    runs = [run for run in record.finals if run.model == model and run.seed in asked]
    return sorted(runs, key=lambda run: (run.split_seed or 0, run.seed or 0))


def test_row(record: SweepRecord, model: str, read_cases: ReadCases, column: str) -> Row | None:
    """The values of one metric per test user of a model; None when nothing can be tested."""
    samples = {}
    by_split: dict[int, list[RunRecord]] = {}
    for run in finals_of(record, model):
        if math.isfinite(run.test.get(column, math.nan)):
            by_split.setdefault(int(run.split_seed or 0), []).append(run)
    for split, runs in by_split.items():
        frames = [frame for run in runs if (frame := read_cases(run, ["user", column])) is not None]
        if frames:
            users, values, counts = _aligned(frames, column)
            by_cases = record.benchmark["evaluation"].get("average") == "cases"
            samples[split] = Sample(users, values, counts if by_cases else None)
    return Row(model, samples, random=not closed_form(record, model)) if samples else None


def _aligned(
    frames: Sequence[pd.DataFrame], column: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Users that all seeds have, their values, shape (seeds, users), and the number of cases of each."""
    seeds = [by_user(frame["user"].to_numpy(), frame[column].to_numpy(dtype=float)) for frame in frames]
    users = seeds[0][0]
    if all(np.array_equal(other, users) for other, _, _ in seeds):
        return users, np.stack([values for _, values, _ in seeds]), seeds[0][2]
    common = np.array(sorted(set.intersection(*(set(each.tolist()) for each, _, _ in seeds))), dtype=users.dtype)
    places = []
    for each, _, _ in seeds:
        order = np.argsort(each)
        places.append(order[np.searchsorted(each, common, sorter=order)])
    values = np.stack([seed[1][place] for seed, place in zip(seeds, places, strict=True)])
    return common, values, seeds[0][2][places[0]]
