"""Variety of lists, and accuracy and variety along lambda on the same trained model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchbed.data.dataset import Cases, IntArray, Ragged
from benchbed.evaluation.aggregation import ItemCategories, alike, greedy_lists
from benchbed.evaluation.metrics import FloatArray
from benchbed.evaluation.protocol import Diversity

BLOCK_NUMBERS = 2**22
"""Categories of candidates that are compared at once."""


def list_diversity(items: Tensor, categories: ItemCategories) -> Tensor:
    """diversity@N: the share of pairs of a list whose categories differ.

    Parameters
    ----------
    items
        (B, N) lists; 0 and items that do not count are left out of the pairs.
    categories
        Of all items.

    Returns
    -------
    Tensor
        (B,) between 0 and 1, whatever the order of the list; 0 for a list of fewer than two items.

    Examples
    --------
    >>> from benchbed.data.dataset import Features
    >>> kinds = ItemCategories.of(Features("kind", Ragged.of([[], [1], [1], [2]]), ("a", "b")))
    >>> list_diversity(torch.tensor([[1, 2, 3], [1, 0, 0]]), kinds).tolist()
    [0.6666666666666667, 0.0]
    """
    values, there = categories.values[:, items], categories.known[items]
    same = torch.zeros(len(items), dtype=torch.float64, device=items.device)
    for place in range(items.shape[1]):
        other = alike(values, values[:, :, place]) & there & there[:, place, None]
        same += other.sum(1) - other[:, place].long()  # without the pair of the item and itself
    count = there.sum(1)
    ordered = (count * (count - 1)).double()
    return torch.where(ordered > 0, 1 - same / ordered.clamp(min=1), 0.0)


@dataclass(frozen=True)
class Reranked:
    """Lists of one weight of variety.

    Attributes
    ----------
    ranks
        One row a case: the place of each target in the list, 0 where it does not stand in it.
    diversity
        (n_cases,) diversity@N.
    """

    ranks: Ragged
    diversity: FloatArray


class Variety:
    """Re-ranks block after block of cases, for every weight.

    Parameters
    ----------
    said
        The block of the benchmark file.
    categories
        Of all items, on the device of the scores.
    cases
        All cases, in the order in which their blocks will come.
    weight
        That of the lists behind the rows of the leaderboard; 0 for the models' own.
    """

    def __init__(self, said: Diversity, categories: ItemCategories, cases: Cases, weight: float = 0) -> None:
        self.said, self.categories, self.cases, self.weight = said, categories, cases, weight
        self.weights = tuple(sorted({*said.lambdas, weight}))
        self._done = 0
        self._ranks: dict[float, list[Tensor]] = {weight: [] for weight in self.weights}
        self._diversity: dict[float, list[Tensor]] = {weight: [] for weight in self.weights}
        self._own: list[Tensor] = []
        self._applied: list[Tensor] = []

    def add(self, head: Tensor, pool: Tensor, scores: Tensor) -> None:
        """Take the next cases.

        Parameters
        ----------
        head
            (B, at least N) the model's own lists.
        pool, scores
            (B, M) what lists are made of, best first, and the scores of these; item 0 for none.
        """
        width = pool.shape[1] * len(self.categories.values)
        step = max(1, BLOCK_NUMBERS // max(1, width))
        for start in range(0, len(pool), step):
            part = slice(start, start + step)
            self._own.append(list_diversity(head[part, : self.said.cutoff], self.categories).cpu())
            for weight in self.weights:
                lists = greedy_lists(pool[part], scores[part], self.categories, weight, self.said.cutoff)
                if weight == self.weight:
                    self._applied.append(lists.cpu())
                self._diversity[weight].append(list_diversity(lists, self.categories).cpu())
                self._ranks[weight].append(self._places(lists))
            self._done += len(pool[part])

    def _places(self, lists: Tensor) -> Tensor:
        """Places of the targets of the next cases in their lists."""
        stop = self._done + len(lists)
        offsets = self.cases.targets.offsets
        targets = torch.as_tensor(self.cases.targets.values[offsets[self._done] : offsets[stop]])
        rows = torch.as_tensor(np.repeat(np.arange(len(lists)), np.diff(offsets[self._done : stop + 1])))
        found = (lists.cpu()[rows] == targets[:, None]) & (targets > 0)[:, None]
        return torch.where(found.any(1), found.int().argmax(1) + 1, 0)

    @property
    def own_diversity(self) -> FloatArray:
        """(n_cases,) diversity@N of the model's own lists."""
        return _joined(self._own).double().numpy()

    @property
    def applied(self) -> IntArray:
        """(n_cases, N) lists of ``weight``, 0 behind the end of a short one."""
        return _joined(self._applied).numpy()

    def reranked(self, weight: float) -> Reranked:
        """The lists of one weight: one of ``lambdas``, or ``weight``."""
        ranks = Ragged(_joined(self._ranks[weight]).numpy(), self.cases.targets.offsets)
        return Reranked(ranks, _joined(self._diversity[weight]).double().numpy())


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)
