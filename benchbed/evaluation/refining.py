"""Rankings from coarse scores: what decides about the head of a list is scored anew, in full.

Scores of few digits put neighbours in the wrong order. Here they only say which items are far from the head of a list; all
others get their exact scores. How far is far is measured: some rows get exact scores of everything, which tells how much each
item's coarse scores are off; the exact scores of heads tell more. An item stays coarse where it could not reach the head if it
were off by :data:`MARGIN` times the most that was seen. That is no proof, and so the training loop compares with exact scores
(:mod:`benchbed.training.precision`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchbed.evaluation.scoring import CoarseScores

MARGIN = 2.0
"""Errors of that many times the largest one seen are allowed for."""

LOOKED_AT = 16
"""One row of so many gets exact scores of everything."""

PAIRS_AT_ONCE = 2**17

WORTH = 0.25
"""Where a larger share of the rest needs exact scores, all get them: single ones cost more."""


def refine(scores: Tensor, given: CoarseScores, first: int, n: int, turn: int = 0) -> bool:
    """Put exact scores in the place of coarse ones, wherever they can decide about the first ``n`` places.

    Parameters
    ----------
    scores
        (B, n_items + 1) coarse scores, -inf where an item is no candidate; changed in place.
    given
        What scores exactly.
    first
        Number of the history of the first row.
    n
        Places that matter.
    turn
        Another turn, other rows that get exact scores of everything.

    Returns
    -------
    bool
        False where so many need exact scores that all should get them; ``scores`` are of no use then.

    Examples
    --------
    The first row is looked at whole; in the second, items 1 and 2 are told apart by exact scores alone:

    >>> class Told:
    ...     table = torch.tensor([[0.0, 1.00, 1.01, 0.2, 0.1, -0.3, -0.4, -0.5, -0.6]]).repeat(2, 1)
    ...     def exact(self, start, stop):
    ...         return self.table[start:stop]
    ...     def pairs(self, owner, items):
    ...         return self.table[owner, items]
    >>> coarse = torch.tensor([[-torch.inf, 1.0, 1.0, 0.2, 0.1, -0.3, -0.4, -0.5, -0.6]]).repeat(2, 1)
    >>> refine(coarse, Told(), 0, n=1), coarse[1, :3].tolist()
    (True, [-inf, 1.0, 1.0099999904632568])
    """
    coarse, candidates = scores.clone(), scores > -torch.inf
    done = torch.zeros_like(candidates)
    width = -(-len(scores) // LOOKED_AT)
    top = turn * width % len(scores)
    looked_at = slice(top, min(top + width, len(scores)))
    exact = given.exact(first + looked_at.start, first + looked_at.stop).to(scores.dtype)
    done[looked_at] = True
    scores[looked_at] = exact.where(candidates[looked_at], -torch.inf)
    error = (exact - coarse[looked_at]).abs().where(candidates[looked_at], 0).amax(0)  # (n_items + 1,) of each item
    wanted = coarse >= _last_of(coarse, n)
    left = WORTH * int((candidates & ~done).sum())
    while bool(error.isfinite().all()):
        row, item = (wanted & candidates & ~done).nonzero(as_tuple=True)
        if len(row) == 0:
            return True
        left -= len(row)
        if left < 0:
            return False
        done[row, item] = True
        for start in range(0, len(row), PAIRS_AT_ONCE):
            part = row[start : start + PAIRS_AT_ONCE], item[start : start + PAIRS_AT_ONCE]
            made = given.pairs(part[0] + first, part[1]).to(scores.dtype)
            error = torch.maximum(error, (made - coarse[part]).abs().max())
            scores[part] = made
        # The true head is not worse than the best that are exact already.
        wanted = coarse >= _last_of(scores.where(done, -torch.inf), n) - MARGIN * error
    return False  # scores that are no numbers: a look at all of them will say what is wrong


def _last_of(scores: Tensor, n: int) -> Tensor:
    """(B, 1) the n-th largest score of each row."""
    return scores.topk(min(n, scores.shape[1]), dim=1).values[:, -1:]
