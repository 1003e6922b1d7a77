"""The evaluation block of a benchmark file, and its words."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from benchbed.config import Schema

METRICS: dict[str, str] = {
    "recall": "hits among the first k over the number of targets",
    "ndcg": "discounted gain of the hits over that of a perfect list of min(k, targets)",
    "hit_rate": "share of cases with at least one hit among the first k",
    "mrr": "one over the rank of the first hit, 0 beyond k",
    "precision": "hits among the first k over k",
    "map": "precision at each hit, summed, over min(k, targets)",
}
"""Every metric benchbed computes from the ranks of a case's targets, with its definition in words."""

_NAME = re.compile(r"^(?P<metric>[a-z_]+)@(?P<cutoff>[1-9][0-9]*)$")


class Protocol(Schema):
    """How models are evaluated: part of the benchmark file and of the protocol fingerprint.

    Examples
    --------
    >>> Protocol(cutoffs=[10, 20], select_by="ndcg@20", seen_items="exclude").columns[:2]
    ('recall@10', 'recall@20')
    """

    metrics: tuple[Literal["recall", "ndcg", "hit_rate", "mrr", "precision", "map"], ...] = Field(
        ("recall", "ndcg", "hit_rate", "mrr"), min_length=1
    )
    cutoffs: tuple[int, ...] = Field((10, 20), min_length=1)
    select_by: str = "ndcg@20"
    seen_items: Literal["exclude", "keep"]
    candidates: Literal["vocabulary", "catalogue"] = "vocabulary"
    unknown_targets: Literal["miss", "drop"] = "miss"
    targets: Literal["rest", "next"] = "rest"
    average: Literal["users"] = "users"
    seed: int = Field(0, ge=0)

    @field_validator("metrics", "cutoffs")
    @classmethod
    def _no_repeats(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(value)) != len(value):
            raise ValueError("an entry stands twice")
        return value

    @field_validator("cutoffs")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 1 <= k <= 1000 for k in value):
            raise ValueError("cutoffs must lie between 1 and 1000")
        return tuple(sorted(value))

    @field_validator("select_by")
    @classmethod
    def _selectable(cls, value: str, info: ValidationInfo) -> str:
        metric, k = parse_column(value)
        for chosen, what, known in ((metric, "metrics", info.data.get("metrics")), (k, "cutoffs", info.data.get("cutoffs"))):
            if known is not None and chosen not in known:
                raise ValueError(f"'{value}' is not reported: {chosen} is not among the {what} ({', '.join(map(str, known))})")
        return value

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all reported values: ``metric@cutoff``."""
        return tuple(f"{metric}@{k}" for metric in self.metrics for k in self.cutoffs)


def parse_column(column: str) -> tuple[str, int]:
    """``"ndcg@20"`` -> ``("ndcg", 20)``.

    Raises
    ------
    ValueError
        The text is not of that form.
    """
    match = _NAME.match(column)
    if match is None or match["metric"] not in METRICS:
        raise ValueError(f"'{column}' is not METRIC@CUTOFF with METRIC one of {', '.join(METRICS)}")
    return match["metric"], int(match["cutoff"])
