"""GRU4RecF: one recurrent network reads the items of a history, another one reads their features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import InnerProduct, ModelConfig
from benchbed.models.item_features import ItemFeatures, Pooling, chosen_fields
from benchbed.models.losses import linear_cross_entropy
from benchbed.models.newest_state import newest_states
from benchbed.models.variants import fill, label
from benchbed.models.windows import SequenceBatch, SequenceBatches

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "recbole": {"output": "shared"},
    "paper": {"output": "own"},
}
"""Variant -> the keys whose defaults it decides."""

FORM = ("output",)
"""Keys that make another model of a variant; what the label says by itself is not among them."""


class GRU4RecFConfig(ModelConfig):
    """Hyper-parameters of :class:`GRU4RecF`.

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
        Epochs of the item subnet, ``residual`` only; the feature subnet has the rest of the run.
    embedding_size, hidden_size, layers
        Width of the item table and of each feature field; width of each recurrent state; layers of each GRU.
    dropout_embed, dropout_features, dropout_hidden
        Of the item embeddings, of the pooled features, and of the states of each GRU layer.
    learning_rate
        Of Adam.
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
    embedding_size: int = Field(64, ge=1)
    hidden_size: int = Field(128, ge=1)
    layers: int = Field(1, ge=1, le=4)
    dropout_embed: float = Field(0.3, ge=0, lt=1)
    dropout_features: float = Field(0.0, ge=0, lt=1)
    dropout_hidden: float = Field(0.0, ge=0, lt=1)
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
                filled.setdefault("item_epochs", 10)
            if filled.get("batching") == "prefixes":
                filled.setdefault("burn_in", 0)
        return filled

    @model_validator(mode="after")
    def _fits(self) -> GRU4RecFConfig:
        problems = list(_problems(self))
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _problems(c: GRU4RecFConfig) -> Iterator[str]:
    """What does not go together, in words."""
    if isinstance(c.features, tuple) and (not c.features or len(set(c.features)) < len(c.features)):
        yield "features must name at least one field, and none twice"
    dead = [
        ("item_epochs", 0, c.training_mode != "residual", "it goes with training_mode residual"),
        ("burn_in", 0, c.batching == "prefixes", "prefixes have no burn-in"),
        ("shuffle_seed", 0, not c.shuffle_features, "it goes with shuffle_features: true"),
        ("padding_in_softmax", False, c.output == "own", "it copies RecBole's network, which has output: shared"),
    ]
    for key, neutral, condition, why in dead:
        if condition and getattr(c, key) != neutral:
            yield f"{key} has no effect here and must be {str(neutral).lower()} ({why})"
    if c.training_mode == "residual" and not c.item_epochs:
        yield "item_epochs must be at least 1 with training_mode residual"
    if c.training_mode != "simultaneous" and (c.output == "shared" or c.architecture not in ("parallel", "weighted_sum")):
        yield (
            f"training_mode {c.training_mode} trains one subnet at a time, so that each needs an output of its own: "
            "take variant: paper (output: own) with architecture: parallel or weighted_sum"
        )
    if c.architecture == "features_only" and c.output == "shared":
        yield "architecture features_only has no item table to score with; it needs output: own"


@dataclass(frozen=True)
class SubnetBatch:
    """A batch and who takes part in it.

    Attributes
    ----------
    sequences
        The batch itself.
    trains
        The subnet that learns, the others being frozen; None for all.
    counted
        The subnets whose scores are added.
    n_targets
        Its targets; 0 where the same batch is still to come for another subnet.
    """

    sequences: SequenceBatch
    trains: str | None
    counted: tuple[str, ...]
    n_targets: int


