"""Histories as tensors: what a model sees of a user when it is asked for scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchbed.data.dataset import Ragged


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
    def of(cls, users: np.ndarray, histories: Ragged, device: str | torch.device = "cpu") -> Histories:
        """Move histories to a device."""
        return cls(
            torch.as_tensor(users, dtype=torch.int64).to(device),
            torch.as_tensor(histories.values, dtype=torch.int64).to(device),
            torch.as_tensor(histories.offsets, dtype=torch.int64).to(device),
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
