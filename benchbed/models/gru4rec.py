"""GRU4Rec with cross-entropy over all items and the loss at every position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import InnerProduct, ModelConfig
from benchbed.models.losses import linear_cross_entropy
from benchbed.models.windows import SequenceBatch, SequenceBatches


class GRU4RecConfig(ModelConfig):
    """Hyper-parameters of :class:`GRU4Rec`.

    Attributes
    ----------
    embedding_size, hidden_size, layers
        Widths of the item table and of the recurrent state; number of GRU layers.
    dropout
        Of the item embeddings that enter the GRU, and between its layers.
    learning_rate
        Of Adam.
    batching
        ``windows`` encodes each event once and takes the loss at every position; ``prefixes`` makes a sample of every prefix.
    batch_targets
        Targets of one update.
    window
        Positions with a loss in one window; with ``prefixes`` the longest prefix.
    burn_in
        Events before a window that are encoded without loss (``windows`` only).
    """

    embedding_size: int = Field(64, ge=1)
    hidden_size: int = Field(128, ge=1)
    layers: int = Field(1, ge=1, le=4)
    dropout: float = Field(0.3, ge=0, lt=1)
    learning_rate: float = Field(1e-3, gt=0)
    batching: Literal["windows", "prefixes"] = "windows"
    batch_targets: int = Field(2048, ge=1)
    window: int = Field(50, ge=1)
    burn_in: int = Field(25, ge=0)


class GRU4Rec(InnerProduct):
    """Item embedding -> dropout -> GRU -> linear -> inner product with the item table; full cross-entropy, padding left out.

    The network is that of Tan et al. as RecBole writes it (GRU without bias, projection back to the item table, Xavier
    initialisation); the batching is benchbed's. A history is encoded from its newest ``window + burn_in`` events
    (``prefixes``: ``window``), which is the longest input that training shows.

    References
    ----------
    Hidasi et al., ICLR 2016; Tan, Xu and Liu, DLRS 2016 (item table shared by input and output, prefixes).
    """

    name = "gru4rec"
    Config = GRU4RecConfig
    reference = "Hidasi et al. (ICLR 2016), network of Tan et al. (DLRS 2016)."
    needs = frozenset({"sequences"})

    def __init__(self, config: GRU4RecConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        self.embedding = nn.Embedding(data.n_items + 1, config.embedding_size, padding_idx=0)
        self.gru = nn.GRU(
            config.embedding_size,
            config.hidden_size,
            num_layers=config.layers,
            bias=False,
            batch_first=True,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.project = nn.Linear(config.hidden_size, config.embedding_size)
        nn.init.xavier_normal_(self.embedding.weight)
        for weight in self.gru.parameters():
            nn.init.xavier_uniform_(weight)
        with torch.no_grad():
            self.embedding.weight[0] = 0.0
        self._batches: SequenceBatches | None = None

    @classmethod
    def variant(cls, config: ModelConfig) -> str:
        """The batching, which decides what an update sees."""
        assert isinstance(config, GRU4RecConfig)
        return config.batching

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
        """Adam over everything."""
        return [torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, fused=True)]

    def batches(self, generator: torch.Generator) -> Iterator[SequenceBatch]:
        """See :meth:`Recommender.batches`."""
        assert self._batches is not None, "bind() comes first"
        return self._batches(generator)

    def states(self, inputs: Tensor) -> Tensor:
        """(B, T) items -> (B, T, hidden) states after each of them."""
        embedded = F.dropout(self.embedding(inputs), self.config.dropout, self.training)
        output: Tensor = self.gru(embedded)[0]
        return output

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Cross-entropy over all items, mean over the batch's targets."""
        states = self.states(batch.inputs).flatten(0, 1)[batch.places]
        return linear_cross_entropy(self.project(states), self.embedding.weight[1:], batch.targets - 1)

    def user_vectors(self, histories: Histories) -> Tensor:
        """The projected state after the newest event; zero where there is none."""
        config = self.config
        longest = config.window if config.batching == "prefixes" else config.window + config.burn_in
        inputs, lengths = histories.known().last(longest)
        states = self.states(inputs)[torch.arange(len(inputs), device=inputs.device), (lengths - 1).clamp(min=0)]
        vectors: Tensor = self.project(states) * (lengths > 0)[:, None]
        return vectors

    def item_vectors(self) -> Tensor:
        """The item table."""
        return self.embedding.weight
