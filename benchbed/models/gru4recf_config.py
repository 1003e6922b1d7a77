"""Hyper-parameters of GRU4RecF, the forms of it that are known by a name, and what does not go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from benchbed.models.base import ModelConfig
from benchbed.models.item_features import Pooling
from benchbed.models.variants import fill

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "recbole": {"output": "shared", "loss": "cross-entropy", "optimizer": "adam", "learning_rate": 1e-3},
    "paper": {"output": "own", "loss": "top1", "optimizer": "adagrad", "learning_rate": 0.05},
}
"""Variant -> the keys whose defaults it decides."""

NEGATIVES = {"recbole": 1, "paper": 32}
"""Default of ``n_negatives`` for ``bpr`` and ``top1``: RecBole's one; enough to stand for the other targets of a batch."""


class GRU4RecFConfig(ModelConfig):
    """Hyper-parameters of :class:`benchbed.models.gru4recf.GRU4RecF`.

    Attributes
    ----------
    variant
        ``recbole``: all subnets end in one projection, and scores are inner products with the item table. ``paper``: each
        subnet has a hidden-to-output matrix of its own, and the scores are added.
    features
        ``all`` fields that models see, or a list of names.
    pooling
        Over the values of one field: ``mean``, ``sum`` or ``max``. No values are a zero vector.
    architecture
        ``parallel``: a GRU reads items, a second one reads features. ``weighted_sum``: the same, with a trained weight on each
        subnet's scores. ``concatenated_input``: one GRU reads both side by side. ``features_only``: one GRU reads features.
    output
        ``shared`` or ``own``, see ``variant``.
    training_mode
        ``simultaneous``: every update trains everything. ``alternating``: each epoch trains one subnet, the other is frozen.
        ``residual``: the item subnet alone for ``item_epochs``, then frozen for good while the feature subnet learns what it
        leaves. ``interleaving``: each batch first updates the item subnet alone, then the feature subnet on what it leaves.
    item_epochs
        Epochs of the item subnet, ``residual`` only; the feature subnet has the rest of the run. Patience begins to count after
        them; a run that ends before for want of time has no feature subnet.
    loss
        ``cross-entropy`` over all items; ``bpr`` or ``top1``, means over the negatives of each target.
    n_negatives
        Negatives of each target, drawn uniformly from all other items; 0 with ``cross-entropy``.
    embedding_size, hidden_size, layers
        Width of the item table and of each feature field; width of each recurrent state; layers of each GRU.
    dropout_embed, dropout_features, dropout_hidden
        Of the item embeddings, of the pooled features, and of the states of each GRU layer.
    optimizer
        ``adam``, or ``adagrad`` as the authors of GRU4Rec write it.
    learning_rate
        Of the optimiser.
    batching
        ``windows`` encodes each event once and takes the loss at every position; ``prefixes`` makes a sample of every prefix.
    batch_targets
        Targets of one update.
    window
        Positions with a loss in one window; with ``prefixes`` the longest prefix.
    burn_in
        Events before a window that are encoded without loss, ``windows`` only.
    padding_in_softmax
        Give padding a place in the denominator of the cross-entropy, as RecBole does; for exact comparisons with it.
    shuffle_features
        Control: every item gets the features of another one, the same in every run.
    shuffle_seed
        Of that assignment.
    """

    variant: Literal["recbole", "paper"] = "recbole"
    features: Literal["all"] | tuple[str, ...] = "all"
    pooling: Pooling = "sum"
    architecture: Literal["parallel", "weighted_sum", "concatenated_input", "features_only"] = "parallel"
    output: Literal["shared", "own"] = "shared"
    training_mode: Literal["simultaneous", "alternating", "residual", "interleaving"] = "simultaneous"
    item_epochs: int = Field(0, ge=0)
    loss: Literal["cross-entropy", "bpr", "top1"] = "cross-entropy"
    n_negatives: int = Field(0, ge=0)
    embedding_size: int = Field(64, ge=1)
    hidden_size: int = Field(128, ge=1)
    layers: int = Field(1, ge=1, le=4)
    dropout_embed: float = Field(0.3, ge=0, lt=1)
    dropout_features: float = Field(0.0, ge=0, lt=1)
    dropout_hidden: float = Field(0.0, ge=0, lt=1)
    optimizer: Literal["adam", "adagrad"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    batching: Literal["windows", "prefixes"] = "windows"
    batch_targets: int = Field(2048, ge=1)
    window: int = Field(50, ge=1)
    burn_in: int = Field(25, ge=0)
    padding_in_softmax: bool = False
    shuffle_features: bool = False
    shuffle_seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _presets(cls, values: Any) -> Any:
        filled = fill(values, PRESETS, "recbole")
        if isinstance(filled, dict):
            if filled.get("training_mode") == "residual":
                filled.setdefault("item_epochs", 5)
            if filled.get("batching") == "prefixes":
                filled.setdefault("burn_in", 0)
            if filled.get("loss") in ("bpr", "top1"):
                filled.setdefault("n_negatives", NEGATIVES.get(filled["variant"], 1))
        return filled

    @model_validator(mode="after")
    def _fits(self) -> GRU4RecFConfig:
        problems = list(_problems(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def label(self) -> str:
        """The variant, whether its form was changed, and what else makes it another model."""
        peers = self.batching == "prefixes" and self.padding_in_softmax
        preset = PRESETS[self.variant]
        said = [
            self.variant,
            "changed" if any(getattr(self, key) != preset[key] for key in ("output", "optimizer")) else "",
            self.loss if self.loss != preset["loss"] else "",
            self.architecture if self.architecture != "parallel" else "",
            self.training_mode if self.training_mode != "simultaneous" else "",
            "" if peers else self.batching,
            "padding in softmax" if self.padding_in_softmax and not peers else "",
            "features shuffled" if self.shuffle_features else "",
        ]
        return ", ".join(part.replace("_", " ") for part in said if part)


def _problems(c: GRU4RecFConfig) -> Iterator[str]:
    """What does not go together, in words."""
    if isinstance(c.features, tuple) and (not c.features or len(set(c.features)) < len(c.features)):
        yield "features must name at least one field, and none twice"
    dead = [
        ("item_epochs", 0, c.training_mode != "residual", "it goes with training_mode residual"),
        ("burn_in", 0, c.batching == "prefixes", "prefixes have no burn-in"),
        ("shuffle_seed", 0, not c.shuffle_features, "it goes with shuffle_features: true"),
        ("n_negatives", 0, c.loss == "cross-entropy", "the cross-entropy is over all items"),
        ("padding_in_softmax", False, c.loss != "cross-entropy", f"loss {c.loss} has no softmax"),
        ("padding_in_softmax", False, c.output == "own", "it copies RecBole's network, which has output: shared"),
    ]
    for key, neutral, condition, why in dead:
        if condition and getattr(c, key) != neutral:
            yield f"{key} has no effect here and must be {str(neutral).lower()} ({why})"
    if c.loss != "cross-entropy" and not c.n_negatives:
        yield f"n_negatives must be at least 1 with loss {c.loss}"
    if c.training_mode == "residual" and not c.item_epochs:
        yield "item_epochs must be at least 1 with training_mode residual"
    if c.training_mode != "simultaneous" and (c.output == "shared" or c.architecture not in ("parallel", "weighted_sum")):
        yield (
            f"training_mode {c.training_mode} trains one subnet at a time, so that each needs an output of its own: "
            "take variant: paper (output: own) with architecture: parallel or weighted_sum"
        )
    if c.architecture == "features_only" and c.output == "shared":
        yield "architecture features_only has no item table to score with; it needs output: own"
