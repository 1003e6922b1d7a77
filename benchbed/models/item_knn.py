"""ItemKNN: items met by the same users."""

from __future__ import annotations

import numpy as np
from pydantic import Field
from scipy import sparse
from torch import Tensor

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import ModelConfig, Recommender
from benchbed.models.sparse import dense, interaction_matrix, largest_per_column, seen


class ItemKNNConfig(ModelConfig):
    """Hyper-parameters of :class:`ItemKNN`.

    Attributes
    ----------
    neighbours
        Number of most similar items kept for each candidate.
    shrinkage
        Added to the denominator of the similarity; larger trusts only pairs seen by many users.
    asymmetry
        0.5 is the cosine; 1 is the conditional probability of the candidate given the item in the history.
    """

    neighbours: int = Field(100, ge=1)
    shrinkage: float = Field(0.0, ge=0)
    asymmetry: float = Field(0.5, ge=0, le=1)


class ItemKNN(Recommender):
    """score(u, j) = sum over the items i of the history of s(i, j), s kept for the ``neighbours`` nearest i of each j.

    s(i, j) = n(i, j) / (n(i)^a n(j)^(1-a) + shrinkage), where n counts training users and a is the asymmetry.

    References
    ----------
    Deshpande and Karypis, TOIS 2004; asymmetric cosine: Aiolli, RecSys 2013.
    """

    name = "item_knn"
    Config = ItemKNNConfig
    reference = "Deshpande and Karypis (TOIS 2004); asymmetric cosine of Aiolli (RecSys 2013)."
    trained_by = "counting"

    def __init__(self, config: ItemKNNConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        self._events = data.train.items
        self.similarity: sparse.csr_array | None = None

    @property
    def size(self) -> int:
        """Similarities kept."""
        return 0 if self.similarity is None else int(self.similarity.nnz)

    def fit(self) -> None:
        """Count co-occurring users and keep the nearest neighbours."""
        met = interaction_matrix(self._events, self.n_items)
        common = sparse.coo_array(met.T @ met)
        users = np.asarray(met.sum(axis=0))
        apart = common.row != common.col
        row, column, count = common.row[apart], common.col[apart], common.data[apart]
        a = self.config.asymmetry
        value = count / (users[row] ** a * users[column] ** (1 - a) + self.config.shrinkage)
        self.similarity = largest_per_column(
            sparse.csc_array((value, (row, column)), shape=common.shape), self.config.neighbours
        )

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        """See :meth:`Recommender.scores`."""
        assert self.similarity is not None, "fit() comes first"
        return dense(seen(histories, self.n_items) @ self.similarity, items, histories.device)
