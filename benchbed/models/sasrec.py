"""SASRec: causal self-attention over the newest events, a prediction at every position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import InnerProduct, ModelConfig
from benchbed.models.losses import linear_cross_entropy
from benchbed.models.variants import fill, label
from benchbed.models.windows import SequenceBatch, SequenceBatches

PRESETS: dict[str, dict[str, Any]] = {
    "authors": {"block": "authors", "loss": "binary"},
    "paper": {"block": "paper", "loss": "binary"},
    "full": {"block": "authors", "loss": "cross-entropy"},
}
"""What each variant decides."""

REDRAWS = 8
"""How often a negative that the window holds is drawn anew; one that still collides is left out of the loss."""


class SASRecConfig(ModelConfig):
    """Hyper-parameters of :class:`SASRec`.

    Attributes
    ----------
    variant
        ``authors``: the network of the authors' code. ``paper``: that of the article. ``full``: the authors' network with
        cross-entropy over all items. It decides the defaults of ``block`` and ``loss``.
    block
        ``authors``: queries come from the normalised input, keys and values from the input as it is, and what is added to the
        result is the normalised input; dropout of the attention's weights and inside the feed-forward part. ``paper``: all
        three come from the normalised input, the input as it is is added; dropout of the output of both parts.
    loss
        ``binary``: logistic loss of the target and of one item drawn from those that the window does not hold.
        ``cross-entropy``: over all items.
    embedding_size
        Width of the item table and of every layer.
    blocks
        Attention and feed-forward parts, one after the other.
    heads
        Of the attention; they divide ``embedding_size``.
    dropout
        Of the inputs, and in the blocks.
    window
        Newest events that are seen, each with a position vector of its own.
    learning_rate
        Of Adam, whose second decay is 0.98.
    batch_targets
        Targets of one update. The authors' 128 users of a sparse log hold about as many as the default.
    """

    variant: Literal["authors", "paper", "full"] = "authors"
    block: Literal["authors", "paper"] = "authors"
    loss: Literal["binary", "cross-entropy"] = "binary"
    embedding_size: int = Field(50, ge=1)
    blocks: int = Field(2, ge=1, le=8)
    heads: int = Field(1, ge=1)
    dropout: float = Field(0.5, ge=0, lt=1)
    window: int = Field(50, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    batch_targets: int = Field(1024, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        return fill(values, PRESETS, "authors")

    @model_validator(mode="after")
    def _divisible(self) -> SASRecConfig:
        if self.embedding_size % self.heads:
            raise ValueError(f"embedding_size ({self.embedding_size}) must be a multiple of heads ({self.heads})")
        return self


class SASRecBlock(nn.Module):
    """Causal self-attention and a feed-forward part, each with normalisation and a residual.

    Parameters
    ----------
    config
        ``block``, ``embedding_size``, ``heads`` and ``dropout`` count.
    """

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        width = config.embedding_size
        self.form, self.heads, self.dropout = config.block, config.heads, config.dropout
        self.before_attention = nn.LayerNorm(width, eps=1e-8)
        self.before_feed_forward = nn.LayerNorm(width, eps=1e-8)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, T, d) -> (B, T, d); place t sees the places up to t."""
        authors = self.form == "authors"
        normal = self.before_attention(inputs)
        attended = self._attend(normal, inputs if authors else normal)
        middle = normal + attended if authors else inputs + F.dropout(attended, self.dropout, self.training)
        normal = self.before_feed_forward(middle)
        hidden = F.relu(self.inner(normal))
        fed: Tensor = self.outer(F.dropout(hidden, self.dropout, self.training) if authors else hidden)
        return (normal if authors else middle) + F.dropout(fed, self.dropout, self.training)

    def _attend(self, queries: Tensor, sources: Tensor) -> Tensor:
        parts = (self.query(queries), self.key(sources), self.value(sources))
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        dropout = self.dropout if self.training and self.form == "authors" else 0.0
        # Rows are padded on the right: what a place may see by causality is never padding.
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        return attended.transpose(1, 2).flatten(2)


