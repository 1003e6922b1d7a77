"""Hyper-parameters of ConvNCF, the forms of it that are known by a name, and what does not go together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from benchbed.models.fold_in import FoldInConfig
from benchbed.models.patch_products import fitting
from benchbed.models.variants import fill, label

Size = Annotated[int, Field(ge=1)]

PRESETS: dict[str, dict[str, Any]] = {
    "authors": {
        "penalty": "squared",
        "lambda1": 0.01,
        "gamma": 10.0,
        "lambda3": 1.0,
        "optimizer": "adagrad",
        "learning_rate": 0.05,
        "warmup_unregularised": True,
        "init": "small",
        "dropout": 0.0,
        "batch_size": 512,
        "pretrain_epochs": 50,
    },
    "recbole": {
        "penalty": "norm",
        "lambda1": 0.1,
        "gamma": 0.0,
        "lambda3": 0.1,
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "warmup_unregularised": False,
        "init": "torch",
        "dropout": 0.2,
        "batch_size": 2048,
        "pretrain_epochs": 0,
    },
}
"""What each variant decides, besides RecBole's kernels of 4, 4, 2, 2 for 64 numbers."""

FORM = ("penalty", "optimizer", "warmup_unregularised", "init")
"""Keys that make another model of a variant when they change."""

RECBOLE_KERNELS = (4, 4, 2, 2)

ELSEWHERE = {
    "cnn_kernels": "is called geometry here",
    "cnn_strides": "is decided by geometry: every kernel is its own stride",
    "cnn_channels": "is called channels here, without the 1 of the map in front",
    "reg_weights": "is two keys here, lambda1 (tables) and lambda3 (convolutions and output)",
    "dropout_prob": "is called dropout here",
    "train_method": "is decided by pretrain_epochs: 0 is no_pretrain",
    "pre_model_path": "is not needed: pretrain_epochs trains the tables within the first epoch",
    "lr_embed": "is called learning_rate here",
    "lr_net": "is called network_learning_rate here",
    "regs": "is three keys here: lambda1, gamma, lambda3",
}
"""Names of RecBole's and of the authors' code that are called otherwise here."""


