"""Losses of sequence models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK_BYTES = 2**21
"""Size of one block of logits: small enough for the processor's cache; a GPU takes 64 of them at a time."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Forward pass that already holds the gradients, block by block, so that no matrix of all logits ever exists."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        rows = max(1, BLOCK_BYTES * (64 if states.is_cuda else 1) // (4 * len(table)))
        wants = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        state_grad = torch.empty_like(states) if wants else None
        table_grad = torch.zeros_like(table) if wants else None
        losses = torch.empty(len(states), device=states.device, dtype=states.dtype)
        for start in range(0, len(states), rows):
            block = slice(start, start + rows)
            logits = states[block] @ table.T
            index = targets[block, None]
            chosen = logits.gather(1, index).squeeze(1)
            largest = logits.amax(1, keepdim=True)
            total = logits.sub_(largest).exp_().sum(1, keepdim=True)
            losses[block] = (total.log() + largest).squeeze(1) - chosen
            if state_grad is not None and table_grad is not None:
                gradient = logits.div_(total)
                gradient.scatter_add_(1, index, gradient.new_full(index.shape, -1.0))
                torch.mm(gradient, table, out=state_grad[block])
                table_grad.addmm_(gradient.T, states[block])
        ctx.save_for_backward(state_grad, table_grad)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        state_grad, table_grad = ctx.saved_tensors
        return state_grad * outputs[0], table_grad * outputs[0], None


def linear_cross_entropy(states: Tensor, table: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of ``softmax(states @ table.T)``, without ever storing the logits of all rows.

    Parameters
    ----------
    states
        (n, d) float.
    table
        (m, d) float, one row a class.
    targets
        (n,) int64 classes in 0..m-1.

    Returns
    -------
    Tensor
        A scalar; equals ``F.cross_entropy(states @ table.T, targets)``, gradients included.

    Examples
    --------
    >>> states, table, targets = torch.randn(5, 3), torch.randn(7, 3), torch.tensor([0, 6, 2, 2, 1])
    >>> ours = linear_cross_entropy(states, table, targets)
    >>> bool(torch.isclose(ours, torch.nn.functional.cross_entropy(states @ table.T, targets)))
    True
    """
    loss: Tensor = _LinearCrossEntropy.apply(states, table, targets)  # type: ignore[no-untyped-call]  # torch has no types here
    return loss / max(1, len(targets))
