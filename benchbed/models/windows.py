"""Training batches of sequence models, as index arithmetic on tensors that already sit on the device.

Two ways to show a sequence of events to a recurrent model:

``windows``
    Each event is encoded once and the loss is taken at every position. A sequence is cut into windows from its newest event
    back; a window that does not start the sequence is preceded by ``burn_in`` events that are encoded without loss.
``prefixes``
    Each target is a sample of its own with the last ``window`` events before it as input (Tan et al., DLRS 2016). The slow
    reference form: one epoch encodes every event up to ``window`` times.

Both hold each training target exactly once an epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchbed.data.dataset import Ragged


@dataclass(frozen=True)
class SequenceBatch:
    """Inputs and the places that carry a loss.

    Attributes
    ----------
    inputs
        (B, T) int64 items, left-aligned, padded with 0.
    lengths
        (B,) number of inputs of each row.
    places
        (n_targets,) index into the flattened (B, T) outputs.
    targets
        (n_targets,) the item that came next at each place.
    """

    inputs: Tensor
    lengths: Tensor
    places: Tensor
    targets: Tensor

    @property
    def n_targets(self) -> int:
        """Places with a loss."""
        return len(self.targets)


class SequenceBatches:
    """Draws the batches of an epoch.

    Parameters
    ----------
    sequences
        Training sequences, every item inside the candidates.
    window
        Positions with a loss in one window (or input length of one prefix).
    burn_in
        Events encoded before a window without loss.
    batch_targets
        Targets of one batch, up to the size of its last window.
    prefixes
        Use the prefix form.
    device
        Where the batches are made.
    """

    def __init__(
        self, sequences: Ragged, *, window: int, burn_in: int, batch_targets: int, prefixes: bool, device: str | torch.device
    ) -> None:
        self.items = torch.as_tensor(sequences.values, dtype=torch.int64).to(device)
        starts, ends = (torch.as_tensor(part, dtype=torch.int64) for part in (sequences.offsets[:-1], sequences.offsets[1:]))
        step = 1 if prefixes else window
        counts = ((ends - starts - 1).clamp(min=0) + step - 1) // step
        row = torch.repeat_interleave(torch.arange(len(starts)), counts)
        place = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
        stop = ends[row] - 1 - place * step  # one past the window's newest input
        loss_start = torch.maximum(stop - step, starts[row])
        first = torch.maximum(stop - window if prefixes else loss_start - burn_in, starts[row])
        self.first, self.loss_start, self.stop = (part.to(device) for part in (first, loss_start, stop))
        self.batch_targets = batch_targets

    @property
    def n_targets(self) -> int:
        """Targets of one epoch."""
        return int((self.stop - self.loss_start).sum())

    def __call__(self, generator: torch.Generator) -> Iterator[SequenceBatch]:
        """One epoch: windows in random order; neighbours in length share a batch, so that little padding is computed."""
        device = self.items.device
        order = torch.randperm(len(self.first), generator=generator)
        targets = (self.stop - self.loss_start).cpu()
        encoded = (self.stop - self.first).cpu()
        chunk = (targets[order].cumsum(0) - 1) // (self.batch_targets * 16)  # sorted by length within about 16 batches only
        order = order[torch.argsort(chunk * (int(encoded.max()) + 1) + encoded[order], stable=True)] if len(order) else order
        batch = (targets[order].cumsum(0) - 1) // self.batch_targets
        sizes = torch.unique_consecutive(batch, return_counts=True)[1].tolist()
        groups = torch.split(order, sizes)
        for pick in torch.randperm(len(groups), generator=generator).tolist():
            yield self._batch(groups[pick].to(device))

    def _batch(self, chosen: Tensor) -> SequenceBatch:
        first, loss_start, stop = self.first[chosen], self.loss_start[chosen], self.stop[chosen]
        lengths = stop - first
        column = torch.arange(int(lengths.max()), device=first.device)
        index = (first[:, None] + column).clamp(max=len(self.items) - 1)
        inside = column < lengths[:, None]
        places = (inside & (column >= (loss_start - first)[:, None])).flatten().nonzero().squeeze(1)
        targets = self.items[(index + 1).clamp(max=len(self.items) - 1).flatten()[places]]
        return SequenceBatch(torch.where(inside, self.items[index], 0), lengths, places, targets)
