"""Rankings from coarse scores: what decides about the head of a list is scored anew, in full.

Scores of few digits put neighbours in the wrong order. Here they only say which items are far from the head of a list; all
others get their exact scores. How far is far is measured: the largest error of the scores made anew, times
:data:`MARGIN`. That is no proof, since an item that is never looked at may err by more, and so the training loop compares with
exact scores before it relies on it (:mod:`benchbed.training.precision`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchbed.evaluation.scoring import CoarseScores

MARGIN = 4.0
"""Errors of that many times the largest one seen are allowed for; with 2, items that err no more could not be missed."""

PAIRS_AT_ONCE = 2**17

WORTH = 0.25
"""Where a larger share of a block needs exact scores, all get them: single ones cost more."""


def refine(scores: Tensor, given: CoarseScores, first: int, n: int) -> bool:
    """Put exact scores in the place of coarse ones, wherever they can decide about the first ``n`` places.

    Parameters
    ----------
    scores
        (B, n_items + 1) coarse scores, -inf where an item is no candidate; changed in place.
    given
        What scores single items.
    first
        Number of the history of the first row.
    n
        Places that matter.

    Returns
    -------
    bool
        False where so many need exact scores that all should get them; ``scores`` are of no use then.

    Examples
    --------
    Items 1 and 2 are told apart by the exact scores alone:

    >>> class Told:
    ...     exact = torch.tensor([[0.0, 1.00, 1.01, 0.2, 0.1, -0.3, -0.4, -0.5, -0.6]])
    ...     def pairs(self, owner, items):
    ...         return self.exact[owner, items]
    >>> coarse = torch.tensor([[-torch.inf, 1.0, 1.0, 0.2, 0.1, -0.3, -0.4, -0.5, -0.6]])
    >>> refine(coarse, Told(), 0, n=1), coarse[0, :3].tolist()
    (True, [-inf, 1.0, 1.0099999904632568])
    """
    candidates = scores > -torch.inf
    most = WORTH * int(candidates.sum())
    coarse = scores.clone()
    floor = coarse.topk(min(n, coarse.shape[1]), dim=1).values[:, -1:]
    wanted, done = coarse >= floor, torch.zeros_like(candidates)
    error, refined = torch.zeros((), device=scores.device), 0
    while True:
        row, item = (wanted & candidates & ~done).nonzero(as_tuple=True)
        refined += len(row)
        if refined > most:
            return False
        if len(row) == 0:
            return True
        done[row, item] = True
        for start in range(0, len(row), PAIRS_AT_ONCE):
            part = row[start : start + PAIRS_AT_ONCE], item[start : start + PAIRS_AT_ONCE]
            made = given.pairs(part[0] + first, part[1]).to(scores.dtype)
            if not bool(made.isfinite().all()):
                return False  # a look at all of them will say what is wrong
            error = torch.maximum(error, (made - coarse[part]).abs().max())
            scores[part] = made
        wanted = coarse >= floor - MARGIN * error
