"""Losses of sequence models: cross-entropy over all items, and the ranking losses of GRU4Rec over chosen negatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchbed.errors import UnknownNameError

RANKING_LOSSES = ("cross-entropy", "bpr", "bpr-max", "top1", "top1-max")
"""What :func:`ranking_loss` knows."""

LOG_FLOOR = 1e-24
"""Added inside the logarithms of ``cross-entropy`` and ``bpr-max``, as the authors do: the most one row can cost is 55.26."""

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


def final_activation(scores: Tensor, elu_alpha: float | None) -> Tensor:
    """What the authors put between scores and loss; it is monotone, so a ranking does not need it.

    Parameters
    ----------
    scores
        Of any shape.
    elu_alpha
        The exponential linear unit's alpha (``elu-0.5`` is 0.5); None leaves scores as they are (``linear``).
    """
    return scores if elu_alpha is None else F.elu(scores, alpha=elu_alpha)


def logq_correction(
    scores: Tensor, log_weight_in_batch: Tensor, log_weight_sampled: Tensor | None = None, logq: float = 1.0
) -> Tensor:
    """Take from every column of shared negatives the logarithm of how often it is met; for training only.

    Parameters
    ----------
    scores
        (M, M + S) scores of M rows for the M targets of the batch and S sampled items.
    log_weight_in_batch
        (M,) log weights of the targets: log support, because targets are met as often as they occur.
    log_weight_sampled
        (S,) log weights of the sampled items, ``alpha * log(support)``; None when S is 0.
    logq
        Strength of the correction.

    Returns
    -------
    Tensor
        (M, M + S).

    Raises
    ------
    ValueError
        The weights do not belong to the batch that the scores are of. A batch shrinks at the end of an epoch, and weights of an
        earlier, wider one would correct sampled columns as if they were targets.
    """
    weights = log_weight_in_batch if log_weight_sampled is None else torch.cat([log_weight_in_batch, log_weight_sampled])
    if len(log_weight_in_batch) != scores.shape[0] or len(weights) != scores.shape[1]:
        sampled = 0 if log_weight_sampled is None else len(log_weight_sampled)
        raise ValueError(
            f"scores {tuple(scores.shape)} do not go with {len(log_weight_in_batch)} targets and {sampled} sampled items"
        )
    return torch.sub(scores, weights.to(scores.dtype), alpha=logq)


def ranking_loss(
    name: str,
    positive: Tensor,
    others: Tensor,
    *,
    mask: Tensor | None = None,
    bpreg: float = 1.0,
    mean_over_negatives: bool = False,
) -> Tensor:
    """Loss of every row: how a target's score stands among the scores of its negatives.

    Parameters
    ----------
    name
        ``cross-entropy``, ``bpr``, ``bpr-max``, ``top1`` or ``top1-max``.
    positive
        (n,) score of each row's target, after :func:`final_activation`.
    others
        (n, m) scores of other columns, after the same.
    mask
        (n, m), True where a column is a negative of the row; None when all are. With negatives shared by the batch, ``others``
        is the whole matrix and the mask is False on the diagonal, where the row's own target stands.
    bpreg
        Weight of the score regulariser of ``bpr-max``; the other losses have none.
    mean_over_negatives
        ``bpr`` and ``top1`` as a mean over the negatives, as in the paper of 2016 and in RecPack. Otherwise as in the authors'
        code: ``bpr`` is a sum over all columns, the target's own included (which adds log 2), and ``top1`` is divided by the
        number of all columns, of which the own one adds 1/2. The other losses have one form.

    Returns
    -------
    Tensor
        (n,), finite for any finite scores up to the square root of the largest number of their type. A row without a negative
        has no gradient.

    Raises
    ------
    UnknownNameError
        No such loss.

    References
    ----------
    Hidasi et al., ICLR 2016 (bpr, top1); Hidasi and Karatzoglou, CIKM 2018 (the softmax-weighted forms and the regulariser).

    Examples
    --------
    >>> scores = torch.tensor([[2.0, -1.0, 0.5], [0.3, 1.0, -0.7], [0.0, 0.2, -1.5]])
    >>> negatives = ~torch.eye(3, dtype=torch.bool)
    >>> ranking_loss("bpr-max", scores.diagonal(), scores, mask=negatives).sum()
    tensor(2.9018)
    """
    own = positive[:, None]
    if name == "cross-entropy":
        kept = others if mask is None else torch.where(mask, others, -torch.inf)
        chance = torch.cat([own, kept], 1).softmax(1)[:, 0]
        return -(chance + LOG_FLOOR).log()
    if name in ("bpr", "top1"):
        each = F.softplus(others - own) if name == "bpr" else (others - own).sigmoid() + others.square().sigmoid()
        total = each.sum(1) if mask is None else (each * mask).sum(1)
        count = others.shape[1] if mask is None else mask.sum(1)
        if mean_over_negatives:
            return total / (max(count, 1) if isinstance(count, int) else count.clamp(min=1))
        return total + F.softplus(torch.zeros_like(positive)) if name == "bpr" else (total + 0.5) / (count + 1)
    if name not in RANKING_LOSSES:
        raise UnknownNameError("ranking loss", name, RANKING_LOSSES)
    # The lowest finite number, not -inf, for a row without any negative: it gets no NaN, and no gradient at the end.
    weights = (others if mask is None else torch.where(mask, others, torch.finfo(others.dtype).min)).softmax(1)
    if name == "top1-max":
        losses = (weights * ((others - own).sigmoid() + others.square().sigmoid())).sum(1)
    else:
        better = (weights * (own - others).sigmoid()).sum(1)
        regulariser = (weights * others.square()).sum(1)
        losses = torch.add(-(better + LOG_FLOOR).log(), regulariser, alpha=bpreg)
    return losses if mask is None else torch.where(mask.any(1), losses, 0.0)
