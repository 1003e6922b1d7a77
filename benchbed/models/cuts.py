"""Training batches of models that see a history as a whole: random cuts of users, or every prefix of a window at once.

Targets are the events from the fifth of a sequence on: the authors of ComiRec cut a sequence of n events before event k, drawn
from 4..n-1 (counted from 0). Users with fewer than 5 events have none, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchbed.data.dataset import Ragged
from benchbed.models.windows import SequenceBatch, SequenceBatches

CONTEXT = 4
"""Events before the earliest target."""


@dataclass(frozen=True)
class CutBatch:
    """One prefix a user.

    Attributes
    ----------
    inputs
        (B, T) items before the cut, the newest ``window`` of them, left-aligned, padded with 0.
    targets
        (B,) the item at the cut.
    """

    inputs: Tensor
    targets: Tensor

    @property
    def n_targets(self) -> int:
        """Users of the batch."""
        return len(self.targets)


@dataclass(frozen=True)
class PrefixBatch(SequenceBatch):
    """Windows with a target after each of their prefixes of 4 events or more.

    Attributes
    ----------
    weights
        (n_targets,) weight of each target, 1 on average over the epoch; None where all are 1.
    """

    weights: Tensor | None


class RandomCuts:
    """Draws users uniformly, all of a batch distinct, and one cut for each.

    An epoch holds as many targets as the sequences have (all but their first events), so that it is as long as other models'
    epochs; which of them occur, and how often, is chance. A batch is never larger than the number of users.

    Parameters
    ----------
    sequences
        Training sequences, every item inside the candidates.
    window
        Events kept before the cut.
    batch_size
        Users a batch.
    device
        Where the batches are made.
    """

    def __init__(self, sequences: Ragged, *, window: int, batch_size: int, device: str | torch.device) -> None:
        long_enough = np.flatnonzero(sequences.lengths > CONTEXT)
        self.items = torch.as_tensor(sequences.values, dtype=torch.int64).to(device)
        self.starts = torch.as_tensor(sequences.offsets[:-1][long_enough]).to(device)
        self.lengths = torch.as_tensor(sequences.lengths[long_enough]).to(device)
        self.window = window
        self.batch_size = min(batch_size, len(long_enough))
        self.n_targets = int((sequences.lengths - 1).clip(0).sum()) if len(long_enough) else 0

    def __call__(self, generator: torch.Generator) -> Iterator[CutBatch]:
        """One epoch."""
        for done in range(0, self.n_targets, max(1, self.batch_size)):
            size = min(self.batch_size, self.n_targets - done)
            users = _distinct(len(self.lengths), size, generator).to(self.items.device)
            where = torch.rand(size, generator=generator, dtype=torch.float64).to(self.items.device)
            cuts = CONTEXT + (where * (self.lengths[users] - CONTEXT)).long()
            yield self.batch(users, cuts)

    def batch(self, users: Tensor, cuts: Tensor) -> CutBatch:
        """The batch of given users (numbers among those with 5 events or more) and cuts."""
        lengths = cuts.clamp(max=self.window)
        stops = self.starts[users] + cuts
        column = torch.arange(int(lengths.max()), device=self.items.device)
        inside = column < lengths[:, None]
        index = torch.where(inside, (stops - lengths)[:, None] + column, 0)
        return CutBatch(torch.where(inside, self.items[index], 0), self.items[stops])


class EveryPrefix(SequenceBatches):
    """Windows whose every prefix of 4 events or more has a target; each such event of a sequence is a target once an epoch.

    A sequence that fits (``window`` events before its last one) is one window, and prefixes are those of the authors' cuts. A
    longer one is cut from its newest event back into windows of ``window`` events that overlap by the 3 that have no target;
    their first event then acts as the beginning of the history.

    Parameters
    ----------
    sequences, window, device
        As in :class:`RandomCuts`; ``window`` at least 4.
    batch_targets
        Targets of one batch, up to the size of its last window.
    weight
        ``user``: all users weigh the same, as where users are drawn; ``event``: all targets weigh the same.
    """

    def __init__(
        self,
        sequences: Ragged,
        *,
        window: int,
        batch_targets: int,
        weight: Literal["user", "event"],
        device: str | torch.device,
    ) -> None:
        self.items = torch.as_tensor(sequences.values, dtype=torch.int64).to(device)
        starts, ends = (torch.as_tensor(part, dtype=torch.int64) for part in (sequences.offsets[:-1], sequences.offsets[1:]))
        targets = (ends - starts - CONTEXT).clamp(min=0)
        step = window - CONTEXT + 1
        counts = (targets + step - 1) // step
        row = torch.repeat_interleave(torch.arange(len(starts)), counts)
        place = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
        stop = ends[row] - 1 - place * step  # one past the window's newest input
        first = torch.maximum(stop - window, starts[row])
        self.first, self.loss_start, self.stop = (part.to(device) for part in (first, first + CONTEXT - 1, stop))
        self.batch_targets = batch_targets
        mean = targets.sum().double() / (targets > 0).sum().clamp(min=1)
        self.weights = (mean / targets[row]).to(device) if weight == "user" else None

    def _batch(self, chosen: Tensor) -> PrefixBatch:
        made = super()._batch(chosen)
        weights = None
        if self.weights is not None:
            counts = self.stop[chosen] - self.loss_start[chosen]
            weights = torch.repeat_interleave(self.weights[chosen], counts, output_size=made.n_targets)
        return PrefixBatch(made.inputs, made.lengths, made.places, made.targets, weights)


def _distinct(n: int, size: int, generator: torch.Generator) -> Tensor:
    """``size`` distinct numbers below ``n``, uniformly; the cost grows with ``size``, not with ``n``, where that can be."""
    if 4 * size < n:
        drawn = torch.randint(n, (2 * size,), generator=generator)
        values, where = drawn.sort(stable=True)
        first = torch.ones_like(values, dtype=torch.bool)
        first[1:] = values[1:] != values[:-1]
        kept = where[first].sort().values[:size]  # in the order in which they were drawn
        if len(kept) == size:
            return drawn[kept]
    return torch.randperm(n, generator=generator)[:size]
