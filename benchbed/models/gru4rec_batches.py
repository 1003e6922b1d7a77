"""Batches of GRU4Rec beside windows, prefixes and session-parallel steps: chunks of whole user histories, as RecPack trains.

Users side by side in batches, in the order in which they are and never shuffled; within a batch the longest history comes
first. A batch is cut into chunks of columns. Each chunk is one update; the recurrent state is carried to the next chunk of the
batch as a constant, and users whose history has ended fall away.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import torch
from torch import Tensor

from benchbed.data.dataset import IntArray, Ragged, Sequences
from benchbed.models.session_parallel import SessionParallelBatches, SessionStep


@dataclass(frozen=True)
class UserChunk:
    """Some columns of a batch of users, longest history first.

    Attributes
    ----------
    inputs
        (B, T) int64 items, padded with 0 on the right.
    places
        (n_targets,) index into the flattened (B, T) outputs.
    targets
        (n_targets,) the item that came next at each place.
    first
        Whether a batch begins, with a state of zero. Otherwise the state is that of the first B users of the chunk before.
    """

    inputs: Tensor
    places: Tensor
    targets: Tensor
    first: bool

    @property
    def n_targets(self) -> int:
        """Places with a loss."""
        return len(self.targets)


class UserChunks:
    """The chunks of an epoch.

    Parameters
    ----------
    sequences
        Training sequences. A user of one event has no target and takes a place in a batch all the same.
    batch_size
        Users of one batch.
    bptt
        Columns of one chunk at most: a batch whose longest history has L events is cut into ceil(L / bptt) parts of nearly
        equal width, the wider ones first.
    device
        Where the batches are made.

    Examples
    --------
    >>> chunks = UserChunks(Ragged.of([[1, 2], [3, 4, 5]]), batch_size=2, bptt=2, device="cpu")
    >>> [(chunk.inputs.tolist(), chunk.targets.tolist(), chunk.first) for chunk in chunks]
    [([[3, 4], [1, 2]], [4, 5, 2], True)]
    """

    def __init__(self, sequences: Ragged, *, batch_size: int, bptt: int, device: str | torch.device) -> None:
        self.items = torch.as_tensor(sequences.values, dtype=torch.int64).to(device)
        self.bptt = bptt
        lengths = sequences.lengths
        self._batches: list[tuple[Tensor, Tensor]] = []  # starts and lengths, longest first
        for begin in range(0, len(sequences), batch_size):
            rows = np.arange(begin, min(begin + batch_size, len(sequences)))
            rows = rows[np.argsort(-lengths[rows], kind="stable")]
            parts = (sequences.offsets[rows], lengths[rows])
            start, length = (torch.as_tensor(part, dtype=torch.int64).to(device) for part in parts)
            self._batches.append((start, length))

    def __iter__(self) -> Iterator[UserChunk]:
        """One epoch; every epoch is the same."""
        for start, length in self._batches:
            longest = int(length[0]) if len(length) else 0
            ends = (length - 1).tolist()  # targets of each row, falling
            for left, right in _cuts(longest, self.bptt):
                rows = sum(end > left for end in ends)
                if rows:
                    yield self._chunk(start[:rows], length[:rows], left, right)

    def _chunk(self, start: Tensor, length: Tensor, left: int, right: int) -> UserChunk:
        column = torch.arange(left, right, device=start.device)
        index = start[:, None] + column
        last = len(self.items) - 1
        inputs = torch.where(column < length[:, None], self.items[index.clamp(max=last)], 0)
        places = (column < length[:, None] - 1).flatten().nonzero().squeeze(1)
        return UserChunk(inputs, places, self.items[(index + 1).clamp(max=last).flatten()[places]], left == 0)


def _cuts(longest: int, width: int) -> list[tuple[int, int]]:
    """Where columns 0..longest are cut: parts that differ by one at most, the wider ones first."""
    if longest < 2:
        return []
    parts = math.ceil(longest / width)
    small, wider = divmod(longest, parts)
    edges = np.cumsum([0] + [small + 1] * wider + [small] * (parts - wider)).tolist()
    return list(pairwise(edges))


@dataclass(frozen=True)
class StepGroup:
    """Session-parallel steps of one update; gradients flow back through all of them, but not beyond a session's start."""

    steps: Sequence[SessionStep]
    first: bool

    @property
    def n_targets(self) -> int:
        """Targets of all steps."""
        return sum(step.n_targets for step in self.steps)


def step_groups(batches: SessionParallelBatches, bptt: int) -> Iterator[StepGroup]:
    """The steps of an epoch, ``bptt`` to an update."""
    steps, first = iter(batches), True
    while group := list(islice(steps, bptt)):
        yield StepGroup(group, first)
        first = False


def by_start_time(sequences: Sequences) -> IntArray | None:
    """Rows in the order of their first event; None, which is the order in which they are, where there are no times."""
    if sequences.timestamps is None:
        return None
    begin = np.minimum(sequences.items.offsets[:-1], max(0, len(sequences.timestamps) - 1))
    times = sequences.timestamps[begin] if len(sequences.timestamps) else np.zeros(len(begin), dtype=np.int64)
    return np.argsort(times, kind="stable")
