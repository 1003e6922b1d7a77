"""The figures of a leaderboard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchbed.reporting.leaderboard import Leaderboard, LeaderboardRow
from benchbed.reporting.svg import Drawing, Scale
from benchbed.reporting.words import duration, number
from benchbed.tracking.reading import RunRecord

WIDTH, HEIGHT = 560.0, 340.0
COLOURS = 12
"""Colours of series in the style sheet; a thirteenth series starts again, with another dash."""


@dataclass(frozen=True)
class Series:
    """How a model is drawn, the same in every figure."""

    index: int
    model: str
    baseline: bool

    @property
    def style(self) -> str:
        """Classes of the style sheet."""
        dashes = self.index // COLOURS + self.baseline
        return f"s{self.index % COLOURS}" + (f" dash{min(dashes, 3)}" if dashes else "")


def series_of(board: Leaderboard) -> dict[str, Series]:
    """Colours by order of the leaderboard."""
    return {row.model: Series(index, row.model, row.baseline) for index, row in enumerate(board.rows)}


def interval_mark(board: Leaderboard, row: LeaderboardRow, series: Series) -> str:
    """The mean of one row with its deviation and its seeds, on a scale that all rows share."""
    column = board.record.select_by
    spread = row.metrics[column]
    if not math.isfinite(spread.mean):
        return ""
    ends = [
        end
        for each in board.rows
        for s in [each.metrics[column]]
        for end in (s.mean - _or_zero(s.deviation), s.mean + _or_zero(s.deviation), *s.values)
    ]
    drawing = Drawing(150, 22, f"{column} of {row.model}: {number(spread.mean)}", kind="interval")
    x = Scale.around(ends, 4, 146, margin=0.03)
    drawing.line(4, 11, 146, 11, "rail")
    if board.best_baseline is not None:
        place = x(next(each for each in board.rows if each.model == board.best_baseline).metrics[column].mean)
        drawing.line(place, 2, place, 20, "bar-to-beat")
    drawing.open_group(series.style)
    if math.isfinite(spread.deviation) and spread.deviation > 0:
        drawing.line(x(spread.mean - spread.deviation), 11, x(spread.mean + spread.deviation), 11, "whisker")
    if len(spread.values) > 1:
        for value in spread.values:
            if math.isfinite(value):
                drawing.circle(x(value), 11, 2.2, "seed")
    drawing.circle(x(spread.mean), 11, 4.2, "dot")
    drawing.close_group()
    return str(drawing)


def anytime(board: Leaderboard, *, by_seconds: bool) -> str:
    """Best validation value so far, by trials or by seconds spent."""
    curves = {row.model: _best_so_far(board, row.model, by_seconds=by_seconds) for row in board.rows}
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return ""
    drawing = Drawing(WIDTH, HEIGHT, f"Best {board.record.select_by} on validation so far")
    longest = max(x for x, _ in points)
    x = (
        Scale.around([x for x, _ in points], 58, WIDTH - 12, logarithmic=True, margin=0.02)
        if by_seconds
        else Scale(0.5, max(longest, 2) + 0.5, 58, WIDTH - 12)
    )
    y = Scale.around([y for _, y in points], HEIGHT - 48, 34)
    ticks = None if by_seconds else [t for t in x.ticks(8) if t >= 1 and t == int(t)]
    drawing.axes(
        x,
        y,
        "seconds spent by the search (log)" if by_seconds else "trial",
        f"{board.record.select_by}, validation",
        x_ticks=ticks,
    )
    for model, series in reversed(series_of(board).items()):
        curve = curves[model]
        if not curve:
            continue
        drawing.open_group(series.style, series.index)
        stairs = [(x(curve[0][0]), y(curve[0][1]))]
        for (_, before), (at, value) in pairwise(curve):
            stairs += [(x(at), y(before)), (x(at), y(value))]
        stairs.append((x(max(longest, curve[-1][0])), y(curve[-1][1])))
        drawing.path(stairs[:-1], "curve")
        drawing.path(stairs[-2:], "curve rest")
        drawing.circle(x(curve[-1][0]), y(curve[-1][1]), 3.4, "dot", f"{model}: {number(curve[-1][1])}")
        drawing.close_group()
    return str(drawing)


def _best_so_far(board: Leaderboard, model: str, *, by_seconds: bool) -> list[tuple[float, float]]:
    """Steps of the best complete value so far; with several splits, of its mean over them once all have one."""
    by_split: dict[int | None, list[tuple[float, float]]] = {}
    for split, runs in _by_split(board, model).items():
        best, spent, curve = -math.inf, 0.0, []
        for run in runs:
            spent += run.seconds
            if run.state == "COMPLETE" and run.value is not None and run.value > best:
                best = run.value
            if math.isfinite(best):
                curve.append((max(spent, 0.01) if by_seconds else float(run.number + 1), best))
        by_split[split] = curve
    curves = [curve for curve in by_split.values() if curve]
    if not curves or len(curves) < len(by_split):
        return []
    places = sorted({place for curve in curves for place, _ in curve if place >= max(c[0][0] for c in curves)})
    return [(place, sum(_value_at(curve, place) for curve in curves) / len(curves)) for place in places]


def _value_at(curve: Sequence[tuple[float, float]], place: float) -> float:
    return max(value for at, value in curve if at <= place)


def _by_split(board: Leaderboard, model: str) -> dict[int | None, list[RunRecord]]:
    found: dict[int | None, list[RunRecord]] = {}
    for run in board.record.trials:
        if run.model == model and run.state != "RUNNING":
            found.setdefault(run.split_seed, []).append(run)
    return {split: sorted(runs, key=lambda run: run.number) for split, runs in found.items()}


def cost_quality(board: Leaderboard) -> str:
    """Test value against everything spent on it."""
    column = board.record.select_by
    rows = [row for row in board.rows if math.isfinite(row.metrics[column].mean)]
    if not rows:
        return ""
    spent = {row.model: max(row.budget.seconds + row.final_seconds, 0.01) for row in rows}
    drawing = Drawing(WIDTH, HEIGHT, f"Test {column} against seconds of search and final runs")
    x = Scale.around(list(spent.values()), 58, WIDTH - 20, logarithmic=True, margin=0.1)
    ends = [row.metrics[column].mean + sign * _or_zero(row.metrics[column].deviation) for row in rows for sign in (-1, 1)]
    y = Scale.around(ends, HEIGHT - 48, 34, margin=0.08)
    drawing.axes(x, y, "seconds of search and final runs (log)", f"{column}, test")
    series = series_of(board)
    dots = [(x(spent[row.model]), y(row.metrics[column].mean)) for row in rows]
    taken: list[tuple[float, float, float]] = []
    for row in rows:
        mine, spread = series[row.model], row.metrics[column]
        left, top = x(spent[row.model]), y(spread.mean)
        drawing.open_group(mine.style, mine.index)
        if spread.deviation > 0:
            drawing.line(left, y(spread.mean - spread.deviation), left, y(spread.mean + spread.deviation), "whisker")
        tip = f"{row.model}: {number(spread.mean)} for {duration(spent[row.model])}"
        drawing.circle(left, top, 5, "dot", tip)
        _label(drawing, left, top, _cut(row.model, 20), taken, dots)
        drawing.close_group()
    return str(drawing)


def _label(
    drawing: Drawing,
    x: float,
    y: float,
    words: str,
    taken: list[tuple[float, float, float]],
    dots: Sequence[tuple[float, float]],
) -> None:
    """Words beside a dot, moved until they cover neither other words nor other dots; a line leads to those that are far off."""
    wide = 7.6 * len(words)
    sides = [side for side in (x + 10, x - 10 - wide) if side > 60 and side + wide < drawing.width] or [x - 10 - wide]
    start, place = sides[0], y + 4
    for shift in (0, *(sign * 13 * step for step in range(1, 20) for sign in (-1, 1))):
        for side in sides:
            at = y + 4 + shift
            words_clear = all(abs(at - up) > 12 or side + wide < a or side > b for a, b, up in taken)
            dots_clear = all(abs(at - 4 - top) > 10 or not side - 6 < left < side + wide + 6 for left, top in dots)
            if words_clear and dots_clear and 14 < at < drawing.height - 52:
                taken.append((side, side + wide, at))
                if abs(shift) > 26:
                    drawing.line(x, y, x + (8 if side > x else -8), at - 4, "rail")
                drawing.text(side if side > x else x - 10, at, words, "label", "start" if side > x else "end")
                return
    drawing.text(start, place, words, "label")


def trial_strip(board: Leaderboard) -> str:
    """Every trial's validation value, one line a model: complete, pruned, default and best."""
    rows = [row for row in board.rows if any(run.model == row.model and _best_value(run) for run in board.record.trials)]
    if not rows:
        return ""
    runs = {row.model: [run for run in board.record.trials if run.model == row.model] for row in rows}
    values = [value for each in runs.values() for run in each if (value := _best_value(run)) is not None]
    drawing, x = _lines_of_models(board, rows, values, f"Validation {board.record.select_by} of every trial")
    drawing.text(x.end, drawing.height - 8, f"{board.record.select_by}, validation", "name", "end")
    series = series_of(board)
    for place, row in enumerate(rows):
        y, mine = _line_of(place), series[row.model]
        drawing.open_group(mine.style, mine.index)
        best = max((run.value for run in runs[row.model] if run.state == "COMPLETE" and run.value is not None), default=None)
        for run in sorted(runs[row.model], key=lambda run: (run.number == 0, run.state == "COMPLETE")):
            value = _best_value(run)
            if value is None:
                continue
            spread = ((run.number * 7) % 5 - 2) * 2.6
            tip = f"{row.model} #{run.number}: {number(value)}, {run.state.lower()}, {duration(run.seconds)}"
            if run.number == 0:
                drawing.diamond(x(value), y, 5.5, "default", f"{tip} (default)")
            else:
                drawing.circle(x(value), y + spread, 3.2, "trial" if run.state == "COMPLETE" else "trial pruned", tip)
            if best is not None and run.state == "COMPLETE" and value == best:
                drawing.circle(x(value), y + (0 if run.number == 0 else spread), 7.5, "best")
        drawing.close_group()
    return str(drawing)


