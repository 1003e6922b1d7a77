"""Softmax over a target and negatives that a whole batch shares, without ever storing the logits of all rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchbed.models.losses import BLOCK_BYTES


class _SampledCrossEntropy(torch.autograd.Function):
    """Forward pass that already holds the gradients, block by block."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, positive: Tensor, table: Tensor, own: Tensor, offsets: Tensor | None, weights: Tensor | None
    ) -> Tensor:
        rows = max(1, BLOCK_BYTES * (64 if states.is_cuda else 1) // (4 * len(table)))
        wants = any(ctx.needs_input_grad[:3])
        state_grad, positive_grad, table_grad = torch.empty_like(states), torch.empty_like(positive), torch.zeros_like(table)
        losses = torch.empty_like(positive)
        for start in range(0, len(states), rows):
            block = slice(start, start + rows)
            score = positive[block, None]
            logits = states[block] @ table.T
            if offsets is not None:
                logits -= offsets
            column = own[block, None].clamp(min=0)
            kept = logits.gather(1, column)
            logits.scatter_(1, column, kept.masked_fill_(own[block, None] >= 0, -torch.inf))
            largest = torch.maximum(logits.amax(1, keepdim=True), score)
            share = (score - largest).exp()
            others = logits.sub_(largest).exp_().sum(1, keepdim=True)
            total = others + share
            losses[block] = (total.log() + largest - score).squeeze(1)
            if wants:
                # Rows are scaled where they are d wide, not in the block of logits, which is m wide.
                scale = total.reciprocal() if weights is None else weights[block, None] / total
                torch.mm(logits, table, out=state_grad[block]).mul_(scale)
                table_grad.addmm_(logits.T, states[block] * scale)
                # Not share * scale - weight: where the target has nearly all of the sum, that would lose every digit.
                positive_grad[block] = -(others * scale).squeeze(1)
        ctx.save_for_backward(state_grad, positive_grad, table_grad)
        return losses.sum() if weights is None else losses @ weights

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        return (*(gradient * outputs[0] for gradient in ctx.saved_tensors), None, None, None)


def sampled_cross_entropy(
    states: Tensor,
    positive: Tensor,
    table: Tensor,
    own: Tensor,
    *,
    offsets: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean over rows of ``-log`` of the target's share in ``exp(positive) + sum of exp(states @ table.T - offsets)``.

    Parameters
    ----------
    states
        (n, d) float.
    positive
        (n,) logit of each row's target, corrected like the others.
    table
        (m, d) vectors of the negatives, the same ones for all rows.
    own
        (n,) int64: which negative is the row's own target (an accidental hit), which then does not count; -1 for none.
    offsets
        (m,) what is taken from the logits of the negatives: logarithms of expected counts, or None.
    weights
        (n,) weight of each row, or None for 1.

    Returns
    -------
    Tensor
        A scalar, the weighted sum divided by n. Differentiable in ``states``, ``positive`` and ``table``.

    Examples
    --------
    With all items as negatives it is the cross-entropy over all items:

    >>> states, table, targets = torch.randn(5, 3), torch.randn(7, 3), torch.tensor([0, 6, 2, 2, 1])
    >>> ours = sampled_cross_entropy(states, (states * table[targets]).sum(1), table, targets)
    >>> bool(torch.isclose(ours, torch.nn.functional.cross_entropy(states @ table.T, targets)))
    True
    """
    loss: Tensor = _SampledCrossEntropy.apply(  # type: ignore[no-untyped-call]  # torch has no types here
        states,
        positive,
        table,
        own,
        None if offsets is None else offsets.to(states.dtype),
        None if weights is None else weights.to(states.dtype),
    )
    return loss / max(1, len(states))


def own_columns(targets: Tensor, negatives: Tensor) -> Tensor:
    """Where each target stands among sorted, distinct negatives; -1 for one that is not there.

    Examples
    --------
    >>> own_columns(torch.tensor([5, 2, 9]), torch.tensor([2, 4, 9])).tolist()
    [-1, 0, 2]
    """
    place = torch.searchsorted(negatives, targets).clamp(max=len(negatives) - 1)
    return torch.where(negatives[place] == targets, place, -1)
