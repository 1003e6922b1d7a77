"""Sparse item-to-item models: a history's scores are a weighted sum of rows of one sparse matrix."""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from benchbed.data.dataset import Ragged
from benchbed.data.histories import Histories


def interaction_matrix(rows: Ragged, n_items: int) -> sparse.csr_array:
    """Binary (rows, n_items + 1) matrix: who met what, repeats counted once, column 0 empty."""
    known = rows.values > 0
    matrix = sparse.csr_array(
        (np.ones(int(known.sum()), dtype=np.float64), (rows.row_of_value[known], rows.values[known])),
        shape=(len(rows), n_items + 1),
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def seen(histories: Histories, n_items: int) -> sparse.csr_array:
    """The histories as a binary (B, n_items + 1) matrix."""
    return interaction_matrix(Ragged(histories.items.cpu().numpy(), histories.offsets.cpu().numpy()), n_items)


def dense(product: sparse.csr_array, items: Tensor | None, device: torch.device) -> Tensor:
    """A sparse block of scores as a float32 tensor, cut to the items asked for."""
    block = torch.from_numpy(product.toarray().astype(np.float32, copy=False)).to(device)
    return block if items is None else block[:, items]


def largest_per_column(matrix: sparse.csc_array, k: int) -> sparse.csr_array:
    """Keep the k largest entries of every column; among equals the smaller row index stays."""
    matrix.sort_indices()
    column = np.repeat(np.arange(matrix.shape[1]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, column))
    place = np.arange(len(order)) - matrix.indptr[:-1][column[order]]
    kept = order[place < k]
    return sparse.csr_array((matrix.data[kept], (matrix.indices[kept], column[kept])), shape=matrix.shape)