class ConvNCFConfig(FoldInConfig):
    """Hyper-parameters of :class:`benchbed.models.convncf.ConvNCF`.

    ``variant`` decides the defaults of other keys (:data:`PRESETS`); those shown here are the authors'.

    Attributes
    ----------
    variant
        ``authors``: the code of the authors. ``recbole``: RecBole's, which regularises otherwise and starts from wide tables.
    embedding_size
        d; the map is d x d.
    geometry
        Side of every layer's kernel, which is its stride. Their product is ``embedding_size``, so that the tower ends in one
        place. ``auto``: as many kernels of 2 as it takes (the prime factors, where d is no power of 2); with ``recbole`` and
        d = 64, its 4, 4, 2, 2.
    channels
        Of every layer, or one number a layer.
    dropout
        Of the tower's output, before the last product.
    penalty
        ``squared``: of the batch's vectors (once each time they occur), of the tower's weights and biases, and of the output
        layer. ``norm``: Euclidean norms, not squared, of whole tables and of each weight; biases have none.
    lambda1, gamma, lambda3
        Weights of the penalties: of the vectors; of the output layer; of tower and output layer (which has gamma + lambda3).
        The loss is a sum over the batch, not a mean: what they mean depends on ``batch_size``.
    optimizer
        ``adagrad``: two of TensorFlow's, one for the tables, one for the network. ``adam``.
    learning_rate, network_learning_rate
        Of the tables and of the network; None is the same rate.
    warmup_unregularised
        In the first epoch one Adagrad of rate 0.01 trains everything without penalties.
    init
        ``small``: vectors normal with a standard deviation of 0.01, weights 0.1, both cut at two of them; biases of the tower
        0.1. ``torch``: vectors normal with 1, the rest as torch makes it.
    batch_size
        Triples of one update.
    dns
        Negatives drawn for each event, of which the one with the highest score is taken.
    pretrain_epochs, pretrain_learning_rate, pretrain_regularisation
        Epochs of MF-BPR on the tables before the first epoch, within its time; its Adagrad's rate; its penalty. The authors
        take 500 epochs, and RecBole 0 by default. Without them the authors' penalties pull the network to zero before the
        vectors, which start small, have come to mean anything.
    scoring
        ``bf16``: validations of a run score in bfloat16 and score anew, in full, what decides about the first places of a list.
        The first validation is made both ways; where anybody's metrics differ, the run stays with ``fp32`` and tells. Tests are
        always ranked in ``fp32``. Pays on processors and GPUs with products of bfloat16.
    fold_in_steps, fold_in_learning_rate
        Of Adagrad, on a user's row. Few and large steps, because each one passes the tower with the whole history.

    Examples
    --------
    >>> ConvNCFConfig().kernels, ConvNCFConfig(variant="recbole").kernels
    ((2, 2, 2, 2, 2, 2), (4, 4, 2, 2))
    >>> ConvNCFConfig(embedding_size=16, geometry=[4, 4]).widths
    (32, 32)
    """

    elsewhere: ClassVar[Mapping[str, str]] = ELSEWHERE

    variant: Literal["authors", "recbole"] = "authors"
    embedding_size: int = Field(64, ge=2)
    geometry: Literal["auto"] | tuple[Size, ...] = "auto"
    channels: Size | tuple[Size, ...] = 32
    dropout: float = Field(0.0, ge=0, lt=1)
    penalty: Literal["squared", "norm"] = "squared"
    lambda1: float = Field(0.01, ge=0)
    gamma: float = Field(10.0, ge=0)
    lambda3: float = Field(1.0, ge=0)
    optimizer: Literal["adagrad", "adam"] = "adagrad"
    learning_rate: float = Field(0.05, gt=0)
    network_learning_rate: float | None = Field(None, gt=0)
    warmup_unregularised: bool = True
    init: Literal["small", "torch"] = "small"
    batch_size: int = Field(512, ge=1)
    dns: int = Field(1, ge=1)
    pretrain_epochs: int = Field(50, ge=0)
    pretrain_learning_rate: float = Field(0.05, gt=0)
    pretrain_regularisation: float = Field(0.01, ge=0)
    scoring: Literal["fp32", "bf16"] = "fp32"
    fold_in_steps: int = Field(5, ge=0)
    fold_in_learning_rate: float = Field(0.2, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _presets(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        moved = [f"{name} {where}" for name, where in ELSEWHERE.items() if name in values]
        if moved:
            raise ValueError("; ".join(moved))
        return fill(values, PRESETS, "authors")

    @model_validator(mode="after")
    def _fits(self) -> ConvNCFConfig:
        problems = list(_problems(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def kernels(self) -> tuple[int, ...]:
        """Side of every kernel."""
        if self.geometry != "auto":
            return self.geometry
        if self.variant == "recbole" and math.prod(RECBOLE_KERNELS) == self.embedding_size:
            return RECBOLE_KERNELS
        return fitting(self.embedding_size)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every layer."""
        return (self.channels,) * len(self.kernels) if isinstance(self.channels, int) else self.channels

    @property
    def label(self) -> str:
        """The variant, and whether its form was changed."""
        return label(self, FORM)


def _problems(c: ConvNCFConfig) -> Iterator[str]:
    """What does not go together, in words."""
    if c.geometry != "auto":
        product, written = math.prod(c.geometry), " x ".join(map(str, c.geometry)) or "nothing"
        if not c.geometry or product != c.embedding_size:
            fits = {fitting(c.embedding_size), fitting(c.embedding_size, max(1, len(c.geometry)))}
            yield (
                f"geometry {list(c.geometry)} does not bring a map of {c.embedding_size} x {c.embedding_size} down to 1 x 1: "
                f"each kernel divides its side, so their product must be embedding_size, {c.embedding_size}, and {written} is "
                f"{product if c.geometry else 'no layer'}; what fits is 'auto', or for example "
                + " or ".join(str(list(kernels)) for kernels in sorted(fits))
            )
        elif 1 in c.geometry:
            yield f"geometry {list(c.geometry)} has a kernel of 1, which leaves the map as it is; leave it out"
    if not isinstance(c.channels, int) and len(c.channels) != len(c.kernels):
        yield (
            f"channels has {len(c.channels)} numbers, but the tower has {len(c.kernels)} layers (kernels {list(c.kernels)}): "
            "give one number a layer (without the 1 of the map in front), or a single one for all"
        )
    if not c.pretrain_epochs:
        for key in ("pretrain_learning_rate", "pretrain_regularisation"):
            if getattr(c, key) != type(c).model_fields[key].default:
                yield f"{key} has no effect with pretrain_epochs: 0; leave it out"