class SASRec(InnerProduct):
    """Item and position vectors -> dropout -> blocks -> normalisation; scores are inner products with the item table.

    Positions count from the newest event of a window back, so that the newest always has the last vector, as where rows are
    padded on the left. What differs from the authors' code: an epoch holds every training target once, in windows of
    ``window`` events from the newest back (theirs draws users with replacement and sees their newest window only), and a
    negative is any item outside the window (theirs: outside the user's training events).

    References
    ----------
    Kang and McAuley, Self-attentive sequential recommendation, ICDM 2018, and its code; cross-entropy over all items:
    Klenitskiy and Vasilev, RecSys 2023.
    """

    name = "sasrec"
    Config = SASRecConfig
    reference = "Kang and McAuley (ICDM 2018); cross-entropy over all items: Klenitskiy and Vasilev (RecSys 2023)."
    needs = frozenset({"sequences"})

    def __init__(self, config: SASRecConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        self.embedding = nn.Embedding(data.n_items + 1, config.embedding_size, padding_idx=0)
        self.positions = nn.Embedding(config.window, config.embedding_size)
        self.blocks = nn.Sequential(*(SASRecBlock(config) for _ in range(config.blocks)))
        self.normal = nn.LayerNorm(config.embedding_size, eps=1e-8)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        with torch.no_grad():
            self.embedding.weight[0] = 0.0
        self._batches: SequenceBatches | None = None

    @classmethod
    def variant(cls, config: ModelConfig) -> str:
        """The preset, or what was changed of it."""
        return label(config, ("block", "loss"))

    def bind(self, data: TrainingData, device: str | torch.device) -> None:
        """See :meth:`Recommender.bind`."""
        super().bind(data, device)
        self._batches = SequenceBatches(
            data.train.items,
            window=self.config.window,
            burn_in=0,
            batch_targets=self.config.batch_targets,
            prefixes=False,
            device=device,
        )

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam over everything."""
        return [torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, betas=(0.9, 0.98), fused=True)]

    def batches(self, generator: torch.Generator) -> Iterator[SequenceBatch]:
        """See :meth:`Recommender.batches`."""
        assert self._batches is not None, "bind() comes first"
        return self._batches(generator)

    def states(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) items, padded with 0 on the right, and (B,) lengths -> (B, T, d) states after each of them."""
        place = self.config.window - lengths[:, None] + torch.arange(inputs.shape[1], device=inputs.device)
        places = self.positions(place.clamp(max=self.config.window - 1))
        given = self.embedding(inputs) * self.config.embedding_size**0.5 + places
        states: Tensor = self.normal(self.blocks(F.dropout(given, self.config.dropout, self.training)))
        return states

    def negatives(self, batch: SequenceBatch) -> Tensor:
        """(n_targets,) an item for each target, uniform over those outside its window; 0 where no draw fell outside."""
        width = batch.inputs.shape[1]
        rows = batch.places // width
        newest = batch.targets[batch.places == rows * width + batch.lengths[rows] - 1]  # one a row, in the order of the rows
        held = torch.cat([batch.inputs, newest[:, None]], 1)[rows]
        drawn = torch.zeros_like(batch.targets)
        for _ in range(REDRAWS):
            fresh = torch.randint(1, self.n_items + 1, drawn.shape, device=drawn.device)
            fresh = torch.where((held == fresh[:, None]).any(1), 0, fresh)
            drawn = torch.where(drawn == 0, fresh, drawn)
        return drawn

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Binary or full cross-entropy at every position, mean over the batch's targets."""
        states = self.states(batch.inputs, batch.lengths).flatten(0, 1)[batch.places]
        if self.config.loss == "cross-entropy":
            return linear_cross_entropy(states, self.embedding.weight[1:], batch.targets - 1)
        negatives = self.negatives(batch)
        right = (states * self.embedding(batch.targets)).sum(1)
        wrong = (states * self.embedding(negatives)).sum(1)
        return (F.softplus(-right) + F.softplus(wrong) * (negatives > 0)).mean()

    def user_vectors(self, histories: Histories) -> Tensor:
        """The state after the newest event; zero where there is none."""
        inputs, lengths = histories.known().last(self.config.window)
        states = self.states(inputs, lengths)[torch.arange(len(inputs), device=inputs.device), (lengths - 1).clamp(min=0)]
        return states * (lengths > 0)[:, None]

    def item_vectors(self) -> Tensor:
        """The item table."""
        return self.embedding.weight
