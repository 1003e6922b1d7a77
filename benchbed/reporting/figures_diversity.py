"""Accuracy against diversity along lambda: what variety of lists costs each model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from benchbed.reporting.figures import HEIGHT, WIDTH, series_of
from benchbed.reporting.leaderboard import Leaderboard
from benchbed.reporting.samples import finals_of
from benchbed.reporting.svg import Drawing, Scale
from benchbed.reporting.words import number
from benchbed.tracking.reading import RunRecord, SweepRecord


@dataclass(frozen=True)
class CurvePoint:
    """Means over the final runs of a model for one weight of variety."""

    weight: float
    values: dict[str, float]


def lambda_curves(record: SweepRecord) -> dict[str, list[CurvePoint]]:
    """The curve of every model that has one: means over training seeds, then over splits; nothing in records without curves."""
    found = {name: _curve([run for run in finals_of(record, name) if run.test]) for name in record.facts["models"]}
    return {name: curve for name, curve in found.items() if curve}


def applied_weights(record: SweepRecord, model: str) -> set[float]:
    """The weights above 0 that the final runs of a model chose on validation for their rows."""
    runs = [run for run in finals_of(record, model) if run.test]
    return {float(weight) for run in runs if (weight := (run.closed.get("variety") or {}).get("weight"))}


def _curve(runs: list[RunRecord]) -> list[CurvePoint]:
    by_weight: dict[float, dict[int | None, list[Mapping[str, Any]]]] = {}
    for run in runs:
        for point in (run.closed.get("variety") or {}).get("curve") or []:
            by_weight.setdefault(float(point["lambda"]), {}).setdefault(run.split_seed, []).append(point)
    return [CurvePoint(weight, _means(splits)) for weight, splits in sorted(by_weight.items())]


def _means(splits: Mapping[int | None, list[Mapping[str, Any]]]) -> dict[str, float]:
    columns = [column for column in next(iter(splits.values()))[0] if column != "lambda"]
    return {column: fmean(fmean(point[column] for point in points) for points in splits.values()) for column in columns}


def accuracy_diversity(board: Leaderboard) -> str:
    """One line a model, from its own lists (large dot) to the most varied ones."""
    record, curves = board.record, lambda_curves(board.record)
    said = record.diversity
    if said is None or not curves:
        return ""
    across, up = f"diversity@{said['cutoff']}", f"{record.select_by.rpartition('@')[0]}@{said['cutoff']}"
    applied = {name: applied_weights(record, name) for name in curves}
    places = {
        model: [(point, point.values[across], point.values[up]) for point in curve if _drawable(point, across, up)]
        for model, curve in curves.items()
    }
    everything = [place for line in places.values() for place in line]
    if not everything:
        return ""
    drawing = Drawing(WIDTH, HEIGHT, f"Test {up} against {across}, along lambda")
    x = Scale.around([right for _, right, _ in everything], 58, WIDTH - 20)
    y = Scale.around([high for _, _, high in everything], HEIGHT - 48, 34)
    drawing.axes(x, y, across, f"{up}, test")
    for model, series in reversed(series_of(board).items()):
        line = places.get(model) or []
        if not line:
            continue
        drawing.open_group(series.style, series.index)
        drawing.path([(x(right), y(high)) for _, right, high in line], "curve")
        for point, right, high in reversed(line):
            own = point.weight == line[0][0].weight
            tip = f"{model}, lambda {point.weight:g}: {up} {number(high)}, {across} {number(right)}"
            drawing.circle(x(right), y(high), 5.4 if own else 3.0, "dot", tip)
            if point.weight in applied.get(model, ()):
                drawing.circle(x(right), y(high), 8.5, "best")
        drawing.close_group()
    return str(drawing)


def _drawable(point: CurvePoint, across: str, up: str) -> bool:
    return all(math.isfinite(point.values.get(column, math.nan)) for column in (across, up))
