"""Items drawn at random for users, without replacement, so that what is drawn for one depends on nobody else.

Every user (or case) has an endless stream of numbers, a hash of a seed, a key and a counter; drawn are the first distinct ones
that are not excluded. That is a uniform sample without replacement, whatever the order in which rows are served. The hash is
the finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pandas.util import hash_array

from benchbed.data.dataset import IntArray, Ragged

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_BLOCK_NUMBERS, _BLOCK_ROWS = 2**22, 2**14
"""Most numbers and rows that are looked at together; a single row may have more numbers."""


def hashed_ids(ids: Sequence[str]) -> IntArray:
    """63-bit hashes of raw ids, for keys that do not change when users are added.

    Examples
    --------
    >>> hashed_ids(["ann", "bob"])[1] == hashed_ids(["bob"])[0]
    np.True_
    """
    return (hash_array(np.array(ids, dtype=object)) >> np.uint64(1)).astype(np.int64)


def combined(keys: IntArray, numbers: IntArray | int) -> IntArray:
    """Keys of things that belong to other things, such as the third case of a user."""
    return (
        _mixed(keys.astype(np.uint64) ^ _mixed(np.asarray(numbers, np.int64).astype(np.uint64) + _STEP)) >> np.uint64(1)
    ).astype(np.int64)


def stream(seed: int, keys: IntArray, counters: IntArray, limit: int) -> IntArray:
    """Numbers from 1 to ``limit``: entry ``counters[i]`` (from 0) of the stream of ``keys[i]``.

    Examples
    --------
    >>> numbers = stream(7, np.array([5, 5, 9, 9]), np.array([0, 1, 0, 1]), 1000)
    >>> numbers.tolist() == [*stream(7, np.array([5, 5]), np.array([0, 1]), 1000), *numbers[2:]]
    True
    """
    start = _mixed(np.uint64(seed) + _STEP * np.ones(1, np.uint64))
    of_key = _mixed(start ^ _mixed(keys.astype(np.uint64) + _STEP))
    bits = _mixed((of_key ^ _mixed(counters.astype(np.uint64) + _STEP)) + _STEP)
    return (bits >> np.uint64(11)).astype(np.int64) % limit + 1


def _mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    for shift, factor in _FACTORS:
        value = (value ^ (value >> shift)) * factor
    return value ^ (value >> np.uint64(31))


def draw(seed: int, keys: IntArray, wanted: IntArray, excluded: Ragged, limit: int) -> Ragged:
    """For each row the first distinct numbers of its stream that are not excluded.

    Parameters
    ----------
    seed
        Another seed, other numbers.
    keys
        (N,) of the streams.
    wanted
        (N,) how many are drawn. Where fewer are free, all of these are.
    excluded
        N rows of numbers that are never drawn; they may repeat. Numbers outside 1..``limit`` mean nothing.
    limit
        Numbers are drawn from 1 to this.

    Returns
    -------
    Ragged
        N rows, in the order of drawing.

    Examples
    --------
    >>> both = draw(0, np.array([11, 12]), np.array([2, 5]), Ragged.of([[1, 2], [3, 3, 9]]), 5)
    >>> alone = draw(0, np.array([11]), np.array([2]), Ragged.of([[1, 2]]), 5)
    >>> sorted(both[1].tolist()), both[0].tolist() == alone[0].tolist()
    ([1, 2, 4, 5], True)
    """
    parts: list[Ragged] = []
    sizes = np.cumsum(wanted + excluded.lengths)
    start = 0
    while start < len(keys):
        before = int(sizes[start - 1]) if start else 0
        stop = max(start + 1, min(start + _BLOCK_ROWS, int(np.searchsorted(sizes, before + _BLOCK_NUMBERS, side="right"))))
        rows = np.arange(start, stop)
        parts.append(_drawn(seed, keys[rows], wanted[rows], excluded.take(rows), limit))
        start = stop
    lengths = np.concatenate([np.zeros(1, np.int64), *(part.lengths for part in parts)])
    return Ragged(np.concatenate([np.zeros(0, np.int64), *(part.values for part in parts)]), np.cumsum(lengths))


def _drawn(seed: int, keys: IntArray, wanted: IntArray, excluded: Ragged, limit: int) -> Ragged:
    """As :func:`draw`, all rows at once."""
    width = limit + 1
    inside = (excluded.values >= 1) & (excluded.values <= limit)
    # Sorted, as np.unique leaves them: excluded and drawn numbers, one key for a row and a number.
    taken = np.unique((excluded.row_of_value * width + excluded.values)[inside])
    free = limit - np.bincount(taken // width, minlength=len(keys))
    missing = np.minimum(wanted, free)
    asked = np.zeros(len(keys), np.int64)
    found: list[IntArray] = []
    while missing.any():
        active = np.flatnonzero(missing)
        # As many as it takes on average, and some more: most rows are complete after one round.
        number = (1.1 * missing[active] * limit / (free[active] - 0.5 * missing[active])).astype(np.int64) + 4
        row = np.repeat(active, number)
        place = np.arange(len(row)) - np.repeat(np.cumsum(number) - number, number)
        drawn = stream(seed, keys[row], asked[row] + place, limit)
        asked[active] += number
        span = int(number.max())
        # Sorted as packed numbers, for plain sorting is several times faster than finding an order: by row, number, place ...
        packed = np.sort((row * width + drawn) * span + place)
        key, place = packed // span, packed % span
        new = np.concatenate([np.ones(1, bool), key[1:] != key[:-1]])
        if len(taken):
            new &= taken[np.minimum(np.searchsorted(taken, key), len(taken) - 1)] != key
        key, place = key[new], place[new]
        # ... and back again: by row, place.
        packed = np.sort((key // width * span + place) * width + key % width)
        row = packed // (span * width)
        key = row * width + packed % width
        rank = np.arange(len(row)) - np.searchsorted(row, np.arange(len(keys)))[row]
        key = key[rank < missing[row]]
        counts = np.bincount(key // width, minlength=len(keys))
        missing, free = missing - counts, free - counts
        found.append(key)
        taken = np.union1d(taken, key[missing[key // width] > 0])
    keyed = np.concatenate([np.zeros(0, np.int64), *found])
    row = keyed // width
    order = np.argsort(row, kind="stable")  # rounds follow one another, and so do the numbers of a stream
    counts = np.bincount(row, minlength=len(keys))
    return Ragged(keyed[order] % width, np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]))
