"""Session-parallel batches: many sessions side by side, one event of each a step, the recurrent state carried along.

A batch has slots. Every step shows the next event of each slot's session; where a session has ended, the next unread one takes
the slot and starts from a zero state. When no unread session is left, a slot whose session ends falls away: the batch shrinks,
so that every session of two events or more gives all its pairs. The order is that of the sessions and never shuffled (Hidasi et
al., ICLR 2016).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchbed.data.dataset import IntArray, Ragged

_STEPS_AT_ONCE = 1024  # views are made for so many steps together: cheap a step, and little memory


class SessionStep(NamedTuple):
    """One step of all slots.

    Attributes
    ----------
    inputs, targets
        (M,) int64 items, and the items that come next in their sessions.
    slots
        (M,) int64 rows of the previous step's state that go on. The first step counts the rows of a state of ``batch_size``.
    reset
        (M,) bool, True where a session starts; its state is zero before the step.
    same_rows
        ``slots`` is 0..M-1 of M: no slot fell away.
    any_reset
        Some session starts.
    """

    inputs: Tensor
    targets: Tensor
    slots: Tensor
    reset: Tensor
    same_rows: bool
    any_reset: bool

    @property
    def n_targets(self) -> int:
        """Slots of this step."""
        return len(self.inputs)

    def carry(self, state: Tensor) -> Tensor:
        """The state before this step, from the state after the previous one: (..., rows, hidden) -> (..., M, hidden)."""
        if not self.same_rows:
            state = state.index_select(-2, self.slots)
        return state.masked_fill(self.reset[:, None], 0.0) if self.any_reset else state


class SessionParallelBatches:
    """The steps of an epoch, scheduled once.

    Parameters
    ----------
    sequences
        Sessions. One of fewer than two events has no pair and is left out.
    order
        Rows of ``sequences`` in the order in which they are read, such as by start time; None for the order in which they are.
    batch_size
        Slots. There may be fewer sessions than slots.
    in_batch_only
        Negatives come from the other slots alone: an epoch ends when one slot is left. Its pairs are not trained on.
    device
        Where the batches are made.

    Examples
    --------
    >>> batches = SessionParallelBatches(
    ...     Ragged.of([[1, 2, 3], [4, 5], [6, 7]]), order=None, batch_size=2, in_batch_only=False, device="cpu"
    ... )
    >>> [(step.inputs.tolist(), step.targets.tolist(), step.reset.tolist()) for step in batches]
    [([1, 4], [2, 5], [True, True]), ([2, 6], [3, 7], [False, True])]
    """

    def __init__(
        self,
        sequences: Ragged,
        *,
        order: IntArray | None,
        batch_size: int,
        in_batch_only: bool,
        device: str | torch.device,
    ) -> None:
        rows = np.arange(len(sequences)) if order is None else np.asarray(order, dtype=np.int64)
        pairs = sequences.lengths[rows] - 1
        rows, pairs = rows[pairs > 0], pairs[pairs > 0]
        slot, start = _place(pairs, batch_size)
        # One line a pair, sorted by step and then by slot.
        session = np.repeat(np.arange(len(rows)), pairs)
        place = np.arange(len(session)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
        step = start[session] + place
        sizes = np.bincount(step) if len(step) else np.zeros(0, dtype=np.int64)
        if in_batch_only:
            sizes = sizes[sizes > 1]  # sizes never grow, so these are the first steps
        sorted_pairs = np.argsort(step * batch_size + slot[session])[: sizes.sum()]
        session, place, step = session[sorted_pairs], place[sorted_pairs], step[sorted_pairs]
        event = sequences.offsets[rows[session]] + place
        carried = _previous_rows(slot[session], step, sizes, batch_size)

        self.batch_size = batch_size
        self.n_targets = len(event)
        items = torch.as_tensor(sequences.values, dtype=torch.int64)
        where = torch.as_tensor(event)
        self._columns = tuple(
            part.to(device)
            for part in (
                items[where],
                items[where + 1],
                torch.as_tensor(carried),
                torch.as_tensor(np.ascontiguousarray(place == 0)),
            )
        )
        before = np.concatenate([np.full(1, batch_size), sizes[:-1]])[: len(sizes)]
        starts = np.bincount(step[place == 0], minlength=len(sizes))
        self._sizes: list[int] = sizes.tolist()
        self._same_rows: list[bool] = (sizes == before).tolist()
        self._any_reset: list[bool] = (starts > 0).tolist()

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[SessionStep]:
        """One epoch; every epoch is the same."""
        begin = 0
        for first in range(0, len(self), _STEPS_AT_ONCE):
            steps = slice(first, first + _STEPS_AT_ONCE)
            sizes = self._sizes[steps]
            end = begin + sum(sizes)
            views = (torch.split(column[begin:end], sizes) for column in self._columns)
            yield from map(SessionStep, *views, self._same_rows[steps], self._any_reset[steps])
            begin = end


def _place(pairs: IntArray, batch_size: int) -> tuple[IntArray, IntArray]:
    """The slot of every session and the step at which it starts: the slot that is free first takes the next one."""
    n = len(pairs)
    width = min(batch_size, n)
    slots, starts = np.arange(n), np.zeros(n, dtype=np.int64)
    # (step at which the slot is free, slot) as one number, so that a comparison is one of integers
    free = (pairs[:width] * batch_size + np.arange(width)).tolist()
    heapq.heapify(free)
    replace = heapq.heapreplace
    taken = [replace(free, free[0] + length * batch_size) for length in pairs[width:].tolist()]
    if taken:
        starts[width:], slots[width:] = np.divmod(np.array(taken, dtype=np.int64), batch_size)
    return slots, starts


def _previous_rows(slot: IntArray, step: IntArray, sizes: IntArray, batch_size: int) -> IntArray:
    """For every pair the row that its slot had one step earlier; of the first step the slot itself."""
    begin = np.cumsum(sizes) - sizes
    rows = np.arange(len(slot)) - begin[step]
    carried = rows.copy()
    # Rows move only where slots fall away, which happens in the last steps of an epoch alone.
    for at in np.flatnonzero(np.diff(sizes)) + 1:
        now = slot[begin[at] : begin[at] + sizes[at]]
        carried[begin[at] : begin[at] + sizes[at]] = np.searchsorted(slot[begin[at - 1] : begin[at]], now)
    return carried
