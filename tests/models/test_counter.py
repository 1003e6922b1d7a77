"""Random numbers that belong to a user, a step and a place; and items that a history does not hold."""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import chisquare, kstest
from torch import Tensor

from benchbed.data.dataset import Ragged
from benchbed.data.histories import Histories
from benchbed.models.counter import Outside, below, hashed


def number(value: int) -> Tensor:
    return torch.tensor(value)


def test_the_first_numbers_of_splitmix64() -> None:
    """Mixing multiples of its constant gives the published stream of SplitMix64; for seed 0 it begins like this."""
    from benchbed.models.counter import _STEP, _mixed

    states = (torch.arange(1, 4) * torch.tensor(_STEP)).to(torch.int64)
    found = [value % 2**64 for value in _mixed(states).tolist()]
    assert found == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_each_counter_matters_and_so_does_their_order() -> None:
    base = [number(5), number(9), number(2), number(0)]
    seen = {int(hashed(*base))}
    for place in range(4):
        for step in (1, 2**40, -7):
            changed = list(base)
            changed[place] = changed[place] + step
            seen.add(int(hashed(*changed)))
    seen.add(int(hashed(base[0], base[2], base[1], base[3])))
    assert len(seen) == 1 + 12 + 1
    assert int(hashed(*base)) in seen and int(hashed(*base)) == int(hashed(*base))


def test_a_number_does_not_depend_on_who_else_is_served() -> None:
    users, places = torch.tensor([3, 3, 8, 2**62, 8]), torch.tensor([0, 1, 0, 5, 1])
    together = hashed(number(1), users, number(4), places)
    alone = [int(hashed(number(1), user, number(4), place)) for user, place in zip(users, places, strict=True)]
    assert together.tolist() == alone


def test_numbers_are_uniform_also_for_counters_in_a_row() -> None:
    """Counters that differ by one, as steps and places do."""
    for counters in ((torch.arange(40_000), number(0)), (number(3), torch.arange(40_000))):
        bits = hashed(number(7), *counters)
        drawn = below(bits, torch.tensor(23))
        assert drawn.min() == 0 and drawn.max() == 22
        assert chisquare(np.bincount(drawn.numpy(), minlength=23)).pvalue > 1e-4
        shares = below(bits, torch.tensor(2**50)).double() / 2**50
        assert kstest(shares.numpy(), "uniform").pvalue > 1e-4
        pairs = np.bincount((drawn[1:] * 23 + drawn[:-1]).numpy(), minlength=23 * 23)  # neighbours know nothing of each other
        assert chisquare(pairs).pvalue > 1e-4


def test_every_item_outside_a_history_has_one_number() -> None:
    rows = [[], [1], [9], [2, 4, 2, 9], list(range(1, 10)), [5, 6, 7]]
    outside = Outside(Histories.of(np.arange(len(rows)), Ragged.of(rows)), 9)
    for place, row in enumerate(rows):
        expected = sorted(set(range(1, 10)) - set(row))
        assert int(outside.room[place]) == len(expected)
        numbers = torch.arange(len(expected))
        assert outside.pick(torch.full_like(numbers, place), numbers).tolist() == expected
