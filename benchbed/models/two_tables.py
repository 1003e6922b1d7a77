"""What MF-BPR and ConvNCF share: a table of users, a table of items, triples to learn from, and optimisers that take turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import TrainingData
from benchbed.models.fold_in import FoldIn
from benchbed.models.optimizers import RowAdagrad
from benchbed.models.pairwise import TripleBatches, Triples, bpr

ACCUMULATOR = 0.1
"""What TensorFlow's Adagrad starts its sum of squares with: inside the root, as :class:`RowAdagrad` adds its epsilon."""


class _InTurn(torch.optim.Optimizer):
    """Steps only while its turn lasts."""

    turn: Callable[[], bool]

    def step(self, closure: Any = None) -> Any:
        """A step, or nothing."""
        return super().step(closure) if self.turn() else None


class AdagradInTurn(_InTurn, RowAdagrad):
    """TensorFlow's Adagrad (sum of squares from 0.1, nothing added outside the root), stepping only while its turn lasts.

    Parameters
    ----------
    params
        As any optimiser takes them.
    lr
        Learning rate.
    turn
        Whether it is this optimiser's turn; always, by default.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, turn: Callable[[], bool] = lambda: True) -> None:
        super().__init__(list(params), lr=lr, eps=ACCUMULATOR)
        self.turn = turn


class AdamInTurn(_InTurn, torch.optim.Adam):
    """Adam, stepping only while its turn lasts; see :class:`AdagradInTurn`."""

    def __init__(self, groups: Any, turn: Callable[[], bool] = lambda: True) -> None:
        super().__init__(groups, fused=True)
        self.turn = turn


class TwoTables(FoldIn):
    """User and item vectors that learn from triples.

    Parameters
    ----------
    config, data
        As of every model with fold-in; the config has ``embedding_size``.
    std
        Of the initial vectors: a normal distribution cut at two standard deviations, or not cut where it is 1.
    """

    def __init__(self, config: Any, data: TrainingData, *, std: float = 0.01) -> None:
        super().__init__(config, data)
        self.user_embedding = nn.Embedding(self.n_users, config.embedding_size)
        self.item_embedding = nn.Embedding(data.n_items + 1, config.embedding_size)
        for table in (self.user_embedding.weight, self.item_embedding.weight):
            if std == 1.0:
                nn.init.normal_(table)
            else:
                nn.init.trunc_normal_(table, std=std, a=-2 * std, b=2 * std)
        with torch.no_grad():
            self.item_embedding.weight[0] = 0.0
        self._triples: TripleBatches | None = None

    @property
    def user_table(self) -> Tensor:
        """See :class:`FoldIn`."""
        return self.user_embedding.weight

    def bind(self, data: TrainingData, device: str | torch.device) -> None:
        """See :meth:`Recommender.bind`."""
        super().bind(data, device)
        self._triples = TripleBatches(data.train.items, data.n_items, device)

    @property
    def triples(self) -> TripleBatches:
        """What an epoch is made of."""
        assert self._triples is not None, "bind() comes first"
        return self._triples

    def vectors(self, batch: Triples, *, sparse: bool) -> tuple[Tensor, Tensor, Tensor]:
        """(n, d) vectors of the users, positives and (first) negatives of a batch.

        With ``sparse``, tables get a gradient in the rows of the batch alone.
        """
        users = F.embedding(batch.users, self.user_embedding.weight, sparse=sparse)
        both = F.embedding(torch.cat([batch.positives, batch.negatives[:, 0]]), self.item_embedding.weight, sparse=sparse)
        positives, negatives = both.chunk(2)
        return users, positives, negatives

    def inner_product_objective(self, batch: Triples, regularisation: float) -> Tensor:
        """MF-BPR's sum over a batch: s = p . q, and a squared penalty on the batch's vectors, once each time they occur."""
        users, positives, negatives = vectors = self.vectors(batch, sparse=True)
        total = bpr((users * positives).sum(1), (users * negatives).sum(1))
        return total + regularisation * squares(vectors)

    def fold_in_optimizer(self, rows: Tensor) -> torch.optim.Optimizer:
        """Adagrad, as in training."""
        return AdagradInTurn([rows], lr=self.fold_in_learning_rate)


def squares(tensors: Iterable[Tensor]) -> Tensor:
    """Sum of the squares of all numbers."""
    return torch.stack([tensor.square().sum() for tensor in tensors]).sum()
