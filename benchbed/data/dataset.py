"""What training and evaluation see of the data: plain arrays, no files.

Item numbers here are *model indices* of one split: 0 is padding (and any item outside the candidates), 1..n_items are the
candidates, ordered by falling number of training events. User numbers are indices into the dataset's ``users.parquet``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, stored end to end.

    Attributes
    ----------
    values
        All values, row after row.
    offsets
        Row ``r`` is ``values[offsets[r]:offsets[r + 1]]``; length is the number of rows + 1.

    Examples
    --------
    >>> rows = Ragged.of([[3, 4], [], [5]])
    >>> [rows[r].tolist() for r in range(len(rows))]
    [[3, 4], [], [5]]
    """

    values: IntArray
    offsets: IntArray

    @classmethod
    def of(cls, rows: list[list[int]]) -> Ragged:
        """From lists."""
        lengths = np.array([len(r) for r in rows], dtype=np.int64)
        values = np.array([v for r in rows for v in r], dtype=np.int64)
        return cls(values, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> IntArray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> IntArray:
        """Number of values of every row."""
        return np.diff(self.offsets)

    @property
    def row_of_value(self) -> IntArray:
        """The row of every value."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def take(self, rows: IntArray) -> Ragged:
        """The given rows, in the given order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        index = np.repeat(self.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged(self.values[index], offsets)

    def followed_by(self, other: Ragged) -> Ragged:
        """Each row with the same row of another after it.

        Examples
        --------
        >>> Ragged.of([[1], [2, 3]]).followed_by(Ragged.of([[4, 5], []])).values.tolist()
        [1, 4, 5, 2, 3]
        """
        offsets = self.offsets + other.offsets
        values = np.empty(offsets[-1], np.int64)
        for part, starts in ((self, offsets[:-1]), (other, offsets[:-1] + self.lengths)):
            values[np.repeat(starts - part.offsets[:-1], part.lengths) + np.arange(len(part.values))] = part.values
        return Ragged(values, offsets)

    def held_by(self, other: Ragged) -> NDArray[np.bool_]:
        """For every value whether the same row of another holds it; values are not negative.

        Examples
        --------
        >>> Ragged.of([[1, 2], [2]]).held_by(Ragged.of([[2, 2], [1]])).tolist()
        [False, True, False]
        """
        width = 1 + max(int(rows.values.max(initial=0)) for rows in (self, other))
        mine, given = (rows.row_of_value * width + rows.values for rows in (self, other))
        wanted, of_value = np.unique(mine, return_inverse=True)
        hit = np.zeros(len(wanted), bool)
        if len(wanted):
            # A search of the many in the few: cheaper than sorting whole histories.
            place = np.minimum(np.searchsorted(wanted, given), len(wanted) - 1)
            hit[place[wanted[place] == given]] = True
        return hit[of_value]

    def keep(self, mask: NDArray[np.bool_]) -> Ragged:
        """The same rows with only the values where ``mask`` (one flag a value) is true."""
        counts = np.concatenate([np.zeros(1, np.int64), np.cumsum(mask)])
        return Ragged(self.values[mask], counts[self.offsets])


@dataclass(frozen=True)
class Spans:
    """Rows that are pieces of the same values and may overlap, as the histories of a user's consecutive cases do.

    Attributes
    ----------
    values
        What the rows are pieces of.
    starts, ends
        Row ``r`` is ``values[starts[r]:ends[r]]``.

    Examples
    --------
    >>> rows = Spans(np.array([3, 4, 5]), np.array([0, 0, 0]), np.array([1, 2, 3]))
    >>> [rows[r].tolist() for r in range(len(rows))]
    [[3], [3, 4], [3, 4, 5]]
    >>> rows.packed(1, 3).values.tolist(), list(rows.runs(5))
    ([3, 4, 3, 4, 5], [(0, 2), (2, 3)])
    """

    values: IntArray
    starts: IntArray
    ends: IntArray

    @classmethod
    def of(cls, rows: Ragged | Spans) -> Spans:
        """The same rows, nothing copied."""
        return rows if isinstance(rows, Spans) else cls(rows.values, rows.offsets[:-1], rows.offsets[1:])

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, row: int) -> IntArray:
        return self.values[self.starts[row] : self.ends[row]]

    @property
    def lengths(self) -> IntArray:
        """Number of values of every row."""
        return self.ends - self.starts

    def take(self, rows: IntArray) -> Spans:
        """The given rows, in the given order."""
        return Spans(self.values, self.starts[rows], self.ends[rows])

    def packed(self, start: int = 0, stop: int | None = None) -> Ragged:
        """The rows from ``start`` to before ``stop``, end to end: as much memory as their lengths add up to."""
        starts, ends = self.starts[start:stop], self.ends[start:stop]
        if np.array_equal(starts[1:], ends[:-1]):  # they lie end to end already
            low, high = (int(starts[0]), int(ends[-1])) if len(starts) else (0, 0)
            return Ragged(self.values[low:high], np.append(starts, high) - low)
        lengths = ends - starts
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        index = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Ragged(self.values[index], offsets)

    def runs(self, size: int) -> Iterator[tuple[int, int]]:
        """Where rows begin and end that hold at most so many values together; a longer row is a run of its own."""
        ends = np.cumsum(self.lengths)
        start = 0
        while start < len(self):
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + size, side="right")))
            yield start, stop
            start = stop