def tuning(board: Leaderboard) -> str:
    """What tuning brought on validation, and what was left of it on test: one line a model."""
    column = board.record.select_by
    rows = [row for row in board.rows if row.tuned_value is not None]
    if not rows:
        return ""
    values = [v for row in rows for v in (row.default_value, row.tuned_value, row.metrics[column].mean) if v is not None]
    drawing, x = _lines_of_models(board, rows, values, f"{column} of the default, the tuned and the tested configuration")
    drawing.text(x.end, drawing.height - 8, column, "name", "end")
    series = series_of(board)
    for place, row in enumerate(rows):
        y, mine, test = _line_of(place), series[row.model], row.metrics[column].mean
        drawing.open_group(mine.style, mine.index)
        tuned = row.tuned_value or 0.0
        if row.default_value is not None:
            drawing.line(x(row.default_value), y, x(tuned), y, "whisker")
            drawing.diamond(x(row.default_value), y, 5.5, "default", f"{row.model}, default: {number(row.default_value)}")
        drawing.circle(x(tuned), y, 4.6, "dot", f"{row.model}, tuned: {number(tuned)} on validation")
        if math.isfinite(test):
            drawing.line(x(test), y - 8, x(test), y + 8, "test")
        drawing.close_group()
    return str(drawing)


