"""Implicit ALS: matrix factorisation under a squared loss over all pairs of user and item, solved exactly, side after side."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from benchbed.data.dataset import IntArray, TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import InnerProduct, ModelConfig
from benchbed.models.sparse import interaction_matrix

BLOCK_NUMBERS = 2**21
"""Numbers of gathered vectors and of matrices that are solved at once on a processor; a GPU takes 32 times as many."""


class IALSConfig(ModelConfig):
    """Hyper-parameters of :class:`IALS`.

    Attributes
    ----------
    embedding_size
        Width of user and item vectors.
    unobserved_weight
        alpha_0, the weight of the squared score of every pair, observed or not.
    regularization
        lambda.
    frequency_exponent
        nu: a vector is regularised by lambda (n + alpha_0 N)^nu, where n counts its observations and N is the size of the other
        side. 0 regularises all alike, as Hu et al. do; 1 in proportion to how many pairs weigh on the vector.
    init_std
        Standard deviation of the initial item vectors, before the division by the root of their width.
    """

    embedding_size: int = Field(64, ge=1)
    unobserved_weight: float = Field(0.1, gt=0)
    regularization: float = Field(0.003, gt=0)
    frequency_exponent: float = Field(1.0, ge=0, le=2)
    init_std: float = Field(0.1, gt=0)


class IALS(InnerProduct):
    """Scores are inner products of a user vector p and an item vector q.

    Minimised is the sum over observed pairs of (1 - p.q)^2, plus alpha_0 times the sum over all pairs of (p.q)^2, plus
    sum over users of lambda_u |p|^2 and the same over items. An epoch solves all users, then all items. An item that a user met
    several times is observed once. A user is always solved from the history, so that fold-in has no steps and the trained users
    get their own vectors back; a user without history gets the mean of the trained ones.

    References
    ----------
    Hu, Koren and Volinsky, ICDM 2008. The form of the loss, the regularisation by frequency and the initialisation: Rendle,
    Krichene, Zhang and Koren, "Revisiting the performance of iALS on item recommendation benchmarks", RecSys 2022.
    """

    name = "ials"
    Config = IALSConfig
    reference = "Hu et al. (ICDM 2008) as revisited by Rendle et al. (RecSys 2022)."
    user_mode: ClassVar[Literal["inductive", "fold_in"]] = "fold_in"
    trained_by = "solving"

    mean_user: Tensor

    def __init__(self, config: IALSConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        width = config.embedding_size
        start = torch.randn(data.n_items + 1, width) * (config.init_std / width**0.5)
        start[0] = 0.0
        self.items = nn.Parameter(start, requires_grad=False)
        self.register_buffer("mean_user", torch.zeros(width))
        met = interaction_matrix(data.train.items, data.n_items)
        by_item = met.T.tocsr()
        self._n_users = met.shape[0]
        self._of_users = Observed(met.indptr, met.indices, "cpu")
        # Users count from 1 here, so that 0 is padding on both sides.
        self._of_items = Observed(by_item.indptr, by_item.indices + 1, "cpu")

    def bind(self, data: TrainingData, device: str | torch.device) -> None:
        """See :meth:`Recommender.bind`."""
        super().bind(data, device)
        self._of_users, self._of_items = self._of_users.to(device), self._of_items.to(device)

    @torch.no_grad()
    def solve(self, generator: torch.Generator) -> float:
        """Users, then items; see :meth:`Recommender.solve`. Nothing is drawn.

        Returns
        -------
        float
            The objective after both, over the number of observed pairs.
        """
        rows, _ = self._solved(self._of_users, self.items, self.n_items)
        self.mean_user.copy_(rows.mean(0))
        users = torch.cat([rows.new_zeros(1, rows.shape[1]), rows])
        items, explained = self._solved(self._of_items, users, self._n_users)
        self.items.copy_(items)
        observed = len(self._of_users.columns)
        penalty = (self._penalties(self._of_users.lengths, self.n_items) * rows.square().sum(1)).sum()
        # Where an item's vector q is the solution of A q = b, its part of the loss is the number of its observations less b.q.
        return float((observed - explained + penalty) / max(1, observed))

    def user_vectors(self, histories: Histories) -> Tensor:
        """The exact vectors of histories; see :meth:`InnerProduct.user_vectors`."""
        known = histories.known()
        pairs = torch.unique(known.rows * (self.n_items + 1) + known.items)
        rows, columns = pairs // (self.n_items + 1), pairs % (self.n_items + 1)
        offsets = torch.searchsorted(rows, torch.arange(len(histories) + 1, device=rows.device))
        solved, _ = self._solved(Observed(offsets, columns, self.device), self.items, self.n_items)
        vectors = torch.where((offsets.diff() > 0)[:, None], solved, self.mean_user.to(solved.dtype))
        return vectors.to(self.items.dtype)

    def item_vectors(self) -> Tensor:
        """See :meth:`InnerProduct.item_vectors`."""
        return self.items

    def block_scores(self, histories: Histories) -> Callable[[int, int], Tensor]:
        """All users are solved at once, since what the item vectors have in common is prepared once."""
        users, items = self.user_vectors(histories), self.item_vectors()
        return lambda start, stop: users[start:stop] @ items.T

    def _penalties(self, observations: Tensor, others: int) -> Tensor:
        config = self.config
        scale = (observations.double() + config.unobserved_weight * others) ** config.frequency_exponent
        return config.regularization * scale

    def _solved(self, rows: Observed, table: Tensor, others: int) -> tuple[Tensor, Tensor]:
        return solve_rows(rows, table, self.config.unobserved_weight, self._penalties(rows.lengths, others))


class Observed:
    """Which rows of a table (from 1) were observed with each row of the other side, on one device.

    Parameters
    ----------
    offsets
        (R + 1,) row ``r`` was observed with ``columns[offsets[r]:offsets[r + 1]]``.
    columns
        All of them, row after row.
    device
        Where they go.
    """

    def __init__(self, offsets: Tensor | IntArray, columns: Tensor | IntArray, device: str | torch.device) -> None:
        self.offsets = torch.as_tensor(offsets, dtype=torch.int64, device=device)
        self.columns = torch.as_tensor(columns, dtype=torch.int64, device=device)

    @property
    def lengths(self) -> Tensor:
        """(R,) observations of each row."""
        return self.offsets.diff()

    def to(self, device: str | torch.device) -> Observed:
        """The same on another device."""
        return Observed(self.offsets, self.columns, device)

    def gather(self, rows: Tensor, width: int) -> Tensor:
        """(B, width) columns of some rows, padded with 0."""
        place = torch.arange(width, device=rows.device)
        index = self.offsets[rows][:, None] + place
        inside = place < self.lengths[rows][:, None]
        return torch.where(inside, self.columns[index.clamp(max=len(self.columns) - 1)], 0)


def solve_rows(rows: Observed, table: Tensor, weight: float, penalties: Tensor) -> tuple[Tensor, Tensor]:
    """x_r = (weight V'V + sum of v v' + penalty_r I)^-1 sum of v, over the vectors v that were observed with row r.

    Solved in double precision: with little regularisation the matrices are close to singular. Rows with fewer observations than
    half the width are solved in their dual form, a system as large as the number of observations, in the basis where V'V is
    diagonal; the result is the same.

    Parameters
    ----------
    rows
        R rows of column numbers from 1.
    table
        (N + 1, d) vectors V, row 0 all zero.
    weight
        Of V'V.
    penalties
        (R,) positive.

    Returns
    -------
    solutions
        (R, d) in double precision; zero where nothing was observed.
    explained
        Sum over rows of x_r . (sum of v).
    """
    vectors = table.double()
    width = vectors.shape[1]
    common = weight * (vectors.T @ vectors)
    values, basis = torch.linalg.eigh(common)
    turned, values = vectors @ basis, values.clamp(min=0.0)
    solved = vectors.new_zeros(len(rows.lengths), width)
    explained = vectors.new_zeros(())
    for members, longest in _blocks(rows.lengths, width):
        chosen, penalty = rows.gather(members, longest), penalties[members, None]
        if 2 * longest < width:
            observed = turned[chosen]
            found = _dual(observed, values + penalty)
            solved[members] = found @ basis.T
        else:
            observed = vectors[chosen]
            found = _primal(observed, common, penalty)
            solved[members] = found
        explained += (found * observed.sum(1)).sum()
    return solved, explained


def _primal(vectors: Tensor, common: Tensor, penalties: Tensor) -> Tensor:
    """(B, L, d) observed vectors and (B, 1) penalties -> (B, d): a system of the width."""
    matrix = torch.baddbmm(common.expand(len(vectors), -1, -1), vectors.mT, vectors)
    matrix.diagonal(dim1=1, dim2=2).add_(penalties)
    factor = torch.linalg.cholesky_ex(matrix).L
    return torch.cholesky_solve(vectors.sum(1)[..., None], factor).squeeze(2)


def _dual(vectors: Tensor, diagonal: Tensor) -> Tensor:
    """The same where the common part is diagonal: a system of the number of observations. D^-1 V' (I + V D^-1 V')^-1 1."""
    scaled = vectors / diagonal[:, None]
    matrix = vectors @ scaled.mT
    matrix.diagonal(dim1=1, dim2=2).add_(1.0)
    factor = torch.linalg.cholesky_ex(matrix).L
    # Padding stands apart from the rest of its system (its vector is zero), so its own solution is multiplied by zero.
    ones = torch.ones_like(vectors[:, :, :1])
    return (scaled * torch.cholesky_solve(ones, factor)).sum(1)


def _blocks(lengths: Tensor, width: int) -> list[tuple[Tensor, int]]:
    """Rows with observations, in blocks of similar length that fit the memory, each with its greatest length."""
    lengths, order = lengths.sort(descending=True, stable=True)
    total = int((lengths > 0).sum())
    sizes = -lengths[:total].cpu()  # rising, for searchsorted
    limit = BLOCK_NUMBERS * (32 if lengths.device.type == "cuda" else 1)
    blocks, start = [], 0
    while start < total:
        longest = -int(sizes[start])
        room = max(1, limit // (longest * width + min(longest, width) ** 2))
        # Rows of less than half the length go into another block, where they cost less.
        similar = int(torch.searchsorted(sizes, -(longest // 2), right=False))
        stop = min(total, start + room, max(similar, start + 1))
        blocks.append((order[start:stop], longest))
        start = stop
    return blocks
