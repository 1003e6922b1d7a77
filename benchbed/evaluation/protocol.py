"""The evaluation block of a benchmark file, and its words."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationInfo, field_validator, model_serializer, model_validator

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

VARIANTS: dict[str, str] = {
    "recall_min": "hits among the first k over min(k, targets)",
    "recall_thudm": "hits among the first k over the length of the target list, repetitions included (ComiRec's authors)",
    "ndcg_thudm": "discounted gain of the hits over that of a list with as many hits, all in front (ComiRec's authors)",
}
"""Forms of metrics as some papers report them: comparable with those papers alone, shown apart, never selected by."""

_NAME = re.compile(r"^(?P<metric>[a-z_]+)@(?P<cutoff>[1-9][0-9]*)$")


class Diversity(Schema):
    """Variety of lists, and lists that trade accuracy for it; see :mod:`benchbed.evaluation.aggregation`.

    Attributes
    ----------
    feature
        The categorical field of items whose values are their categories.
    cutoff
        Length of the lists.
    lambdas
        Weights of variety, for the curve that is drawn.
    uncategorised
        Items without a category: ``together`` they form one of their own, or ``drop`` takes them out of what may be listed.
    apply
        The weight behind the rows of the leaderboard; 0 leaves the models' own lists.
    """

    feature: str = Field(min_length=1)
    cutoff: int = Field(20, ge=2, le=100)
    lambdas: tuple[float, ...] = Field((0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1), min_length=1)
    uncategorised: Literal["together", "drop"] = "together"
    apply: float = Field(0, ge=0)

    @field_validator("lambdas")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(weight < 0 for weight in value):
            raise ValueError("weights of variety are 0 or larger")
        if len(set(value)) != len(value):
            raise ValueError("an entry stands twice")
        return tuple(sorted(value))

    @property
    def column(self) -> str:
        """Name of the reported value: ``diversity@cutoff``."""
        return f"diversity@{self.cutoff}"


class Protocol(Schema):
    """How models are evaluated: part of the benchmark file and of the protocol fingerprint.

    Examples
    --------
    >>> Protocol(cutoffs=[10, 20], select_by="ndcg@20", seen_items="exclude").columns[:2]
    ('recall@10', 'recall@20')
    """

    metrics: tuple[
        Literal["recall", "ndcg", "hit_rate", "mrr", "precision", "map", "recall_min", "recall_thudm", "ndcg_thudm"], ...
    ] = Field(("recall", "ndcg", "hit_rate", "mrr"), min_length=1)
    cutoffs: tuple[int, ...] = Field((10, 20), min_length=1)
    select_by: str = "ndcg@20"
    seen_items: Literal["exclude", "keep"]
    candidates: Literal["vocabulary", "catalogue"] = "vocabulary"
    unknown_targets: Literal["miss", "drop"] = "miss"
    targets: Literal["rest", "next", "every_next"] = "rest"
    average: Literal["users", "cases"] = "users"
    seed: int = Field(0, ge=0)
    diversity: Diversity | None = None

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
        if metric in VARIANTS:
            standard = ", ".join(METRICS)
            raise ValueError(f"'{metric}' is shown, but nothing is chosen by it: it is not a standard metric ({standard})")
        for chosen, what, known in ((metric, "metrics", info.data.get("metrics")), (k, "cutoffs", info.data.get("cutoffs"))):
            if known is not None and chosen not in known:
                raise ValueError(f"'{value}' is not reported: {chosen} is not among the {what} ({', '.join(map(str, known))})")
        return value

    @model_validator(mode="after")
    def _listed(self) -> Protocol:
        said = self.diversity
        if said is not None and said.apply > 0 and max(self.cutoffs) > said.cutoff:
            raise ValueError(
                f"with diversity.apply rows show re-ranked lists of {said.cutoff} items: cutoffs may be {said.cutoff} at most"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without keys that came later and are not used: fingerprints of older benchmarks stay what they were."""
        values: dict[str, Any] = handler(self)
        if self.diversity is None:
            values.pop("diversity", None)
        return values

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all values that ranks decide: ``metric@cutoff``."""
        return tuple(f"{metric}@{k}" for metric in self.metrics for k in self.cutoffs)


def parse_column(column: str) -> tuple[str, int]:
    """``"ndcg@20"`` -> ``("ndcg", 20)``.

    Raises
    ------
    ValueError
        The text is not of that form.
    """
    match = _NAME.match(column)
    if match is None or match["metric"] not in (*METRICS, *VARIANTS):
        raise ValueError(f"'{column}' is not METRIC@CUTOFF with METRIC one of {', '.join(METRICS)}")
    return match["metric"], int(match["cutoff"])
