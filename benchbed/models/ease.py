"""EASE: a linear item-to-item model in closed form."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from scipy import linalg
from torch import Tensor
from torch.nn import functional as F

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ModelError
from benchbed.models.base import ModelConfig, Recommender
from benchbed.models.sparse import interaction_matrix

LARGEST = 25_000
"""Most items: Gram matrix, inverse and weights lie in memory together, 8 bytes an entry, which is 14 GiB of a machine's 16."""


class EASEConfig(ModelConfig):
    """Hyper-parameters of :class:`EASE`: ``regularisation`` is lambda, added to the diagonal of the Gram matrix."""

    regularisation: float = Field(250.0, gt=0)


class EASE(Recommender):
    """B = I - P / diag(P) with P = (X'X + lambda I)^-1 and X the binary user-item matrix; scores are x B.

    Raises
    ------
    ModelError
        The catalogue is too large for a dense inverse.

    References
    ----------
    Steck, Embarrassingly shallow autoencoders for sparse data, WWW 2019, equation 8.
    """

    name = "ease"
    Config = EASEConfig
    reference = "Steck (WWW 2019)."
    trained_by = "counting"

    def __init__(self, config: EASEConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.regularisation = config.regularisation
        self._events = data.train.items
        self.register_buffer("weights", torch.zeros(0))
        self.weights: Tensor

    @classmethod
    def check(cls, n_items: int) -> None:
        """See :meth:`Recommender.check`."""
        if n_items > LARGEST:
            raise ModelError(
                f"ease inverts a dense matrix of items: {n_items} items need {3 * n_items**2 * 8 / 2**30:.0f} GiB.",
                advice=f"It takes up to {LARGEST} items. Raise clean.k_core in the dataset card, or leave it out: "
                "`baselines: none`, with the other baselines under `models`.",
            )

    @property
    def size(self) -> int:
        """Weights off the diagonal."""
        return self.n_items * (self.n_items - 1)

    def fit(self) -> None:
        """Invert the regularised Gram matrix."""
        met = interaction_matrix(self._events, self.n_items)
        gram = (met.T @ met).toarray()
        gram[np.diag_indices_from(gram)] += self.regularisation
        inverse = linalg.inv(gram, overwrite_a=True, check_finite=False)
        weights = inverse / -np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        self.weights = torch.from_numpy(weights.astype(np.float32)).to(self.weights.device)

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        """See :meth:`Recommender.scores`."""
        known = histories.known()
        pairs = torch.unique(known.rows * (self.n_items + 1) + known.items)
        rows, item = pairs // (self.n_items + 1), pairs % (self.n_items + 1)
        starts = torch.searchsorted(rows, torch.arange(len(histories), device=rows.device))
        block = F.embedding_bag(item, self.weights, starts, mode="sum")
        return block if items is None else block[:, items]
