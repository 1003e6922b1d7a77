"""Hyper-parameters of MKR, the forms of it that are known by a name, and what does not go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from benchbed.models.fold_in import FoldInConfig
from benchbed.models.variants import fill

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "authors": {
        "kge_form": "tail",
        "kge_negatives": 0,
        "kge_rate": 0.2,
        "heads": "items",
        "unit_biases": "vectors",
        "activation": "relu",
        "penalty": "weights",
        "initial": "uniform",
    },
    "paper": {
        "kge_form": "relation",
        "kge_negatives": 1,
        "kge_rate": 0.2,
        "heads": "items",
        "unit_biases": "vectors",
        "activation": "relu",
        "penalty": "weights",
        "initial": "uniform",
    },
    "recbole": {
        "kge_form": "tail",
        "kge_negatives": 0,
        "kge_rate": None,
        "heads": "entities",
        "unit_biases": "scalars",
        "activation": "sigmoid",
        "penalty": "vectors",
        "initial": "normal",
    },
}
"""Variant -> the keys whose defaults it decides."""

WITHOUT_GRAPH: Mapping[str, Any] = {
    "kge_form": "tail",
    "kge_negatives": 0,
    "kge_rate": None,
    "heads": "items",
    "shuffle_tails": False,
}
"""What keys of the graph must be where it is never learnt from."""

ELSEWHERE: Mapping[str, str] = {
    "kg_embedding_size": "has no effect in RecBole, where it is read and not used; all tables have embedding_size columns here",
    "low_layers_num": "is low_layers here",
    "high_layers_num": "is high_layers here",
    "reg_weight": "is l2 here",
    "l2_weight": "is l2 here",
    "use_inner_product": "is output here: inner_product or mlp (mlp_sigmoid is RecBole's)",
    "dropout_prob": "is dropout here",
    "kge_learning_rate": "is kge_rate here, a multiple of learning_rate",
    "lr_kge": "is kge_rate here, a multiple of learning_rate",
    "lr_rs": "is learning_rate here",
}
"""Names of other code for what has another name here."""


class MKRConfig(FoldInConfig):
    """Hyper-parameters of :class:`benchbed.models.mkr.MKR`.

    Attributes
    ----------
    variant
        ``authors``: the authors' code. ``paper``: the article, whose graph loss contrasts true triples with corrupted ones.
        ``recbole``: RecBole's network. It decides the defaults of the keys from ``kge_form`` to ``initial``.
    embedding_size
        Width of all tables.
    low_layers
        Cross-and-compress units, and layers of the user's (and the tail's or relation's) network.
    high_layers
        Layers behind head and relation, and with ``output: mlp`` behind user and item; the last gives the prediction.
    output
        Score of user and item: their ``inner_product``, or an ``mlp``, whose last layer is linear. ``mlp_sigmoid``: RecBole's
        mlp, with a sigmoid behind the last layer too; what lies between 0 and 1 is then taken for a logit.
    learning_rate
        Of Adam in steps of recommendation.
    kge_interval
        In epochs 0, k, 2k, ... all triples are learnt after the recommendations; 0: never, and the graph is not read.
    kge_form
        ``tail``: the tail passes the low layers, and the prediction's last layer has an activation under the sigmoid.
        ``relation``: the relation passes them, the tail does not, and the prediction is the sigmoid of a linear layer.
    kge_negatives
        Corrupted tails of each triple, uniform over all other entities; their mean score is taken from that of the true one.
    kge_rate
        Learning rate of the graph's own Adam, as a multiple of ``learning_rate``; null: one Adam for both.
    heads
        Whether triples need an ``items`` head; ``entities``: any, and the item table has a row for every entity.
    unit_biases
        Biases of a unit: ``vectors``, two of them, or ``scalars``, four.
    activation
        Of all layers.
    penalty
        What is penalised: transformed vectors of the batch and ``weights``, or the ``vectors`` alone. Never biases.
    initial
        First values, by Glorot and Bengio: ``uniform`` or ``normal``. Biases begin with 0.
    l2
        Weight of the penalty; half of the sum of squares, over the batch, not its mean.
    batch_size
        Labelled pairs, or triples, of one update.
    negatives
        ``drawn``: one item a positive, anew each epoch, uniform over what the user has not met in training. ``given``: those
        that a click-through split has listed.
    dropout
        Before each layer.
    shuffle_tails
        Control: triples of one relation exchange their tails, the same in every run.
    fold_in_steps, fold_in_learning_rate
        See :class:`benchbed.models.fold_in.FoldInConfig`.
    """

    elsewhere: ClassVar[Mapping[str, str]] = ELSEWHERE

    variant: Literal["authors", "paper", "recbole"] = "authors"
    embedding_size: int = Field(8, ge=1)
    low_layers: int = Field(1, ge=1, le=4)
    high_layers: int = Field(1, ge=1, le=4)
    output: Literal["inner_product", "mlp", "mlp_sigmoid"] = "inner_product"
    learning_rate: float = Field(1e-3, gt=0)
    kge_interval: int = Field(3, ge=0)
    kge_form: Literal["tail", "relation"] = "tail"
    kge_negatives: int = Field(0, ge=0)
    kge_rate: float | None = Field(0.2, gt=0)
    heads: Literal["items", "entities"] = "items"
    unit_biases: Literal["vectors", "scalars"] = "vectors"
    activation: Literal["relu", "leaky_relu", "sigmoid"] = "relu"
    penalty: Literal["weights", "vectors"] = "weights"
    initial: Literal["uniform", "normal"] = "uniform"
    l2: float = Field(1e-6, ge=0)
    batch_size: int = Field(256, ge=2)
    negatives: Literal["drawn", "given"] = "drawn"
    dropout: float = Field(0.0, ge=0, lt=1)
    shuffle_tails: bool = False

    @model_validator(mode="before")
    @classmethod
    def _presets(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("kge_interval") == 0:
            values = {**WITHOUT_GRAPH, **values}
        return fill(values, PRESETS, "authors")

    @model_validator(mode="after")
    def _fits(self) -> MKRConfig:
        problems = list(_problems(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def label(self) -> str:
        """The variant, whether its form was changed, and what else makes it another model."""
        preset = {**PRESETS[self.variant], **(WITHOUT_GRAPH if self.kge_interval == 0 else {})}
        said = [
            self.variant,
            "changed" if any(getattr(self, key) != value for key, value in preset.items() if key not in _TUNED) else "",
            "one Adam" if self.kge_interval and self.kge_rate is None and preset["kge_rate"] is not None else "",
            f"{self.output.replace('_', ' ')} output" if self.output != "inner_product" else "",
            "no graph steps" if self.kge_interval == 0 else "",
            "tails shuffled" if self.shuffle_tails else "",
            "listed negatives" if self.negatives == "given" else "",
        ]
        return ", ".join(part for part in said if part)


_TUNED = {"kge_rate", "shuffle_tails"}


def _problems(c: MKRConfig) -> Iterator[str]:
    """What does not go together, in words."""
    if c.output == "mlp_sigmoid" and c.activation != "sigmoid":
        yield "output: mlp_sigmoid is RecBole's mlp, where every layer ends in a sigmoid: it needs activation: sigmoid"
    if c.kge_interval == 0:
        for key, neutral in WITHOUT_GRAPH.items():
            if getattr(c, key) != neutral:
                said = "null" if neutral is None else str(neutral).lower()
                yield f"{key} has no effect without steps on the graph (kge_interval: 0) and must be {said}"
        if c.variant == "paper":
            yield "variant paper is another graph loss, which kge_interval 0 takes away: that model is variant authors"
        if c.output == "inner_product" and c.high_layers > 1:
            yield "high_layers must be 1 where nothing passes through them: with kge_interval 0 and output inner_product"
