"""Pairwise learning: triples of a user, an item of the history and an item outside it, and the loss over them.

The authors of ConvNCF minimise *sums* over a batch, with penalties on the same scale, so that the size of the batch decides how
much a penalty weighs. The training loop wants the mean for its report, and takes whatever gradient a loss has:
:func:`shown_as_mean` has the value of the one and the gradient of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchbed.data.dataset import Ragged
from benchbed.data.histories import Histories
from benchbed.models.counter import Outside
from benchbed.models.patch_products import PatchBlock, PatchWeights, pairs_per_block, spread_patches


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Sum over triples of log(1 + exp(-(s+ - s-))), finite at any difference.

    Examples
    --------
    >>> bpr(torch.tensor([-500.0]), torch.tensor([500.0]))
    tensor(1000.)
    """
    return F.softplus(negative - positive).sum()


def shown_as_mean(total: Tensor, n: int) -> Tensor:
    """A scalar with the value ``total / n`` and the gradient of ``total``.

    Examples
    --------
    >>> x = torch.tensor(3.0, requires_grad=True)
    >>> shown = shown_as_mean(x.square(), 9)
    >>> shown.backward()
    >>> shown.item(), x.grad.item()
    (1.0, 6.0)
    """
    return (total / max(1, n)).detach() + (total - total.detach())


@dataclass(frozen=True)
class Triples:
    """A batch.

    Attributes
    ----------
    users
        (n,) rows of the training users.
    positives
        (n,) items.
    negatives
        (n, m) items outside each user's training events, m candidates each.
    phase
        What the batch is for.
    """

    users: Tensor
    positives: Tensor
    negatives: Tensor
    phase: str = ""

    @property
    def n_targets(self) -> int:
        """Training targets of the epoch; those of a pre-training are not counted twice."""
        return 0 if self.phase == PRETRAINING else len(self.users)


PRETRAINING = "pretraining"


class TripleBatches:
    """Every training event once an epoch, in random order, each with negatives of its own; the last batch is a partial one.

    Negatives are uniform over the items that the user has no training event on. A user with events on all items has none,
    and is left out. All random numbers come from the generator, so that whatever else a model draws changes no batch.

    Parameters
    ----------
    sequences
        Training events of every user.
    n_items
        Number of items.
    device
        Where the batches are made.
    """

    def __init__(self, sequences: Ragged, n_items: int, device: str | torch.device = "cpu") -> None:
        histories = Histories.of(torch.arange(len(sequences)).numpy(), sequences, device)
        self._outside = Outside(histories, n_items)
        rows = histories.rows
        usable = self._outside.room[rows] > 0
        self.users, self.items = rows[usable], histories.items[usable]

    def __call__(self, generator: torch.Generator, batch_size: int, candidates: int = 1, phase: str = "") -> Iterator[Triples]:
        """The batches of one epoch.

        Parameters
        ----------
        generator
            On the processor, wherever the batches are.
        batch_size
            Triples of a batch.
        candidates
            Negatives drawn for each event.
        phase
            Of the batches.
        """
        if len(self.users) == 0:
            return  # everybody has met everything: there is nothing to tell a positive from
        device = self.users.device
        order = torch.randperm(len(self.users), generator=generator).to(device)
        drawn = torch.rand(len(self.users), candidates, generator=generator, dtype=torch.float64).to(device)
        for chosen, uniform in zip(torch.split(order, batch_size), torch.split(drawn, batch_size), strict=True):
            users = self.users[chosen]
            room = self._outside.room[users][:, None]
            numbers = torch.minimum((uniform * room).to(torch.int64), room - 1)
            negatives = self._outside.pick(users.repeat_interleave(candidates), numbers.flatten()).view_as(numbers)
            yield Triples(users, self.items[chosen], negatives, phase)


class _BlockedBPR(torch.autograd.Function):
    """Forward pass that already holds the gradients, a block of triples at a time, each of which stays in the cache."""

    @staticmethod
    def forward(ctx: Any, form: PatchWeights, kept: Tensor | None, *tensors: Tensor) -> Tensor:
        users, positives, negatives, head = tensors[:4]
        weights, wanted = form.with_tensors(tensors[4:]), ctx.needs_input_grad[2:]
        of_users, of_items = wanted[0], any(wanted[1:])
        gradients = [
            torch.empty_like(tensor) if wants else tensor.new_zeros(0) for tensor, wants in zip(tensors, wanted, strict=True)
        ]
        sums = [torch.zeros_like(tensor) for tensor in tensors[3:]] if any(wanted[3:]) else None
        size = max(1, pairs_per_block(form, users.device) // 2)
        block = PatchBlock(weights, 2 * min(size, len(users)), learning=any(wanted))
        total = users.new_zeros(())
        for start in range(0, len(users), size):
            part = slice(start, start + size)
            items = torch.cat([positives[part], negatives[part]])
            products = weights.item_products(items)
            patches = weights.user_patches(users[part])
            found = block.forward(spread_patches(torch.cat([patches, patches]), products), products, len(items), 1)
            factors = None if kept is None else kept[:, part].flatten(0, 1)
            used = found if factors is None else found * factors
            margin = torch.sub(*(used @ head).view(2, -1))
            total += bpr(margin, torch.zeros_like(margin))
            if not any(wanted):
                continue
            slope = -torch.sigmoid(-margin)
            slope = torch.cat([slope, -slope])
            if sums is not None:
                sums[0].addmv_(used.T, slope)
            of_features = torch.outer(slope, head)
            below = block.backward(of_features if factors is None else of_features.mul_(factors), sums and sums[1:])
            if of_users:
                gradients[0][part] = torch.add(*block.to_users(below).chunk(2))
            if of_items:
                both = block.to_items(below, items, sums and sums[1:]).chunk(2)
                for whole, half, wants in zip(gradients[1:3], both, wanted[1:3], strict=True):
                    if wants:
                        whole[part] = half
        ctx.save_for_backward(*gradients[:3], *(sums or gradients[3:]))
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[2:]
        return (
            None,
            None,
            *(saved * outputs[0] if wants else None for saved, wants in zip(ctx.saved_tensors, wanted, strict=True)),
        )


def tower_bpr(
    weights: PatchWeights, head: Tensor, users: Tensor, positives: Tensor, negatives: Tensor, kept: Tensor | None = None
) -> Tensor:
    """The sum :func:`bpr` of a tower's scores, in the memory of one block of triples, however many there are.

    Parameters
    ----------
    weights
        Of the tower.
    head
        (C,) weights of the features in the score; a bias of the score would cancel.
    users, positives, negatives
        (n, d) vectors of each triple.
    kept
        (2, n, C) factors on the features of positives and negatives (dropout), or None.

    Returns
    -------
    Tensor
        A scalar, with gradients to all but ``kept``.
    """
    made: Tensor = _BlockedBPR.apply(  # type: ignore[no-untyped-call]  # torch has no types here
        weights.detach(), kept, users, positives, negatives, head, *weights.tensors
    )
    return made