class GRU4RecF(InnerProduct):
    """Parallel recurrent networks over the items of a history and over their features.

    Features are read of the history only, never of the item that is scored, so that the scores of all items are one product
    of a user vector (the states of the subnets, projected if ``output: shared``) and an item table.

    A history is encoded from its newest ``window + burn_in`` events (``prefixes``: ``window``). The scores of an empty history
    are all 0. With ``residual`` the feature subnet counts from the first epoch that trains it.

    References
    ----------
    Hidasi et al., RecSys 2016 (parallel networks and their training); RecBole's network is the ``recbole`` variant.
    """

    name = "gru4recf"
    Config = GRU4RecFConfig
    reference = "Hidasi et al. (RecSys 2016); network as in RecBole, or with an output of each subnet as in the paper."
    needs = frozenset({"sequences", "item_features"})
    epochs_begun: Tensor

    def __init__(self, config: GRU4RecFConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        size, hidden = config.embedding_size, config.hidden_size
        fields = chosen_fields(data, config.features, self.name)
        shuffle_seed = config.shuffle_seed if config.shuffle_features else None
        self.features = ItemFeatures(data, fields, size, config.pooling, shuffle_seed)
        if config.architecture != "features_only":
            self.embedding = nn.Embedding(data.n_items + 1, size, padding_idx=0)
            nn.init.xavier_normal_(self.embedding.weight)
            with torch.no_grad():
                self.embedding.weight[0] = 0.0
        widths = {"item": size, "features": self.features.width, "both": size + self.features.width}
        self.subnets = nn.ModuleDict()
        for name in _SUBNETS[config.architecture]:
            dropout = config.dropout_hidden if config.layers > 1 else 0.0
            self.subnets[name] = nn.GRU(widths[name], hidden, config.layers, bias=False, batch_first=True, dropout=dropout)
        if config.architecture == "weighted_sum":
            self.weights = nn.ParameterDict({name: nn.Parameter(torch.ones(())) for name in self.subnets})
        if config.output == "shared":
            self.project = nn.Linear(hidden * len(self.subnets), size)
            nn.init.xavier_normal_(self.project.weight)
            nn.init.zeros_(self.project.bias)
        else:
            self.outputs = nn.ParameterDict({name: torch.empty(data.n_items + 1, hidden) for name in self.subnets})
            for table in self.outputs.values():
                nn.init.xavier_normal_(table)
                with torch.no_grad():
                    table[0] = 0.0
        self.register_buffer("epochs_begun", torch.zeros((), dtype=torch.int64))
        self._batches: SequenceBatches | None = None

    @classmethod
    def variant(cls, config: ModelConfig) -> str:
        """The preset, whether it was changed, and what else makes it another model."""
        assert isinstance(config, GRU4RecFConfig)
        peers = config.batching == "prefixes" and config.padding_in_softmax
        said = [
            config.architecture if config.architecture != "parallel" else "",
            config.training_mode if config.training_mode != "simultaneous" else "",
            "" if peers else config.batching,
            "padding in softmax" if config.padding_in_softmax and not peers else "",
            "features shuffled" if config.shuffle_features else "",
        ]
        return ", ".join([label(config, FORM), *(part.replace("_", " ") for part in said if part)])

    def bind(self, data: TrainingData, device: str | torch.device) -> None:
        """See :meth:`Recommender.bind`."""
        super().bind(data, device)
        self._batches = SequenceBatches(
            data.train.items,
            window=self.config.window,
            burn_in=self.config.burn_in,
            batch_targets=self.config.batch_targets,
            prefixes=self.config.batching == "prefixes",
            device=device,
        )

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam over everything; what a batch does not train has no gradient, and stays as it is."""
        return [torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)]

    def batches(self, generator: torch.Generator) -> Iterator[SubnetBatch]:
        """See :meth:`Recommender.batches`; one that trains the subnets in turn comes once for each of them."""
        assert self._batches is not None, "bind() comes first"
        steps = self._steps(int(self.epochs_begun))
        self.epochs_begun += 1
        for batch in self._batches(generator):
            for trains, counted in steps:
                last = (trains, counted) == steps[-1]
                yield SubnetBatch(batch, trains, counted, batch.n_targets if last else 0)

    def _steps(self, epoch: int) -> list[tuple[str | None, tuple[str, ...]]]:
        """What is done with each batch of an epoch (from 0): which subnet learns, and whose scores are added."""
        mode, everyone = self.config.training_mode, tuple(self.subnets)
        if mode == "alternating":
            return [(everyone[epoch % 2], everyone)]
        first, second = ("item", ("item",)), ("features", everyone)
        if mode == "residual":
            return [first if epoch < self.config.item_epochs else second]
        return [first, second] if mode == "interleaving" else [(None, everyone)]

    @property
    def counted(self) -> tuple[str, ...]:
        """The subnets whose scores are added outside of training: those that were trained."""
        if self.config.training_mode == "residual" and int(self.epochs_begun) <= self.config.item_epochs:
            return ("item",)
        return tuple(self.subnets)

    def states(self, inputs: Tensor, counted: tuple[str, ...], trains: str | None = None) -> Tensor:
        """(B, T) items -> (B, T, hidden of the counted subnets, side by side), times their weights if they have some.

        A frozen subnet gives what it gives in evaluation: no gradient, no dropout.
        """
        parts = []
        for name in counted:
            learns = trains in (None, name)
            with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
                parts.append(self._states(name, inputs, self.training and learns) * self._weight(name))
        return torch.cat(parts, -1)

    def _states(self, name: str, inputs: Tensor, training: bool) -> Tensor:
        output: Tensor = self._gru(name, training)(self._inputs(name, inputs, training))[0]
        return F.dropout(output, self.config.dropout_hidden, training)

    def _inputs(self, name: str, items: Tensor, training: bool) -> Tensor:
        """(...) items -> (..., d) what a subnet reads of them."""
        config, parts = self.config, []
        if name != "features":
            parts.append(F.dropout(self.embedding(items), config.dropout_embed, training))
        if name != "item":
            parts.append(F.dropout(self.features(items), config.dropout_features, training))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def _gru(self, name: str, training: bool) -> nn.GRU:
        gru = self.subnets[name].train(training)
        assert isinstance(gru, nn.GRU)
        return gru

    def _weight(self, name: str) -> Tensor | float:
        return self.weights[name] if self.config.architecture == "weighted_sum" else 1.0

    def table(self, counted: tuple[str, ...], trains: str | None = None) -> Tensor:
        """(n_items + 1, d) what the (projected) states are multiplied with."""
        if self.config.output == "shared":
            return self.embedding.weight
        return torch.cat([self.outputs[name] if trains in (None, name) else self.outputs[name].detach() for name in counted], 1)

    def _vectors(self, states: Tensor) -> Tensor:
        vectors: Tensor = self.project(states) if self.config.output == "shared" else states
        return vectors

    def loss(self, batch: SubnetBatch) -> Tensor:
        """Of the added scores, mean over the batch's targets; the gradient reaches the subnet that is trained."""
        sequences = batch.sequences
        states = self.states(sequences.inputs, batch.counted, batch.trains).flatten(0, 1)[sequences.places]
        table = self.table(batch.counted, batch.trains)
        if self.config.padding_in_softmax:
            return linear_cross_entropy(self._vectors(states), table, sequences.targets)
        return linear_cross_entropy(self._vectors(states), table[1:], sequences.targets - 1)

    def user_vectors(self, histories: Histories) -> Tensor:
        """The states after the newest event; zero where there is none."""
        inputs, lengths = histories.known().last(self.config.window + self.config.burn_in)
        items, index = torch.arange(self.n_items + 1, device=inputs.device), inputs
        if inputs.numel() <= self.n_items:
            items, index = torch.unique(inputs, return_inverse=True)
        parts = [
            newest_states(self._gru(name, False), self._inputs(name, items, False), index, lengths) * self._weight(name)
            for name in self.counted
        ]
        return self._vectors(torch.cat(parts, 1)) * (lengths > 0)[:, None]

    def item_vectors(self) -> Tensor:
        """The item table, or the output matrices of the subnets side by side."""
        return self.table(self.counted)


_SUBNETS: Mapping[str, tuple[str, ...]] = {
    "parallel": ("item", "features"),
    "weighted_sum": ("item", "features"),
    "concatenated_input": ("both",),
    "features_only": ("features",),
}
"""Architecture -> its recurrent networks, in the order in which they are trained."""
