"""Does fold-in find the rows that training found? A failure of fold-in is told from a failure of the model by this."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.counter import hashed
from benchbed.models.fold_in import FoldIn

SAMPLE = 200
"""Training users that are folded in as if they were new."""

SCORES_AT_ONCE = 2**22


@torch.no_grad()
def fold_in_agreement(model: FoldIn, data: TrainingData, sample: int = SAMPLE) -> dict[str, float]:
    """Rank correlation between the lists of trained rows and those of the same users folded in from the mean row.

    Parameters
    ----------
    model
        Trained.
    data
        What it was trained on.
    sample
        Number of training users, those with the smallest hashes of their numbers: the same for every model and seed.

    Returns
    -------
    dict
        ``fold_in_agreement``, the mean over users of Spearman's correlation over all items, and ``fold_in_sample``, the number
        of users behind it. Empty where nothing is folded in, or where no user of the sample has two different scores.
    """
    if model.fold_in_steps == 0:
        return {}
    users = torch.as_tensor(data.train.users)
    order = hashed(torch.tensor(0), users).argsort()
    long_enough = torch.as_tensor(data.train.items.lengths > 0)[order]
    rows = order[long_enough][:sample].numpy()
    histories = Histories.of(data.train.users[rows], data.train.items.take(np.asarray(rows)), model.device)
    folded = model.fold_in(histories, trained=False)
    trained, _ = model.start_rows(histories.users)
    step = max(1, SCORES_AT_ONCE // (model.n_items + 1))
    side = model.item_side()
    found = torch.cat(
        [
            _spearman(*(model.row_scores(each[start : start + step], None, side)[:, 1:].double() for each in (trained, folded)))
            for start in range(0, len(rows), step)
        ]
        or [torch.zeros(0)]
    )
    defined = found[found.isfinite()]
    mean = float(defined.mean()) if len(defined) else math.nan
    return {"fold_in_agreement": mean, "fold_in_sample": float(len(defined))} if math.isfinite(mean) else {}


def _spearman(first: Tensor, second: Tensor) -> Tensor:
    """(B,) correlation of the ranks in each row; nan where all scores of a row are equal."""
    ranks = [_ranks(each) for each in (first, second)]
    centred = [each - each.mean(1, keepdim=True) for each in ranks]
    norms = centred[0].norm(dim=1) * centred[1].norm(dim=1)
    return torch.where(norms > 0, (centred[0] * centred[1]).sum(1) / norms, torch.nan)


def _ranks(scores: Tensor) -> Tensor:
    """Ranks within each row; equal scores share the mean of their places."""
    ordered, order = scores.contiguous().sort(dim=1)
    ordered = ordered.contiguous()  # a sort along rows may come back transposed
    first = torch.searchsorted(ordered, ordered, right=False)
    last = torch.searchsorted(ordered, ordered, right=True) - 1
    return torch.empty_like(scores).scatter_(1, order, ((first + last) / 2).to(scores.dtype))
