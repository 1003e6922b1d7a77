"""Lists that trade accuracy for variety: the greedy, controllable aggregation of ComiRec.

A list S of candidates is worth ``sum of scores + lambda * number of pairs of S whose categories differ``. It is built greedily:
the next item is the one that adds most. Counting the chosen items that are *alike*, and taking lambda off for each, gives the
same order, for all candidates have the same number of chosen items to differ from. Scores are taken as they are: lambda is in
their unit.

Cen, Zhang, Zou, Zhou, Yang, Tang. Controllable multi-interest framework for recommendation. KDD 2020.
https://doi.org/10.1145/3394486.3403344
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from benchbed.data.dataset import Features
from benchbed.errors import ModelError


@dataclass(frozen=True)
class ItemCategories:
    """The categories of items, on one device.

    Two items are alike when they have a category in common, so an item may have several.

    Attributes
    ----------
    values
        (width, n_items + 1) categories from 1 on, those of an item in a column, filled with 0.
    known
        (n_items + 1,) whether the item counts: not padding, and with a category.
    """

    values: Tensor
    known: Tensor

    @classmethod
    def of(
        cls,
        features: Features,
        *,
        uncategorised: Literal["together", "drop"] = "together",
        device: str | torch.device = "cpu",
    ) -> ItemCategories:
        """The values of a feature as categories.

        Parameters
        ----------
        features
            Values of every item, row 0 is padding.
        uncategorised
            Items without a value: ``together`` they form a category of their own, ``drop``: they do not count.
        device
            Where the tensors go.

        Examples
        --------
        >>> from benchbed.data.dataset import Ragged
        >>> genre = Features("genre", Ragged.of([[], [1], [2, 1], []]), ("comedy", "drama"))
        >>> ItemCategories.of(genre).values.tolist()
        [[0, 1, 2, 3], [0, 0, 1, 0]]
        >>> ItemCategories.of(genre, uncategorised="drop").known.tolist()
        [False, True, True, False]
        """
        rows = features.values
        lengths = torch.as_tensor(rows.lengths)
        by_item = torch.zeros(len(rows), max(1, int(lengths.max())), dtype=torch.int32)
        by_item[torch.arange(by_item.shape[1]) < lengths[:, None]] = torch.as_tensor(rows.values, dtype=torch.int32)
        values = by_item.T.contiguous()
        if uncategorised == "together":
            values[0, 1:] = torch.where(lengths[1:] == 0, len(features.names) + 1, values[0, 1:])
        known = values[0] > 0
        known[0] = False
        return cls(values.to(device), known.to(device))


def alike(values: Tensor, own: Tensor) -> Tensor:
    """Which items share a category with one item of their row.

    Parameters
    ----------
    values
        (width, B, M) categories, 0 for none.
    own
        (width, B) categories of that item.

    Returns
    -------
    Tensor
        (B, M) bool.
    """
    shared = torch.zeros(values.shape[1:], dtype=torch.bool, device=values.device)
    for category in torch.where(own > 0, own, -1)[:, :, None]:
        for others in values:
            shared |= others == category
    return shared


def greedy_lists(items: Tensor, scores: Tensor, categories: ItemCategories, weight: float, n: int) -> Tensor:
    """Build the lists of many users at once.

    Parameters
    ----------
    items
        (B, M) candidates, distinct within a row; 0 for none. Of equal candidates the first is taken.
    scores
        (B, M) the model's scores of these.
    categories
        Of all items; candidates that do not count are left out.
    weight
        Lambda, 0 or larger: what each chosen item that differs is worth.
    n
        Length of the lists.

    Returns
    -------
    Tensor
        (B, n) items in the order in which they were chosen; 0 where no candidate was left.

    Raises
    ------
    ModelError
        The weight is no number from 0 on.

    Examples
    --------
    >>> from benchbed.data.dataset import Ragged
    >>> kinds = ItemCategories.of(Features("kind", Ragged.of([[], [1], [1], [2]]), ("a", "b")))
    >>> candidates, scores = torch.tensor([[1, 2, 3]]), torch.tensor([[0.9, 0.8, 0.5]])
    >>> [greedy_lists(candidates, scores, kinds, weight, 3).tolist() for weight in (0, 0.5)]
    [[[1, 2, 3]], [[1, 3, 2]]]
    """
    if not (math.isfinite(weight) and weight >= 0):
        raise ModelError(f"The weight of variety is {weight}; it must be a number, 0 or larger.")
    lists = torch.zeros(len(items), n, dtype=items.dtype, device=items.device)
    if not items.numel():
        return lists
    values = categories.values[:, items]
    # Rounding of float32 would decide between the two forms of the sum.
    own = scores.double().masked_fill(~categories.known[items], -torch.inf)
    times = torch.zeros_like(own)
    rows = torch.arange(len(items), device=items.device)
    for place in range(min(n, items.shape[1])):
        worth, best = (own - weight * times).max(1)
        lists[:, place] = torch.where(worth > -torch.inf, items[rows, best], 0)
        own[rows, best] = -torch.inf
        if weight:
            times += alike(values, values[:, rows, best])
    return lists
