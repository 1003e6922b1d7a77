"""Categorical fields of items as vectors: which values an item has, and the pooling of their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import IntArray, Ragged, TrainingData
from benchbed.errors import ModelError, nearest

Pooling = Literal["mean", "sum", "max"]


def chosen_fields(data: TrainingData, features: str | Sequence[str], model: str) -> tuple[str, ...]:
    """The names of the fields that a model reads.

    Parameters
    ----------
    data
        Training data.
    features
        ``all``, or names.
    model
        Whose wish it is; named in the error.

    Raises
    ------
    ModelError
        A field does not exist, or models do not see it (a text, a number without bins).
    """
    known = tuple(data.item_features)
    if features == "all":
        return known
    for name in features:
        if name not in known:
            close = nearest(name, known)
            raise ModelError(
                f"{model} is asked for the item feature '{name}', which this dataset does not have"
                + (f"; did you mean '{close}'?" if close else "."),
                advice=f"Fields that models see: {', '.join(known) or 'none'} (no texts, no numbers without `bins`). "
                "Set `features` to some of them, or to all.",
            )
    return tuple(features)


def values_of_items(
    data: TrainingData, fields: Sequence[str], shuffle_seed: int | None = None
) -> tuple[Ragged, tuple[int, ...]]:
    """The values of every field of every item, numbered through all fields.

    Values that no training event carries are left out (they would keep their initial vector for ever): an item with such
    values only is an item without values.

    Parameters
    ----------
    data
        Training data.
    fields
        Names of fields, at least one.
    shuffle_seed
        Give every item the values of another one, drawn with this seed (all fields together): a control that keeps everything
        about the features but their meaning.

    Returns
    -------
    values
        ``(n_items + 1) * len(fields)`` rows; row ``item * len(fields) + field``; values from 1.
    starts
        The values of field ``f`` are ``starts[f] + 1 .. starts[f + 1]``.
    """
    owner = np.arange(data.n_items + 1)
    if shuffle_seed is not None:
        owner[1:] = np.random.Generator(np.random.Philox(shuffle_seed)).permutation(data.n_items) + 1
    starts = np.cumsum([0, *(len(data.item_features[name].names) for name in fields)])
    parts = []
    for name, start in zip(fields, starts, strict=False):
        rows = data.item_features[name].values.take(owner)
        carried = np.zeros(len(data.item_features[name].names) + 1, dtype=bool)
        carried[rows.values[data.item_counts[rows.row_of_value] > 0]] = True
        carried[0] = False
        rows = rows.keep(carried[rows.values])
        parts.append(Ragged(rows.values + start, rows.offsets))
    return _interleave(parts), tuple(int(start) for start in starts)


def _interleave(parts: Sequence[Ragged]) -> Ragged:
    """Row r of all parts, then row r + 1 of all parts, and so on."""
    n, rows = len(parts), len(parts[0])
    ends = np.cumsum([0, *(len(part) for part in parts)])
    joined = Ragged(
        np.concatenate([part.values for part in parts]),
        np.concatenate([[0], np.cumsum(np.concatenate([part.lengths for part in parts]))]).astype(np.int64),
    )
    order: IntArray = (np.arange(rows)[:, None] + ends[:n]).ravel()
    return joined.take(order)


class ItemFeatures(nn.Module):
    """Embeds the values of an item's fields, pools them within a field, and puts the fields side by side.

    An item without values in a field has zeros there, whatever the pooling. Padding (item 0) has no values.

    Parameters
    ----------
    data
        Training data.
    fields
        Names of fields, at least one.
    size
        Width of a field.
    pooling
        ``mean``, ``sum`` or ``max`` over the values of a field.
    shuffle_seed
        See :func:`values_of_items`.

    Attributes
    ----------
    width
        ``len(fields) * size``.
    """

    values: Tensor
    offsets: Tensor

    def __init__(
        self, data: TrainingData, fields: Sequence[str], size: int, pooling: Pooling, shuffle_seed: int | None = None
    ) -> None:
        super().__init__()
        values, self.starts = values_of_items(data, fields, shuffle_seed)
        self.fields, self.pooling, self.n_items, self.width = tuple(fields), pooling, data.n_items, len(fields) * size
        self.register_buffer("values", torch.as_tensor(values.values), persistent=False)
        self.register_buffer("offsets", torch.as_tensor(values.offsets), persistent=False)
        self.embedding = nn.Embedding(self.starts[-1] + 1, size, padding_idx=0)
        with torch.no_grad():
            for start, stop in zip(self.starts, self.starts[1:], strict=False):
                nn.init.xavier_normal_(self.embedding.weight[start + 1 : stop + 1])

    def forward(self, items: Tensor) -> Tensor:
        """(...) items -> (..., width).

        Every item is pooled once, however often it stands in ``items``.
        """
        if items.numel() <= self.n_items:
            items, place = torch.unique(items, return_inverse=True)
            return F.embedding(place, self.pooled(items))
        return F.embedding(items, self.pooled())

    def pooled(self, items: Tensor | None = None) -> Tensor:
        """(M,) items, or None for all -> (M, width)."""
        values, offsets = self.values, self.offsets
        if items is not None:
            n = len(self.fields)
            rows = (items[:, None] * n + torch.arange(n, device=items.device)).flatten()
            lengths = offsets[rows + 1] - offsets[rows]
            ends = lengths.cumsum(0)
            skip = torch.repeat_interleave(offsets[rows] - (ends - lengths), lengths)
            values = values[skip + torch.arange(len(skip), device=items.device)]
            offsets = torch.cat([ends.new_zeros(1), ends])
        bags = F.embedding_bag(values, self.embedding.weight, offsets, mode=self.pooling, include_last_offset=True)
        return bags.view(-1, self.width)
