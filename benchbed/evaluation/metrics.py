"""Metrics of one case, computed from the ranks of its targets. Per-user values are the primitive; means are derived."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from benchbed.data.dataset import IntArray, Ragged
from benchbed.evaluation.protocol import parse_column

FloatArray = NDArray[np.float64]


def metric_values(ranks: Ragged, columns: Iterable[str], repeats: IntArray | None = None) -> dict[str, FloatArray]:
    """Values of every case.

    Parameters
    ----------
    ranks
        One row a case: the ranks (from 1) of its distinct targets; 0 for a target that is not among the candidates, which is
        a miss and still counts as a target. No row is empty.
    columns
        Names such as ``ndcg@20``: recall, ndcg, hit_rate, mrr, precision and map, as
        :data:`benchbed.evaluation.protocol.METRICS` defines them, and recall_min, recall_thudm and ndcg_thudm of
        :data:`benchbed.evaluation.protocol.VARIANTS`.
    repeats
        How often each target stood in the raw list, aligned with the values of ``ranks``; None: once each. Only recall_thudm
        asks.

    Returns
    -------
    dict
        Column -> (n_cases,) values between 0 and 1.

    Examples
    --------
    >>> values = metric_values(Ragged.of([[1, 4], [0]]), ["recall@2", "mrr@5"])
    >>> values["recall@2"].tolist(), values["mrr@5"].tolist()
    ([0.5, 0.0], [1.0, 0.0])
    """
    cases, row = len(ranks), ranks.row_of_value
    order = np.lexsort((ranks.values, row))
    sorted_ranks = ranks.values[order].astype(np.float64)
    n_targets = ranks.lengths.astype(np.float64)
    reachable = sorted_ranks > 0
    before = np.concatenate([np.zeros(1), np.cumsum(reachable)])  # reachable targets before each place, over all cases
    ahead: FloatArray = before[:-1] - before[ranks.offsets[:-1]][row]  # and within its own case
    gain = np.zeros_like(sorted_ranks)
    np.divide(1.0, np.log2(sorted_ranks + 1.0), out=gain, where=reachable)
    inverse = np.zeros_like(sorted_ranks)
    np.divide(1.0, sorted_ranks, out=inverse, where=reachable)
    longest = int(n_targets.max(initial=0))
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(longest) + 2.0))])
    listed = n_targets if repeats is None else np.bincount(row, weights=repeats, minlength=cases)

    def total(values: FloatArray) -> FloatArray:
        sums: FloatArray = np.bincount(row, weights=values, minlength=cases).astype(np.float64)
        return sums

    made: dict[str, FloatArray] = {}
    for column in columns:
        metric, k = parse_column(column)
        hit = (reachable & (sorted_ranks <= k)).astype(np.float64)
        reached = np.minimum(n_targets, k)
        if metric == "recall":
            made[column] = total(hit) / n_targets
        elif metric == "precision":
            made[column] = total(hit) / k
        elif metric == "hit_rate":
            made[column] = (total(hit) > 0).astype(np.float64)
        elif metric == "ndcg":
            made[column] = total(hit * gain) / ideal[reached.astype(np.int64)]
        elif metric == "mrr":
            made[column] = total(hit * inverse * (ahead == 0))
        elif metric == "recall_min":
            made[column] = total(hit) / reached
        elif metric == "recall_thudm":
            made[column] = total(hit) / listed
        elif metric == "ndcg_thudm":
            hits = total(hit)
            made[column] = total(hit * gain) / np.where(hits > 0, ideal[hits.astype(np.int64)], 1.0)
        else:
            made[column] = total(hit * (ahead + 1.0) * inverse) / reached
    return made
