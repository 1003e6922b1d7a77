"""The evaluation block of a benchmark file, and its words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationInfo, field_validator, model_serializer, model_validator

from benchbed.config import Schema, mistake, shown, unknown_choice

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

LABELLED: dict[str, str] = {
    "auc": "share of pairs of a positive and a negative row, of all users together, where the positive is above; ties: half",
    "accuracy": "share of rows that are on their label's side of probability 1/2; of models whose scores are logits",
}
"""Metrics of labelled rows, with their definition in words: those of ``mode: click_through``, and of it alone."""

Mode = Literal["full", "sampled", "click_through"]
"""The ways to evaluate: every target among all candidates, among listed negatives, or labelled rows told apart. Numbers of two
of them are never comparable."""

_NAME = re.compile(r"^(?P<metric>[a-z_]+)@(?P<cutoff>[1-9][0-9]*)$")

_CLICK_THROUGH = {
    "metrics": tuple(LABELLED),
    "cutoffs": (),
    "select_by": "auc",
    "seen_items": "keep",
    "candidates": "catalogue",
    "average": "cases",
}
"""What the keys of the block are where rows are told apart: most of them can have but one value."""


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
        What the rows of the leaderboard are of: 0, the models' own lists, or ``validation``, lists re-ranked with the largest
        of ``lambdas`` that keeps enough accuracy on validation. A weight is never fixed by the file: it could come from test.
    keep
        With ``apply: validation``: the share of ``select_by`` that re-ranking has to keep on validation (0.95 by default).
    """

    feature: str = Field(min_length=1)
    cutoff: int = Field(20, ge=2, le=100)
    lambdas: tuple[float, ...] = Field((0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1), min_length=1)
    uncategorised: Literal["together", "drop"] = "together"
    apply: float | Literal["validation"] = 0
    keep: float | None = Field(None, gt=0, le=1)

    @field_validator("lambdas")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(weight < 0 for weight in value):
            raise ValueError("weights of variety are 0 or larger")
        if len(set(value)) != len(value):
            raise ValueError("an entry stands twice")
        return tuple(sorted(value))

    @field_validator("apply")
    @classmethod
    def _not_by_hand(cls, value: float | str) -> float | str:
        if value not in (0, "validation"):
            raise ValueError(
                "rows are of the models' own lists (0), or of lists whose weight is chosen on validation (`validation`)"
            )
        return value

    @field_validator("keep")
    @classmethod
    def _beside_apply(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("apply") == 0:
            raise ValueError("this belongs to `apply: validation`; without it, it would change nothing")
        return value

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the key that came later where it is not used: fingerprints of older benchmarks stay what they were."""
        values: dict[str, Any] = handler(self)
        if self.keep is None:
            values.pop("keep", None)
        return values

    @property
    def kept(self) -> float:
        """``keep``, or its default."""
        return 0.95 if self.keep is None else self.keep

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
    >>> Protocol(mode="click_through").columns
    ('auc', 'accuracy')
    """

    mode: Mode = "full"
    metrics: tuple[
        Literal[
            "recall",
            "ndcg",
            "hit_rate",
            "mrr",
            "precision",
            "map",
            "recall_min",
            "recall_thudm",
            "ndcg_thudm",
            "auc",
            "accuracy",
        ],
        ...,
    ] = Field(("recall", "ndcg", "hit_rate", "mrr"), min_length=1)
    cutoffs: tuple[int, ...] = (10, 20)
    select_by: str = "ndcg@20"
    seen_items: Literal["exclude", "keep"]
    candidates: Literal["vocabulary", "catalogue"] = "vocabulary"
    unknown_targets: Literal["miss", "drop"] = "miss"
    targets: Literal["rest", "next", "every_next"] = "rest"
    average: Literal["users", "cases"] = "users"
    seed: int = Field(0, ge=0, lt=2**63)
    diversity: Diversity | None = None
    negatives: Literal["shipped"] | int | None = None
    flawed_negatives: Literal["drop", "keep"] = "drop"

    @model_validator(mode="before")
    @classmethod
    def _of_mode(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("mode") == "click_through":
            return {**_CLICK_THROUGH, **given}
        return given

    @field_validator("metrics", "cutoffs")
    @classmethod
    def _no_repeats(cls, value: tuple[object, ...]) -> tuple[object, ...]:
        if len(set(value)) != len(value):
            raise ValueError("an entry stands twice")
        return value

    @field_validator("metrics")
    @classmethod
    def _measurable(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        labelled = info.data.get("mode") == "click_through"
        wrong = [name for name in value if (name in LABELLED) != labelled]
        at = (value.index(wrong[0]),) if wrong else ()
        if wrong and labelled:
            raise mistake(f"'{wrong[0]}' is a metric of rankings; click_through has {' and '.join(LABELLED)}", at=at)
        if wrong:
            raise mistake(f"'{wrong[0]}' is a metric of labelled rows: it belongs to `mode: click_through`", at=at)
        return value

    @field_validator("cutoffs")
    @classmethod
    def _positive(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        labelled = info.data.get("mode") == "click_through"
        if labelled and value:
            raise ValueError("click_through has no lists, and so no cutoffs: leave them out")
        if not value and not labelled:
            raise ValueError("at least 1 entry is needed here")
        wrong = next((place for place, k in enumerate(value) if not 1 <= k <= 1000), None)
        if wrong is not None:
            raise mistake(f"cutoffs lie between 1 and 1000 (it is {value[wrong]})", at=(wrong,))
        return tuple(sorted(value))

    @field_validator("select_by")
    @classmethod
    def _selectable(cls, value: str, info: ValidationInfo) -> str:
        reported = columns_of(info.data.get("metrics", METRICS), info.data.get("cutoffs", (10, 20)))
        try:
            metric, k = parse_column(value)
        except ValueError as error:
            raise unknown_choice(value, reported, str(error)) from None
        if info.data.get("mode") == "click_through":
            if value != "auc":
                raise ValueError(f"with click_through this is auc: '{value}' is not known of every model")
            if "auc" not in info.data.get("metrics", LABELLED):
                raise ValueError("the models are compared by auc, and it is not among the metrics")
            return value
        if metric in LABELLED:
            raise ValueError(f"'{value}' is a metric of labelled rows: it belongs to `mode: click_through`")
        if metric in VARIANTS:
            standard = ", ".join(METRICS)
            raise ValueError(f"'{metric}' is shown, but nothing is chosen by it: it is not a standard metric ({standard})")
        for chosen, what, known in ((metric, "metrics", info.data.get("metrics")), (k, "cutoffs", info.data.get("cutoffs"))):
            if known is not None and chosen not in known:
                message = f"'{value}' is not reported: {chosen} is not among the {what} ({', '.join(map(str, known))})"
                raise unknown_choice(value, reported, message)
        return value

    @field_validator("unknown_targets")
    @classmethod
    def _fair(cls, value: str, info: ValidationInfo) -> str:
        """Rows that no model can score stand still: where they are of one label more often, they make an area by themselves."""
        if info.data.get("mode") == "click_through" and info.data.get("candidates") == "vocabulary" and value == "miss":
            raise ValueError(
                "with `candidates: vocabulary`, rows of items without training events would stand below all others, and they "
                "are not positive as often as these: a constant model would not score like chance. Take "
                "`candidates: catalogue` (the default of click_through), or `unknown_targets: drop`"
            )
        return value

    @field_validator("seen_items", "targets", "average", "seed")
    @classmethod
    def _matters(cls, value: Any, info: ValidationInfo) -> Any:
        """Every labelled row is scored, and rows weigh alike: a key that would change nothing is refused."""
        only = {"seen_items": "keep", "targets": "rest", "average": "cases", "seed": 0}[str(info.field_name)]
        if info.data.get("mode") == "click_through" and value != only:
            raise ValueError(f"click_through scores every labelled row, and each counts alike: this is {only}, so leave it out")
        return value

    @field_validator("diversity")
    @classmethod
    def _of_lists(cls, value: Diversity | None, info: ValidationInfo) -> Diversity | None:
        if value is not None and info.data.get("mode", "full") != "full":
            raise ValueError(f"{info.data['mode']} makes no lists of all items, and so measures no variety: leave this out")
        return value

    @field_validator("negatives", mode="before")
    @classmethod
    def _sampled(cls, value: object, info: ValidationInfo) -> object:
        mode = info.data.get("mode")
        if value not in (None, "shipped") and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            message = f"{shown(value)} is neither `shipped` nor how many are drawn for each case, from 1 on"
            raise unknown_choice(value, ["shipped"], message)
        if value is None and mode == "sampled":
            raise ValueError("sampled ranks a target among negatives; say `shipped`, or how many are drawn for each case")
        if value is not None and mode == "full":
            raise ValueError("a full ranking is never among a sample; negatives belong to `mode: sampled`")
        if value is not None and mode == "click_through":
            raise ValueError("the negatives of click_through are drawn with its split; they belong to `mode: sampled`")
        return value

    @field_validator("flawed_negatives")
    @classmethod
    def _flawed(cls, value: str, info: ValidationInfo) -> str:
        if value == "keep" and info.data.get("negatives", "shipped") != "shipped":
            raise ValueError("only shipped negatives can be flawed; with other negatives this would change nothing")
        if value == "keep" and info.data.get("seen_items") == "exclude":
            raise ValueError("`seen_items: exclude` takes items of the history out of the candidates, so they cannot be kept")
        return value

    @model_validator(mode="after")
    def _listed(self) -> Protocol:
        said = self.diversity
        if said is not None and said.apply == "validation" and max(self.cutoffs) > said.cutoff:
            raise ValueError(
                f"with diversity.apply rows show re-ranked lists of {said.cutoff} items: cutoffs may be {said.cutoff} at most"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without keys that came later and are not used: fingerprints of older benchmarks stay what they were."""
        values: dict[str, Any] = handler(self)
        if self.mode == "full":
            values.pop("mode", None)
        for key in ("diversity", "negatives"):
            if getattr(self, key) is None:
                values.pop(key, None)
        if self.negatives != "shipped":
            values.pop("flawed_negatives", None)
        return values

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all values that scores decide: ``metric@cutoff``, or those of labelled rows."""
        return columns_of(self.metrics, self.cutoffs)


def columns_of(metrics: Iterable[str], cutoffs: Iterable[int]) -> tuple[str, ...]:
    """Names of the values of some metrics: each at every cutoff, but metrics of labelled rows have none.

    Examples
    --------
    >>> columns_of(["recall", "ndcg"], [10, 20])
    ('recall@10', 'recall@20', 'ndcg@10', 'ndcg@20')
    >>> columns_of(["auc"], [])
    ('auc',)
    """
    kept = tuple(cutoffs)
    return tuple(name for metric in metrics for name in ([metric] if metric in LABELLED else [f"{metric}@{k}" for k in kept]))


def parse_column(column: str) -> tuple[str, int]:
    """``"ndcg@20"`` -> ``("ndcg", 20)``; a metric of labelled rows has the cutoff 0.

    Raises
    ------
    ValueError
        The text is not of that form.
    """
    if column in LABELLED:
        return column, 0
    match = _NAME.match(column)
    if match is None or match["metric"] not in (*METRICS, *VARIANTS):
        raise ValueError(f"'{column}' is not METRIC@CUTOFF with METRIC one of {', '.join(METRICS)}")
    return match["metric"], int(match["cutoff"])
