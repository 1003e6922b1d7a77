"""Histories as tensors: what a model sees of a user when it is asked for scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchbed.data.dataset import Ragged, Spans

RUN_EVENTS = 2**23
"""Most events in a run of histories; a single history may have more."""


@dataclass(frozen=True)
class Histories:
    """A block of user histories on one device, oldest event first, none cut.

    Attributes
    ----------
    users
        (B,) int64, indices into the prepared dataset's users.
    items
        (E,) int64, all events of the block, row after row; 0 is an item outside the candidates.
    offsets
        (B + 1,) int64; row ``b`` is ``items[offsets[b]:offsets[b + 1]]``.

    Examples
    --------
    >>> block = Histories.of(np.array([7, 8]), Ragged.of([[3, 4, 5], [6]]))
    >>> block.last(2)[0].tolist(), block.last(2)[1].tolist()
    ([[4, 5], [6, 0]], [2, 1])
    """

    users: Tensor
    items: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, users: np.ndarray, histories: Ragged | Spans, device: str | torch.device = "cpu") -> Histories:
        """Move histories to a device, end to end."""
        rows = histories if isinstance(histories, Ragged) else histories.packed()
        return cls(
            torch.as_tensor(users, dtype=torch.int64).to(device),
            torch.as_tensor(rows.values, dtype=torch.int64).to(device),
            torch.as_tensor(rows.offsets, dtype=torch.int64).to(device),
        )

    def __len__(self) -> int:
        return len(self.users)

    @property
    def device(self) -> torch.device:
        """Where the block is."""
        return self.items.device

    @property
    def lengths(self) -> Tensor:
        """(B,) number of events of each history."""
        return self.offsets.diff()

    @property
    def rows(self) -> Tensor:
        """(E,) the row of every event."""
        return torch.repeat_interleave(torch.arange(len(self), device=self.device), self.lengths)

    def block(self, start: int, stop: int) -> Histories:
        """Rows ``start`` to ``stop``, as views."""
        low, high = int(self.offsets[start]), int(self.offsets[stop])
        return Histories(self.users[start:stop], self.items[low:high], self.offsets[start : stop + 1] - low)

    def known(self) -> Histories:
        """The same rows without events on items outside the candidates."""
        mask = self.items > 0
        if bool(mask.all()):
            return self
        counts = torch.cat([mask.new_zeros(1, dtype=torch.int64), mask.cumsum(0)])
        return Histories(self.users, self.items[mask], counts[self.offsets])

    def last(self, n: int) -> tuple[Tensor, Tensor]:
        """The newest ``n`` events of every row, left-aligned and padded with 0 on the right.

        Returns
        -------
        items
            (B, min(n, longest)) int64; at least one column.
        lengths
            (B,) int64 number of events kept.
        """
        lengths = self.lengths.clamp(max=n)
        width = max(1, int(lengths.max())) if len(self) else 1
        column = torch.arange(width, device=self.device)
        index = (self.offsets[1:] - lengths)[:, None] + column
        inside = column < lengths[:, None]
        if len(self.items) == 0:
            return torch.zeros_like(index), lengths
        return torch.where(inside, self.items[index.clamp(max=len(self.items) - 1)], 0), lengths


class CaseHistories:
    """The histories of many cases, of which no more than a run is written out at once.

    Those of ``targets: every_next`` overlap: end to end they may take more memory than there is. Where all fit into one run,
    they move to the device once and stay there.

    Parameters
    ----------
    users, histories
        Of the cases.
    device
        Where blocks are needed.

    Attributes
    ----------
    bounds
        The first case of each run, and the one after its last.

    Examples
    --------
    >>> rows = CaseHistories(np.array([7, 7]), Spans(np.array([3, 4]), np.array([0, 0]), np.array([1, 2])))
    >>> rows.block(1, 2).items.tolist(), [(start, stop) for start, stop, _ in rows.runs()]
    ([3, 4], [(0, 2)])
    """

    def __init__(self, users: np.ndarray, histories: Ragged | Spans, device: str | torch.device = "cpu") -> None:
        self.users, self.device = users, torch.device(device)
        self._rows = Spans.of(histories)
        self.bounds = list(self._rows.runs(RUN_EVENTS))
        self._whole = Histories.of(users, self._rows, self.device) if len(self.bounds) <= 1 else None

    def __len__(self) -> int:
        return len(self._rows)

    def block(self, start: int, stop: int) -> Histories:
        """The histories of the cases from ``start`` to before ``stop``."""
        if self._whole is not None:
            return self._whole.block(start, stop)
        return Histories.of(self.users[start:stop], self._rows.packed(start, stop), self.device)

    def runs(self) -> Iterator[tuple[int, int, Histories]]:
        """All histories, run after run, with the first and the last case of each."""
        for start, stop in self.bounds:
            yield start, stop, self.block(start, stop)
