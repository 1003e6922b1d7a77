"""Rows of a leaderboard beside published values of the same data and protocol."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from benchbed.evaluation.significance import Row, compare, holm
from benchbed.reporting.samples import ReadCases, test_row
from benchbed.tracking.reading import SweepRecord


@dataclass(frozen=True)
class PublishedLine:
    """One published value and what the row reached.

    Attributes
    ----------
    model
        Name of the row.
    column
        The metric.
    ours, published
        The row's test mean and the published value.
    difference, standard_error
        Ours less published. The error counts test users and training seeds; the published value is taken as exact, because its
        own noise is seldom told.
    verdict
        ``above``, ``below``, or ``not distinguishable`` at 5 %, Holm over all published values of the benchmark; ``not tested:
        one seed`` where training is random and its noise unknown.
    source
        Where the value stands.
    """

    model: str
    column: str
    ours: float
    published: float
    difference: float
    standard_error: float
    p_holm: float
    verdict: str
    source: str

    @property
    def difference_text(self) -> str:
        """The difference, with its standard error where that is known."""
        return f"{self.difference:+.4f}" + (f" ± {self.standard_error:.4f}" if math.isfinite(self.standard_error) else "")


def published_lines(record: SweepRecord, read_cases: ReadCases) -> list[PublishedLine]:
    """Compare rows with the ``published`` block of the benchmark; rows without test results are left out."""
    lines: list[PublishedLine] = []
    for entry in record.benchmark.get("published") or ():
        for column in (each for each in record.columns if each in entry["values"]):
            value = entry["values"][column]
            row = test_row(record, entry["row"], read_cases, column)
            if row is None:
                continue
            exact = {
                split: replace(each, values=np.full((1, len(each.users)), float(value))) for split, each in row.samples.items()
            }
            pair = compare([row, Row(f"{row.name}, published", exact, random=False)]).pairs[0]
            lines.append(
                PublishedLine(
                    row.name, column, row.mean, float(value), pair.difference, pair.standard_error, pair.p, "", entry["source"]
                )
            )
    corrected = holm([line.p_holm for line in lines])
    return [_judged(line, p) for line, p in zip(lines, corrected, strict=True)]


def _judged(line: PublishedLine, p: float) -> PublishedLine:
    told = "not distinguishable" if math.isfinite(line.standard_error) else "not tested: one seed"
    if p < 0.05 and math.isfinite(line.standard_error):
        told = "above" if line.difference > 0 else "below"
    return replace(line, p_holm=p, verdict=told)