_LEFT, _STEP, _TOP = 132.0, 30.0, 16.0


def _line_of(place: int) -> float:
    return _TOP + _STEP * (place + 0.5)


def _lines_of_models(
    board: Leaderboard, rows: Sequence[LeaderboardRow], values: Sequence[float], title: str
) -> tuple[Drawing, Scale]:
    """An empty drawing with one line a model."""
    height = _TOP + _STEP * len(rows) + 46
    drawing = Drawing(WIDTH, height, title)
    x = Scale.around(values, _LEFT, WIDTH - 14, margin=0.03)
    bottom = height - 46
    for tick in x.ticks(7):
        drawing.line(x(tick), _TOP - 6, x(tick), bottom, "grid")
        drawing.text(x(tick), bottom + 19, f"{tick:g}", "tick", "middle")
    for place, row in enumerate(rows):
        drawing.text(_LEFT - 12, _line_of(place) + 4, _cut(row.model, 14), "label", "end")
        drawing.line(_LEFT, _line_of(place), x.end, _line_of(place), "rail")
    return drawing, x


def _best_value(run: RunRecord) -> float | None:
    """What the trial reached: its told value, else its best finite epoch."""
    if run.value is not None and math.isfinite(run.value):
        return run.value
    return max((epoch.value for epoch in run.epochs if math.isfinite(epoch.value)), default=None)


def _cut(words: str, most: int) -> str:
    """A name that is too long loses its middle: forms of one model differ at the end."""
    if len(words) <= most:
        return words
    return f"{words[: most // 2]}…{words[len(words) - (most - 1 - most // 2) :]}"


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0
