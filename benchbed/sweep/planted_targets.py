"""Metrics of a part of the targets: those that were launched late, and the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchbed.data.dataset import Ragged
from benchbed.data.simulate import Truth
from benchbed.errors import SweepError
from benchbed.evaluation.metrics import metric_values

Targets = Literal["launched", "other"]
"""Items that were launched in the course of the simulated time, or those that were there from the beginning."""


def column_of(metric: str, targets: Targets | None) -> str:
    """The name under which the values of a metric stand.

    Examples
    --------
    >>> column_of("ndcg@20", "launched"), column_of("ndcg@20", None)
    ('ndcg@20 of launched targets', 'ndcg@20')
    """
    return metric if targets is None else f"{metric} of {targets} targets"


def late_targets(truth: Truth, users: NDArray[np.int64], test_from: int) -> Ragged:
    """Which targets of a temporal split were launched: 1 or 0, a row a user, in the order of the targets.

    Targets are what a user took from ``test_from`` on and not before, each once, in the order of the log: as
    ``seen_items: exclude`` and ``targets: rest`` have it. The log tells them; the vault stays shut.

    Parameters
    ----------
    truth
        Of a shop with launches.
    users
        Numbers of the users in the simulator.
    test_from
        The moment at which the test stretch begins.
    """
    assert truth.shop.launch is not None
    rows = []
    for user in users.tolist():
        own = slice(truth.first[user], truth.first[user + 1])
        items, late = truth.events["item"][own], truth.events["timestamp"][own] >= test_from
        known = set(items[~late].tolist())
        targets = [item for item in dict.fromkeys(items[late].tolist()) if item not in known]
        rows.append((truth.shop.launch[targets] > 0).astype(int).tolist())
    return Ragged.of(rows)


def partial_values(ranks: Sequence[NDArray[np.int64]], late: Ragged, metric: str, targets: Targets) -> NDArray[np.float64]:
    """A metric of each user in which the chosen targets are all there are; nan for users without one.

    Parameters
    ----------
    ranks
        Of each user's targets, as stored with a final run.
    late
        Of :func:`late_targets`.
    metric
        A column, such as ``ndcg@20``.
    targets
        Which of them count.

    Raises
    ------
    SweepError
        A user was tested on another number of targets than the log tells.

    Examples
    --------
    >>> ranks = [np.array([1, 30]), np.array([2])]
    >>> partial_values(ranks, Ragged.of([[1, 0], [0]]), "recall@20", "launched").tolist()
    [1.0, nan]
    """
    given = Ragged.of([row.tolist() for row in ranks])
    if not np.array_equal(given.lengths, late.lengths):
        raise SweepError(
            "The users were tested on other targets than the simulated log tells.", advice="Prepare the dataset again."
        )
    kept = given.keep(late.values == (1 if targets == "launched" else 0))
    values: NDArray[np.float64] = np.full(len(kept), np.nan)
    some = np.flatnonzero(kept.lengths)
    values[some] = metric_values(kept.take(some), [metric])[metric]
    return values
