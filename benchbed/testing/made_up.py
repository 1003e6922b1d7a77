"""A small world for tests: sequences with an order to learn, item features, a graph, and cases of every awkward kind."""

from __future__ import annotations

import numpy as np

from benchbed.config import fingerprint
from benchbed.data.dataset import Cases, Features, Graph, IntArray, Ragged, Sequences, TrainingData


def made_up_data(users: int = 30, items: int = 28, longest: int = 12, seed: int = 0) -> TrainingData:
    """Training data that keeps every promise of :class:`TrainingData`, small enough for an epoch in milliseconds.

    Users walk along a ring of items with noise, so that order carries a signal. Items are numbered by falling number of
    training events; some have none. There are sequences of one event, repeated items, and validation cases with an empty
    history, with unknown items (0), and with an unknown target. Every second case is one of a training user, with the training
    sequence as its history; the others are of users whom training does not know.

    Parameters
    ----------
    users
        Training sequences, at least 4.
    items
        Candidates, at least 4.
    longest
        Events of the longest sequence, at least 4.
    seed
        Of everything random.

    Returns
    -------
    TrainingData
        With the item fields ``category`` (one value each, one item without) and ``tags`` (up to three values each), a
        knowledge graph that links items to their categories, times, and keys of the users.

    Examples
    --------
    >>> data = made_up_data()
    >>> data.n_items, len(data.train.items), sorted(data.item_features)
    (28, 30, ['category', 'tags'])
    >>> bool((data.item_counts[1:-1] >= data.item_counts[2:]).all())
    True
    """
    rng = np.random.default_rng(seed)
    lengths = np.concatenate([[1, 2, longest], rng.integers(3, longest + 1, users - 3)])
    walks = [_walk(rng, int(length), max(3, items - 3)) for length in lengths]
    raw = np.bincount(np.concatenate(walks), minlength=items)
    number = np.empty(items, np.int64)
    number[np.argsort(-raw, kind="stable")] = np.arange(1, items + 1)  # raw item -> index by falling count
    rows = [number[walk].tolist() for walk in walks]
    who = rng.permutation(users) + 1
    times = np.concatenate([np.arange(len(row)) * 60 + 1_000 * place for place, row in enumerate(rows)])
    names = np.empty(items + 1, dtype=object)
    names[0] = ""
    names[number] = [f"item {raw_number}" for raw_number in range(items)]
    return TrainingData(
        fingerprint=fingerprint("made up", users, items, longest, seed),
        n_items=items,
        item_counts=np.concatenate([[0], np.sort(raw)[::-1]]).astype(np.int64),
        item_ids=tuple(names.tolist()),
        train=Sequences(who, Ragged.of(rows), times.astype(np.int64)),
        valid=_cases(who, rows, items),
        item_features=_features(rng, number),
        graph=_graph(number),
        user_keys=np.random.default_rng([seed, 1]).integers(2**62, size=2 * users + 8),
    )


def _walk(rng: np.random.Generator, length: int, ring: int) -> IntArray:
    steps = np.where(rng.random(length) < 0.8, 1, rng.integers(0, ring, length))
    return np.asarray((rng.integers(ring) + np.cumsum(steps)) % ring, dtype=np.int64)


def _cases(who: IntArray, rows: list[list[int]], items: int) -> Cases:
    histories = [*rows, [], [0], [1, 0, 2, 0], [items]]
    targets = [[(row[-1] % items) + 1] for row in rows] + [[1], [2, 3], [3], [0, 4]]
    users = len(who) + 1 + np.arange(len(histories), dtype=np.int64)
    users[: len(rows) : 2] = who[::2]
    return Cases(users, Ragged.of(histories), Ragged.of(targets))


def _features(rng: np.random.Generator, number: IntArray) -> dict[str, Features]:
    items = len(number)
    category: list[list[int]] = [[] for _ in range(items + 1)]
    tags: list[list[int]] = [[] for _ in range(items + 1)]
    for place, item in enumerate(number.tolist()):
        category[item] = [] if place == 1 else [1 + place * 4 // items]
        tags[item] = sorted(1 + rng.permutation(5)[: rng.integers(0, 4)])
    return {
        "category": Features("category", Ragged.of(category), tuple(f"category {n}" for n in range(1, 5))),
        "tags": Features("tags", Ragged.of(tags), tuple(f"tag {n}" for n in range(1, 6))),
    }


def _graph(number: IntArray) -> Graph:
    """Every item belongs to one of four groups; the groups stand in a chain. Entities 1..items are the items."""
    items = len(number)
    groups = np.empty(items, np.int64)
    groups[number - 1] = items + 1 + np.arange(items) * 4 // items
    chain = items + 1 + np.arange(3)
    return Graph(
        heads=np.concatenate([np.arange(1, items + 1), chain]),
        relations=np.concatenate([np.full(items, 1), np.full(3, 2)]),
        tails=np.concatenate([groups, chain + 1]),
        n_entities=items + 4,
        n_relations=2,
        item_entity=np.arange(items + 1),
    )
