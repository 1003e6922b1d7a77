"""A few training pairs on which a network whose activations have died is noticed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.counter import Outside

USERS, ITEMS, PAIRS = 1000, 50, 4000

Scorer = Callable[[Tensor, Tensor], Tensor]
"""(P,) rows of users and (P,) items -> (P,) scores."""


def spread_out(n: int, most: int) -> Tensor:
    """Whole numbers from 0 to ``n - 1``, evenly spread: all of them, or ``most`` with both ends among them.

    Computed in whole numbers: floating-point numbers of 32 bits round those above 2**24, and step over the end.

    Examples
    --------
    >>> spread_out(3, 5).tolist(), spread_out(10, 4).tolist(), spread_out(0, 4).tolist()
    ([0, 1, 2], [0, 3, 6, 9], [])
    """
    number = min(n, most)
    return torch.arange(number) * (n - 1) // max(1, number - 1)


class Probe:
    """Users, items and training pairs, evenly spread; they are the same in every run, and draw no random numbers of the run.

    Parameters
    ----------
    data
        Training data; users are numbered by their rows.
    device
        Where scores are made.
    """

    def __init__(self, data: TrainingData, device: str | torch.device) -> None:
        met = Histories.of(np.arange(len(data.train.items)), data.train.items)
        outside = Outside(met, data.n_items)
        spread = spread_out(len(met.items), PAIRS)
        users = met.rows[spread]
        spread, users = spread[outside.room[users] > 0], users[outside.room[users] > 0]
        numbers = torch.rand(len(users), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        negatives = outside.pick(users, (numbers * outside.room[users]).long())
        self._pairs = users.to(device), met.items[spread].to(device), negatives.to(device)
        self._users = spread_out(len(met), USERS).to(device)
        self._items = (1 + spread_out(data.n_items, ITEMS)).to(device)

    def constant_users(self, score: Scorer) -> float:
        """Share of users to whom all items are the same."""
        users, items = self._users[:, None].expand(-1, len(self._items)), self._items.expand(len(self._users), -1)
        scores = score(users.flatten(), items.flatten()).view(users.shape)
        return float((scores.amax(1) == scores.amin(1)).double().mean())

    def auc(self, score: Scorer) -> float:
        """Chance that a training pair is above a pair that was not met; ties count half. A half where there are none."""
        users, positives, negatives = self._pairs
        if len(users) == 0:
            return 0.5
        wanted, unwanted = score(users, positives), score(users, negatives).sort().values
        below = torch.searchsorted(unwanted, wanted) + torch.searchsorted(unwanted, wanted, right=True)
        return float(below.double().mean() / (2 * len(unwanted)))
