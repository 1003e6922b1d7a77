"""Means over cases. A user (or session) may have several cases; users, not cases, are independent of one another."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchbed.data.dataset import IntArray
from benchbed.evaluation.metrics import FloatArray

Average = Literal["users", "cases"]

AVERAGES: dict[Average, str] = {
    "users": "the mean of a user's cases first, then the mean over users: each user counts alike",
    "cases": "each case counts alike, so that users with many cases count more",
}
"""Both ways, in words. With one case a user they agree."""


def mean_over(values: FloatArray, users: NDArray[Any], average: Average) -> float:
    """The mean of values of cases.

    Parameters
    ----------
    values
        (n_cases,)
    users
        (n_cases,) whose case it is.
    average
        Whether users or cases count alike.

    Examples
    --------
    >>> values, users = np.array([1.0, 0.0, 0.0, 1.0]), np.array([1, 1, 1, 2])
    >>> mean_over(values, users, "cases"), round(mean_over(values, users, "users"), 4)
    (0.5, 0.6667)
    """
    return float((values if average == "cases" else by_user(users, values)[1]).mean())


def by_user(users: NDArray[Any], values: FloatArray) -> tuple[NDArray[Any], FloatArray, IntArray]:
    """Each user once, the mean of the user's values, and their number. Users with one case each keep their order.

    Examples
    --------
    >>> [each.tolist() for each in by_user(np.array([2, 1, 2]), np.array([1.0, 5.0, 0.0]))]
    [[1, 2], [5.0, 0.5], [1, 2]]
    """
    distinct, row, counts = np.unique(users, return_inverse=True, return_counts=True)
    if len(distinct) == len(users):
        return users, values, np.ones(len(users), np.int64)
    return distinct, np.bincount(row, weights=values) / counts, counts.astype(np.int64)
