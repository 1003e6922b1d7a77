"""Random cuts of random users, and windows with a target after every prefix."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Ragged
from benchbed.models.cuts import EveryPrefix, PrefixBatch, RandomCuts

SEQUENCES = Ragged.of([list(range(1, 11)), [11, 12, 13, 14], [15], [], list(range(20, 43)), list(range(50, 55))])


def cuts(seed: int = 0, sequences: Ragged = SEQUENCES, **options: Any) -> list[tuple[list[int], int]]:
    """(inputs, target) of every row of an epoch."""
    made = RandomCuts(sequences, **({"window": 6, "batch_size": 2, "device": "cpu"} | options))
    rows = []
    for batch in made(torch.Generator().manual_seed(seed)):
        rows += [([i for i in row if i], t) for row, t in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)]
    return rows


def prefixes(**options: Any) -> list[tuple[list[int], int, float]]:
    """(inputs up to the place, target, weight) of every target of an epoch."""
    made = EveryPrefix(SEQUENCES, **({"window": 8, "batch_targets": 9, "weight": "event", "device": "cpu"} | options))
    rows = []
    for batch in made(torch.Generator().manual_seed(0)):
        assert isinstance(batch, PrefixBatch)
        width = batch.inputs.shape[1]
        weights = [1.0] * batch.n_targets if batch.weights is None else batch.weights.tolist()
        for place, target, weight in zip(batch.places.tolist(), batch.targets.tolist(), weights, strict=True):
            rows.append((batch.inputs[place // width, : place % width + 1].tolist(), target, weight))
    return rows


def test_a_random_cut_is_the_newest_events_before_its_target() -> None:
    rows = cuts(batch_size=3)
    for inputs, target in rows:  # all sequences count upwards by one
        assert 4 <= len(inputs) <= 6 and inputs == list(range(target - len(inputs), target))
    assert len(rows) == sum(max(0, len(SEQUENCES[r]) - 1) for r in range(len(SEQUENCES)))


def test_every_cut_from_the_fifth_event_on_occurs_equally_often() -> None:
    counts = Counter(t for seed in range(200) for _, t in cuts(seed))
    owners = [set(range(5, 11)), set(range(24, 43)), {54}]
    assert set(counts) == set().union(*owners)
    totals = [sum(counts[t] for t in owner) for owner in owners]
    assert max(totals) < 1.08 * min(totals)  # users are drawn uniformly
    for owner, total in zip(owners, totals, strict=True):
        assert all(abs(counts[t] - total / len(owner)) < 5 * (total / len(owner)) ** 0.5 for t in owner)


def test_users_of_a_batch_are_distinct() -> None:
    many = Ragged.of([[10 * u + i for i in range(6)] for u in range(1, 101)])
    for size in (7, 20, 60, 100):
        made = RandomCuts(many, window=5, batch_size=size, device="cpu")
        for batch in made(torch.Generator().manual_seed(size)):
            assert len(set((batch.targets // 10).tolist())) == batch.n_targets


@pytest.mark.fidelity("S16")
def test_the_seed_decides_users_and_cuts() -> None:
    assert cuts(1) == cuts(1) != cuts(2)


@pytest.mark.fidelity("S14")
def test_short_users_and_large_batches_are_no_trouble() -> None:
    made = RandomCuts(
        SEQUENCES, window=6, batch_size=64, device="cpu"
    )  # three users can be drawn; the last batch holds the rest
    assert {len(batch.targets) for batch in made(torch.Generator())} == {3, made.n_targets % 3}
    short = Ragged.of([[1, 2, 3, 4], [5], []])
    assert cuts(sequences=short) == []
    nothing = EveryPrefix(short, window=6, batch_targets=4, weight="user", device="cpu")
    assert list(nothing(torch.Generator())) == []


@pytest.mark.fidelity("S13")
def test_large_item_numbers_stay_exact() -> None:
    base = 2**24 + 1
    sequences = Ragged(np.arange(base, base + 9), np.array([0, 9]))
    rows = cuts(sequences=sequences)
    assert all(inputs == list(range(target - len(inputs), target)) for inputs, target in rows)


@pytest.mark.parametrize("window", [4, 8, 50])
def test_every_target_from_the_fifth_event_on_once(window: int) -> None:
    rows = prefixes(window=window)
    assert sorted(t for _, t, _ in rows) == sorted([*range(5, 11), *range(24, 43), 54])
    for inputs, target, _ in rows:
        assert 4 <= len(inputs) <= window and inputs == list(range(target - len(inputs), target))


def test_longer_sequences_are_cut_from_the_newest_event_back() -> None:
    context = {t: len(inputs) for inputs, t, _ in prefixes(window=8)}
    # 23 events 20..42: windows of inputs 34..41, 29..36, 24..31, then what is left, 20..26
    assert [context[t] for t in (42, 38, 37, 33, 32, 28, 27, 24)] == [8, 4, 8, 4, 8, 4, 7, 4]


def test_weights_let_all_users_weigh_the_same() -> None:
    rows = prefixes(window=8, weight="user")
    sums = [sum(w for _, t, w in rows if low <= t <= high) for low, high in ((1, 10), (20, 42), (50, 54))]
    assert sums == pytest.approx([len(rows) / 3] * 3)
