"""Random numbers that are a function of what they are for: the same whoever else is served, and in whatever order.

A generator with a state gives a user other numbers when other users are served first. Here each number is a hash of a seed and
of counters, so that it can be made for any user, step and place alone, all of them at once. The hash is the finaliser of
SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchbed.data.histories import Histories

# The constants of SplitMix64 as signed numbers: torch has no unsigned multiplication, and the bits are the same.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_MIX = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
_KEPT_BITS = 53


def hashed(seed: Tensor, *counters: Tensor) -> Tensor:
    """A 64-bit hash of integers, which broadcast against one another.

    Examples
    --------
    >>> one = hashed(torch.tensor(7), torch.tensor([1, 2]), torch.tensor(0))
    >>> two = hashed(torch.tensor(7), torch.tensor([2, 1]), torch.tensor(0))
    >>> bool((one == two.flip(0)).all()), bool(one[0] == one[1])
    (True, False)
    """
    value = _mixed(seed.to(torch.int64))
    for counter in counters:
        value = _mixed((value ^ _mixed(counter.to(torch.int64) + _STEP)) + _STEP)
    return value


def below(bits: Tensor, limit: Tensor) -> Tensor:
    """Integers from 0 to ``limit - 1`` out of 64 random bits each; ``limit`` is far below 2**53, so that none is favoured."""
    return _shifted(bits, 64 - _KEPT_BITS) % limit


def _mixed(value: Tensor) -> Tensor:
    for shift, factor in _MIX:
        value = (value ^ _shifted(value, shift)) * factor
    return value ^ _shifted(value, 31)


def _shifted(value: Tensor, bits: int) -> Tensor:
    """Shift to the right, filling with zeros: torch copies the sign instead."""
    return torch.bitwise_and(value >> bits, 2 ** (64 - bits) - 1)


class Outside:
    """The items that a history does not hold, by number: any of them is found by one search, without trying.

    Parameters
    ----------
    histories
        B histories of known items (no 0).
    n_items
        Number of items; they are 1..n_items.

    Attributes
    ----------
    room
        (B,) how many items each history does not hold.

    Examples
    --------
    >>> import numpy as np
    >>> from benchbed.data.dataset import Ragged
    >>> outside = Outside(Histories.of(np.array([1, 2]), Ragged.of([[2, 4, 2], []])), 5)
    >>> outside.room.tolist(), outside.pick(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2, 4])).tolist()
    ([3, 5], [1, 3, 5, 5])
    """

    def __init__(self, histories: Histories, n_items: int) -> None:
        self.n_items = n_items
        keys = torch.unique(histories.rows * (n_items + 1) + histories.items)
        row, item = keys // (n_items + 1), keys % (n_items + 1)
        counts = torch.bincount(row, minlength=len(histories))
        self.room = n_items - counts
        self._starts = counts.cumsum(0) - counts
        # The j-th item of a history (from 0, rising) has item - 1 - j absent items before it.
        absent_before = item - 1 - (torch.arange(len(keys), device=keys.device) - self._starts[row])
        self._keys = row * (n_items + 1) + absent_before

    def pick(self, rows: Tensor, numbers: Tensor) -> Tensor:
        """The items that are the ``numbers``-th (from 0, below ``room``) that the histories ``rows`` do not hold."""
        held = torch.searchsorted(self._keys, rows * (self.n_items + 1) + numbers, right=True) - self._starts[rows]
        return numbers + 1 + held
