"""MF-BPR: matrix factorisation by pairwise ranking, what ConvNCF starts from and has to beat."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor

from benchbed.data.dataset import TrainingData
from benchbed.models.fold_in import FoldInConfig
from benchbed.models.pairwise import Triples, bpr, shown_as_mean
from benchbed.models.two_tables import AdagradInTurn, TwoTables


class MFBPRConfig(FoldInConfig):
    """Hyper-parameters of :class:`MFBPR`; the defaults are those of the pre-training in ConvNCF's code.

    Attributes
    ----------
    embedding_size
        Width of both tables.
    learning_rate
        Of Adagrad.
    regularisation
        Of the squared vectors of every triple, on the scale of a sum over the batch.
    batch_size
        Triples of one update.
    fold_in_learning_rate
        Of Adagrad, on a user's row.
    """

    embedding_size: int = Field(64, ge=1)
    learning_rate: float = Field(0.05, gt=0)
    regularisation: float = Field(0.01, ge=0)
    batch_size: int = Field(512, ge=1)
    fold_in_learning_rate: float = Field(0.2, gt=0)


class MFBPR(TwoTables):
    """score(u, i) = p_u . q_i; log(1 + exp(-(s+ - s-))) summed over the batch, one uniform negative for each positive.

    References
    ----------
    Rendle et al., UAI 2009; in this form (sum, Adagrad, no biases) the pre-training of ConvNCF (He et al., IJCAI 2018).
    """

    name = "mf_bpr"
    Config = MFBPRConfig
    reference = "Rendle et al. (UAI 2009), BPR, as the pre-training of ConvNCF (He et al., IJCAI 2018)."

    def __init__(self, config: MFBPRConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Adagrad over both tables."""
        return [AdagradInTurn(self.parameters(), lr=self.config.learning_rate)]

    def batches(self, generator: torch.Generator) -> Iterator[Triples]:
        """See :meth:`Recommender.batches`."""
        return self.triples(generator, self.config.batch_size)

    def loss(self, batch: Triples) -> Tensor:
        """The objective of the batch, a sum, shown as the mean over its triples."""
        return shown_as_mean(self.inner_product_objective(batch, self.config.regularisation), len(batch.users))

    def item_side(self) -> Tensor:
        """(n_items + 1, d) item vectors."""
        return self.item_embedding.weight.detach()

    def fold_in_loss(self, rows: Tensor, owner: Tensor, positives: Tensor, negatives: Tensor, side: Tensor) -> Tensor:
        """See :meth:`FoldIn.fold_in_loss`; the penalty counts a user's row once for every event."""
        users = rows[owner]
        margin = (users * (side[positives] - side[negatives])).sum(1)
        return bpr(margin, torch.zeros_like(margin)) + self.config.regularisation * users.square().sum()

    def row_scores(self, rows: Tensor, items: Tensor | None, side: Tensor) -> Tensor:
        """One matrix product; see :meth:`FoldIn.row_scores`."""
        return rows @ (side if items is None else side[items]).T

    def row_pair_scores(self, rows: Tensor, owner: Tensor, items: Tensor, side: Tensor) -> Tensor:
        """See :meth:`FoldIn.row_pair_scores`."""
        return (rows[owner] * side[items]).sum(1)
