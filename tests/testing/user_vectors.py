"""A healthy model with user vectors, as small as can be, and broken ones, each in its own way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.fold_in import FoldIn, FoldInConfig


class VectorsConfig(FoldInConfig):
    fold_in_steps: int = Field(3, ge=0)
    size: int = Field(5, ge=1)
    learning_rate: float = Field(0.05, gt=0)
    batch_size: int = Field(40, ge=1)


@dataclass(frozen=True)
class Ratings:
    rows: Tensor
    items: Tensor

    @property
    def n_targets(self) -> int:
        return len(self.items)


class Vectors(FoldIn):
    """score(u, j) = p_u . q_j; each event and one random item beside it, labelled 1 and 0."""

    name, reference, Config = "vectors", "Made up for these tests.", VectorsConfig

    def __init__(self, config: Any, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        self.users, self.offered = nn.Embedding(self.n_users, config.size), nn.Embedding(data.n_items + 1, config.size)

    def bind(self, data: TrainingData, device: str | torch.device) -> None:
        super().bind(data, device)
        self.events = torch.as_tensor(data.train.items.row_of_value), torch.as_tensor(data.train.items.values)

    @property
    def user_table(self) -> Tensor:
        return self.users.weight

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(self.parameters(), lr=self.config.learning_rate)]

    def batches(self, generator: torch.Generator) -> Iterator[Ratings]:
        for chosen in torch.randperm(len(self.events[0]), generator=generator).split(self.config.batch_size):
            yield Ratings(self.events[0][chosen], self.events[1][chosen])

    def loss(self, batch: Ratings) -> Tensor:
        negatives = torch.randint(1, self.n_items + 1, batch.items.shape)
        return self.fold_in_loss(self.users.weight, batch.rows, batch.items, negatives, None) / batch.n_targets

    def fold_in_loss(self, rows: Tensor, owner: Tensor, positives: Tensor, negatives: Tensor, side: None) -> Tensor:
        met, unmet = ((rows[owner] * self.offered(items)).sum(1) for items in (positives, negatives))
        return F.softplus(-met).sum() + F.softplus(unmet).sum()

    def row_scores(self, rows: Tensor, items: Tensor | None, side: None) -> Tensor:
        return rows @ (self.offered.weight if items is None else self.offered.weight[items]).T


class NeverFoldedIn(Vectors):
    def fold_in(self, histories: Histories, *, trained: bool = True) -> Tensor:
        return self.start_rows(histories.users, trained=trained)[0]


class KeyedByNumber(Vectors):
    def _keys(self, users: Tensor) -> Tensor:
        return users


class AnythingForTheEmpty(Vectors):
    def start_rows(self, users: Tensor, *, trained: bool = True) -> tuple[Tensor, Tensor]:
        rows, known = super().start_rows(users, trained=trained)
        return rows + users[:, None] * ~known[:, None], known


class TrainsItemsInFoldIn(Vectors):
    def fold_in_loss(self, rows: Tensor, owner: Tensor, positives: Tensor, negatives: Tensor, side: None) -> Tensor:
        if rows.shape != self.users.weight.shape:
            self.offered.weight.data[negatives] *= 0.99
        return super().fold_in_loss(rows, owner, positives, negatives, side)


class DrawsInFoldIn(Vectors):
    def fold_in(self, histories: Histories, *, trained: bool = True) -> Tensor:
        torch.rand(1)
        return super().fold_in(histories, trained=trained)


class NegativesOfTheBatch(Vectors):
    def fold_in_loss(self, rows: Tensor, owner: Tensor, positives: Tensor, negatives: Tensor, side: None) -> Tensor:
        return super().fold_in_loss(rows, owner, positives, positives.roll(1), side)
