"""GRU4RecF: one recurrent network reads the items of a history, another one reads their features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import InnerProduct, ModelConfig
from benchbed.models.gru4recf_config import GRU4RecFConfig
from benchbed.models.item_features import ItemFeatures, chosen_fields
from benchbed.models.losses import linear_cross_entropy, ranking_loss
from benchbed.models.negatives import uniform_except
from benchbed.models.newest_state import newest_states
from benchbed.models.optimizers import RowAdagrad
from benchbed.models.windows import SequenceBatch, SequenceBatches

FEW_ITEMS = 64
"""Up to so many items for each one that a loss asks for, the scores of all items cost less than gathering rows of the table."""


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
        return config.label

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
        """One over everything; what a batch does not train has no gradient, and stays as it is."""
        if self.config.optimizer == "adagrad":
            return [RowAdagrad(self.parameters(), lr=self.config.learning_rate)]
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

    def tables(self, counted: tuple[str, ...], trains: str | None = None) -> list[Tensor]:
        """(n_items + 1, ...) what the (projected) states are multiplied with, side by side."""
        if self.config.output == "shared":
            return [self.embedding.weight]
        return [self.outputs[name] if trains in (None, name) else self.outputs[name].detach() for name in counted]

    def _vectors(self, states: Tensor) -> Tensor:
        vectors: Tensor = self.project(states) if self.config.output == "shared" else states
        return vectors

    def loss(self, batch: SubnetBatch) -> Tensor:
        """Of the added scores, mean over the batch's targets; the gradient reaches the subnet that is trained."""
        sequences, config = batch.sequences, self.config
        states = self.states(sequences.inputs, batch.counted, batch.trains).flatten(0, 1)[sequences.places]
        vectors, tables = self._vectors(states), self.tables(batch.counted, batch.trains)
        if config.loss == "cross-entropy":
            first = 0 if config.padding_in_softmax else 1
            return linear_cross_entropy(vectors, _beside(tables)[first:], sequences.targets - first)
        drawn = uniform_except(sequences.targets, self.n_items, config.n_negatives)
        items = torch.cat([sequences.targets[:, None], drawn], 1)
        if self.n_items <= FEW_ITEMS * items.shape[1]:
            scores = (vectors @ _beside(tables).T).gather(1, items)
        else:
            scores = torch.einsum("nd,nmd->nm", vectors, _beside([F.embedding(items, table) for table in tables]))
        return ranking_loss(config.loss, scores[:, 0], scores[:, 1:], mean_over_negatives=True).mean()

    @property
    def warm_up_epochs(self) -> int:
        """Residual training without its features is another model, so patience waits for them."""
        return self.config.item_epochs

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
        return _beside(self.tables(self.counted))


_SUBNETS: Mapping[str, tuple[str, ...]] = {
    "parallel": ("item", "features"),
    "weighted_sum": ("item", "features"),
    "concatenated_input": ("both",),
    "features_only": ("features",),
}
"""Architecture -> its recurrent networks, in the order in which they are trained."""


def _beside(tables: list[Tensor]) -> Tensor:
    return tables[0] if len(tables) == 1 else torch.cat(tables, -1)
