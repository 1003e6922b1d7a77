"""Popularity: every user gets the items with the most training events."""

from __future__ import annotations

import torch
from torch import Tensor

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import ModelConfig, Recommender


class PopularityConfig(ModelConfig):
    """Popularity has no hyper-parameters."""


class Popularity(Recommender):
    """Score = number of training events of the item, whoever asks."""

    name = "popularity"
    Config = PopularityConfig
    reference = "Number of training events of an item."
    trained_by = "counting"

    def __init__(self, config: PopularityConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.register_buffer("counts", torch.as_tensor(data.item_counts, dtype=torch.float32))
        self.counts: Tensor

    @property
    def size(self) -> int:
        """One count an item."""
        return self.n_items

    def fit(self) -> None:
        """Nothing to learn beyond the counts that the split holds."""

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        """See :meth:`Recommender.scores`."""
        counts = self.counts if items is None else self.counts[items]
        return counts.expand(len(histories), -1)