@dataclass(frozen=True)
class Sequences:
    """Training sequences: every training user's events, oldest first; the rows in the order of their first events.

    Sequences that begin at the same time, and those without times, keep the order of the log where the split trusts it
    (``ties: file``), else that of a hash. Session-parallel batches take the rows as they stand.

    ``users[r]`` is the user of row ``r`` of ``items``; ``timestamps`` are aligned with ``items.values`` (None without times).
    """

    users: IntArray
    items: Ragged
    timestamps: IntArray | None = None


@dataclass(frozen=True)
class Cases:
    """Evaluation cases: what a user did before (oldest first), and what the user did next.

    A user may have several cases (``targets: every_next``), one after the other, each with one target; their histories are
    pieces of one sequence then, for written out they would take memory by the square of its length.
    Histories are complete (not cut to any model's window). 0 stands for an item outside the candidates, in both parts.
    Targets of a case are distinct; ``repeats``, aligned with ``targets.values``, says how often each stood in the list that
    they were taken from (None: once each). ``others`` are the listed negatives of each case, where the protocol ranks or labels
    these alone instead of all candidates (None: it does not); with them a case of the click-through protocol may have no
    targets. 0 is again an item outside the candidates.
    """

    users: IntArray
    histories: Ragged | Spans
    targets: Ragged
    repeats: IntArray | None = None
    others: Ragged | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: IntArray) -> Cases:
        """The given cases, in the given order."""
        repeats = None if self.repeats is None else Ragged(self.repeats, self.targets.offsets).take(rows).values
        others = None if self.others is None else self.others.take(rows)
        return Cases(self.users[rows], self.histories.take(rows), self.targets.take(rows), repeats, others)


@dataclass(frozen=True)
class Labelled:
    """The training rows of a click-through split: pairs of user and item that were drawn before the split, with their labels.

    Attributes
    ----------
    users
        (N,) dataset user numbers.
    items
        (N,) model indices, 0 outside the candidates.
    labels
        (N,) 1 for an event, 0 for a drawn negative.
    """

    users: IntArray
    items: IntArray
    labels: IntArray

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Features:
    """One categorical field of items or users: the values of each row, from 1 (0 is padding, an empty row has none)."""

    name: str
    values: Ragged
    names: tuple[str, ...]


@dataclass(frozen=True)
class Graph:
    """Knowledge-graph triples; numbers count from 1. ``item_entity[i]`` is the entity of item ``i``, 0 for none."""

    heads: IntArray
    relations: IntArray
    tails: IntArray
    n_entities: int
    n_relations: int
    item_entity: IntArray


@dataclass(frozen=True)
class Planted:
    """Where the truth of a simulated dataset lies. For the ceiling alone: a model that competes does not look there.

    Attributes
    ----------
    truth
        Folder of the raw files that the simulator wrote.
    users
        The prepared ``users.parquet``, which tells the raw id of every user number.
    edges
        Moments at which validation and test begin for everybody, where a split has such.
    """

    truth: Path
    users: Path
    edges: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrainingData:
    """All that a trial may see: training events, validation cases, side information. The test set is not in here.

    Attributes
    ----------
    fingerprint
        Of the split.
    n_items
        Number of candidates; valid item indices are 1..n_items.
    item_counts
        Training events of each item, length n_items + 1, 0 at padding.
    item_ids
        Raw ids of items as text, length n_items + 1, "" at padding.
    train, valid
        Training sequences and validation cases.
    item_features
        By field name; rows are model indices, row 0 (padding) is empty.
    graph
        None when the dataset has none.
    planted
        None for data that nobody simulated.
    labelled
        Positive and negative training rows of a click-through split; None for every other. ``train`` holds the positives alone.
    user_keys
        A hash of each user's raw id, by user number: what random numbers for a user are keyed by. None for data without raw
        ids.
    """

    fingerprint: str
    n_items: int
    item_counts: IntArray
    item_ids: tuple[str, ...]
    train: Sequences
    valid: Cases
    item_features: Mapping[str, Features] = field(default_factory=dict)
    graph: Graph | None = None
    planted: Planted | None = None
    labelled: Labelled | None = None
    user_keys: IntArray | None = None
