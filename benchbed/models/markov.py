"""Markov: what followed the newest items in the training sequences."""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy import sparse
from torch import Tensor

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import ModelConfig, Recommender
from benchbed.models.sparse import dense


class MarkovConfig(ModelConfig):
    """Hyper-parameters of :class:`Markov`.

    Attributes
    ----------
    order
        Number of newest items that vote: 1 is the first-order chain, 3 the mix of the last three.
    decay
        Weight of each step further back, relative to the one before it. Matters from order 2 on.
    """

    order: int = Field(1, ge=1, le=10)
    decay: float = Field(0.8, gt=0, le=1)


class Markov(Recommender):
    """Mixture of transitions at lags 1 to ``order``.

    score(j) = sum over m of decay^(m-1) * n_m(i_m, j) / n_m(i_m, .), where i_m is the item m steps back and n_m(i, j) counts
    how often j came exactly m events after i in the training sequences.

    References
    ----------
    Raftery (1985), A model for high-order Markov chains, with one transition matrix a lag.
    """

    name = "markov"
    Config = MarkovConfig
    reference = "Mixture transition model with one matrix a lag (Raftery, JRSS B 1985)."
    needs = frozenset({"sequences"})
    trained_by = "counting"

    def __init__(self, config: MarkovConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.order, self.decay = config.order, config.decay
        self._events = data.train.items
        self.transitions: list[sparse.csr_array] = []

    @classmethod
    def variant(cls, config: ModelConfig) -> str:
        """The mix or the chain."""
        assert isinstance(config, MarkovConfig)
        return "first order" if config.order == 1 else f"mix of last {config.order}"

    @property
    def size(self) -> int:
        """Pairs of items that were seen to follow one another, over all lags."""
        return sum(matrix.nnz for matrix in self.transitions)

    def fit(self) -> None:
        """Count the transitions of every lag."""
        values, rows = self._events.values, self._events.row_of_value
        shape = (self.n_items + 1, self.n_items + 1)
        self.transitions = []
        for lag in range(1, self.order + 1):
            same = rows[lag:] == rows[:-lag]
            before, after = values[:-lag][same], values[lag:][same]
            known = (before > 0) & (after > 0)
            counts = sparse.csr_array((np.ones(int(known.sum())), (before[known], after[known])), shape=shape)
            counts.sum_duplicates()
            total = np.maximum(counts.sum(axis=1), 1.0)
            self.transitions.append(sparse.csr_array(sparse.diags_array(1.0 / total) @ counts))

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        """See :meth:`Recommender.scores`."""
        newest, lengths = (part.cpu().numpy() for part in histories.known().last(self.order))
        product = sparse.csr_array((len(histories), self.n_items + 1))
        for lag, matrix in enumerate(self.transitions, start=1):
            rows = np.flatnonzero(lengths >= lag)
            item = newest[rows, lengths[rows] - lag]
            weights = np.full(len(rows), self.decay ** (lag - 1))
            product = product + sparse.csr_array((weights, (rows, item)), shape=product.shape) @ matrix
        return dense(product, items, histories.device)
