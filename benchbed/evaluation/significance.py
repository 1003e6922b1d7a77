"""Which rows of a leaderboard differ: all pairs, both sources of noise, corrected for their number.

Two things make a measured difference move: which users were drawn, and which training seeds. A test over users alone takes the
second for a difference between models; at 2,200 users and 3 seeds it declares a third of the pairs of equal models different.
The standard error here adds both parts.

For two rows a and b on one split, with the values averaged over each row's seeds before users are paired::

    user part  = var over users of (a_u - b_u) / number of users
    seed part  = s_a^2 / S_a + s_b^2 / S_b

s^2 is the variance over seeds of a row's mean. From three seeds alone it is a poor estimate, so rows with fewer than five seeds
use one variance pooled over all such rows. Closed-form rows have no seed part. With several split seeds the difference is the
mean over the splits that both rows have. A user who is tested on several of them is drawn once: what the user adds to the
difference is summed over the splits before it is squared. With no user in common the parts of the splits simply add up.

Users (or sessions) are what is drawn, never their single cases, which resemble one another. Where every case counts alike
(``average: cases``) a user weighs as much as it has cases, and the mean is a ratio of two sums; its variance is that of the
users' influence values w_u (d_u - mean) / mean(w). With equal weights this is the formula above.

The ratio of difference and standard error is compared with Student's t. Its degrees of freedom follow Welch and Satterthwaite;
those of the user part are the distinct users less one for each group of splits that have users in common. With thousands of
users and few seeds the seed part decides, and a normal distribution would call noise a finding. P-values of all pairs are
corrected together by Holm's method. Where all users gain exactly alike there is no error to compare with, and the p-value is
that of a sign test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW_SEEDS = 5
"""Rows with fewer seeds than this share one pooled variance over seeds."""


LEAST_USERS = 30
"""With fewer users in the test part no difference between models is evidence: who they happen to be decides."""


def tested_users(audit: Mapping[str, Any], rules: str) -> int | None:
    """How many users a split tests under the rules of an evaluation; None where its audit does not say.

    Parameters
    ----------
    audit
        Of the split.
    rules
        The key under which it counts cases.
    """
    numbers = (audit.get("test", {}).get("cases"), audit.get("cases", {}).get("test", {}).get(rules, {}).get("cases"))
    # The part has so many users; rules may leave some of them out, and may make several cases of one.
    return min((int(number) for number in numbers if number is not None), default=None)


@dataclass(frozen=True)
class Sample:
    """Values of one row on the test users of one split.

    Attributes
    ----------
    users
        Labels of the users (or sessions), shape (users,), each once.
    values
        Metric per training seed and user, shape (seeds, users): of a user with several cases their mean.
    weights
        How much each user counts, positive, shape (users,): the number of cases where these count alike. None for one each.
    """

    users: NDArray[np.generic]
    values: NDArray[np.float64]
    weights: NDArray[np.generic] | None = None

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.users):
            raise ValueError(f"values of shape {self.values.shape} do not fit {len(self.users)} users")
        if self.weights is not None and self.weights.shape != self.users.shape:
            raise ValueError(f"weights of shape {self.weights.shape} do not fit {len(self.users)} users")

    @property
    def means(self) -> NDArray[np.float64]:
        """(seeds,) mean over users of each seed."""
        return np.average(self.values, axis=1, weights=_plain(self.weights))


@dataclass(frozen=True)
class Row:
    """A row of the leaderboard: its samples by split seed. ``random`` says whether training depends on a seed."""

    name: str
    samples: dict[int, Sample]
    random: bool = True

    @property
    def mean(self) -> float:
        """Mean over users, then seeds, then splits."""
        return float(np.mean([sample.means.mean() for sample in self.samples.values()]))


@dataclass(frozen=True)
class Pair:
    """The comparison of two rows.

    Attributes
    ----------
    first, second
        Names of the rows.
    difference
        Mean of ``first`` minus mean of ``second``.
    user_part, seed_part
        The two parts of the squared standard error; ``user_part`` is nan for rows without a test user in common, ``seed_part``
        where no row has a second seed to learn it from.
    degrees
        Degrees of freedom.
    p, p_holm
        Two-sided p-value, alone and corrected over all pairs. 1 where a part is unknown.
    """

    first: str
    second: str
    difference: float
    user_part: float
    seed_part: float
    degrees: float
    p: float
    p_holm: float = 1.0

    @property
    def standard_error(self) -> float:
        """Of the difference."""
        return math.sqrt(self.user_part + self.seed_part)


@dataclass(frozen=True)
class Comparison:
    """All pairs of rows.

    Attributes
    ----------
    level
        Chance of one or more false findings among all pairs.
    pairs
        Every two rows once.
    ranks
        Row -> (best, worst) rank that the data allow: 1 + the number of rows significantly better, and the number of rows less
        the number significantly worse.
    smallest_detectable
        Difference that the median pair would find in 80 of 100 repetitions, at Holm's strictest step; nan without pairs.
    """

    level: float
    pairs: tuple[Pair, ...]
    ranks: dict[str, tuple[int, int]]
    smallest_detectable: float
    seed_noise_known: bool = True
    seed_deviation: float = math.nan
    _by_names: dict[tuple[str, str], Pair] = field(default_factory=dict, repr=False)

    def better(self, first: str, second: str) -> bool:
        """Whether ``first`` is significantly above ``second``; a row is never above itself."""
        if first == second:
            return False
        pair, sign = self.pair(first, second)
        return pair.p_holm < self.level and sign * pair.difference > 0

    def pair(self, first: str, second: str) -> tuple[Pair, int]:
        """The comparison of two rows, and -1 when it is stored the other way round."""
        if (first, second) in self._by_names:
            return self._by_names[first, second], 1
        return self._by_names[second, first], -1


def compare(rows: Sequence[Row], *, level: float = 0.05, power: float = 0.8) -> Comparison:
    """Compare all pairs of rows.

    Parameters
    ----------
    rows
        At least one sample each. Values that are not finite are the caller's to leave out.
    level
        Chance of one or more false findings among all pairs.
    power
        For :attr:`Comparison.smallest_detectable`.

    Raises
    ------
    ValueError
        A row has no sample, or a name stands twice.

    Examples
    --------
    >>> users, random = np.arange(500), np.random.default_rng(0)
    >>> noise = random.normal(0, 0.1, (2, 1, 500))
    >>> good, poor = (Row(n, {42: Sample(users, v)}, random=False) for n, v in zip("gp", noise + [[[0.3]], [[0.2]]]))
    >>> compare([poor, good]).ranks
    {'p': (2, 2), 'g': (1, 1)}
    """
    names = [row.name for row in rows]
    if len(set(names)) != len(names) or not all(row.samples for row in rows):
        raise ValueError("every row needs a name of its own and at least one sample")
    noise = _SeedNoise(rows)
    pairs = [_compare_two(a, b, noise) for a, b in combinations(rows, 2)]
    adjusted = holm([pair.p for pair in pairs])
    pairs = [
        Pair(q.first, q.second, q.difference, q.user_part, q.seed_part, q.degrees, q.p, p)
        for q, p in zip(pairs, adjusted, strict=True)
    ]
    better = dict.fromkeys(names, 0)
    worse = dict.fromkeys(names, 0)
    for pair in pairs:
        if pair.p_holm < level:
            winner, loser = (pair.first, pair.second) if pair.difference > 0 else (pair.second, pair.first)
            better[loser] += 1
            worse[winner] += 1
    return Comparison(
        level=level,
        pairs=tuple(pairs),
        ranks={name: (1 + better[name], len(names) - worse[name]) for name in names},
        smallest_detectable=_smallest_detectable(pairs, level, power),
        seed_noise_known=all(not math.isnan(pair.seed_part) for pair in pairs),
        seed_deviation=math.sqrt(noise.pooled) if noise.degrees else math.nan,
        _by_names={(pair.first, pair.second): pair for pair in pairs},
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected by Holm's step-down method, in the order given.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for step, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - step)))
        adjusted[index] = largest
    return adjusted


class _SeedNoise:
    """Variance over training seeds of a row's mean, pooled over the rows that have too few seeds for their own."""

    def __init__(self, rows: Sequence[Row]) -> None:
        squares, self.degrees = 0.0, 0
        for row in rows:
            if row.random:
                for sample in row.samples.values():
                    if len(sample.values) < FEW_SEEDS:
                        means = sample.means
                        squares += float(((means - means.mean()) ** 2).sum())
                        self.degrees += len(means) - 1
        self.pooled = squares / self.degrees if self.degrees else math.nan

    def part(self, row: Row, sample: Sample) -> tuple[float, float, bool]:
        """Squared standard error that seeds cause in the row's mean, its degrees of freedom, and whether it is pooled."""
        seeds = len(sample.values)
        if not row.random:
            return 0.0, math.inf, False
        if seeds >= FEW_SEEDS:
            return float(sample.means.var(ddof=1)) / seeds, seeds - 1, False
        return self.pooled / seeds, self.degrees, True


def _compare_two(a: Row, b: Row, noise: _SeedNoise) -> Pair:
    gains = {split: _paired(a.samples[split], b.samples[split]) for split in sorted(set(a.samples) & set(b.samples))}
    gains = {split: gain for split, gain in gains.items() if len(gain.users) > 1}
    if not gains:
        # Nothing to pair: these two cannot be told apart.
        return Pair(a.name, b.name, a.mean - b.mean, math.nan, 0.0, 0.0, 1.0)
    users, own_degrees = _user_part(list(gains.values()))
    seeds = pooled = 0.0
    own: list[tuple[float, float]] = [(users, own_degrees)]
    for split in gains:
        for row in (a, b):
            part, degrees, together = noise.part(row, row.samples[split])
            part /= len(gains) ** 2
            seeds += part
            if together:
                pooled += part
            else:
                own.append((part, degrees))
    parts = [*own, (pooled, noise.degrees)]
    difference = float(np.mean([gain.mean for gain in gains.values()]))
    degrees = _welch_satterthwaite(parts)
    return Pair(a.name, b.name, difference, users, seeds, degrees, _p_value(difference, users + seeds, degrees, own_degrees))


@dataclass(frozen=True)
class _Gain:
    """The difference of two rows on one split: the users that both have, the mean, and each user's influence on it."""

    users: NDArray[np.generic]
    mean: float
    influence: NDArray[np.float64]


def _user_part(gains: Sequence[_Gain]) -> tuple[float, float]:
    """Variance of the mean over splits that comes from users, and its degrees of freedom."""
    shares = [gain.influence / math.sqrt(len(gain.users) * (len(gain.users) - 1)) / len(gains) for gain in gains]
    distinct, place = np.unique(np.concatenate([gain.users for gain in gains]), return_inverse=True)
    added = np.bincount(place, weights=np.concatenate(shares))
    return float((added**2).sum()), len(distinct) - _groups(gains)


def _groups(gains: Sequence[_Gain]) -> int:
    """How many groups of splits share no user with one another. Over a group all influences add up to nothing, and that is all
    that is known of them beforehand: each group takes one degree of freedom, however many splits repeat its users."""
    groups: list[NDArray[np.generic]] = []
    for gain in gains:
        apart = [group for group in groups if not np.isin(gain.users, group).any()]
        met = [group for group in groups if np.isin(gain.users, group).any()]
        groups = [*apart, np.unique(np.concatenate([gain.users, *met]))]
    return len(groups)


def _paired(a: Sample, b: Sample) -> _Gain:
    """Over the users that both samples have, each averaged over its seeds."""
    users, first, second, weights = a.users, a.values.mean(axis=0), b.values.mean(axis=0), _plain(a.weights)
    if np.array_equal(a.users, b.users):
        gain = first - second
    else:
        users, left, right = np.intersect1d(a.users, b.users, return_indices=True)
        gain, weights = first[left] - second[right], None if weights is None else weights[left]
    if len(gain) == 0:
        return _Gain(users, math.nan, gain)
    mean = float(np.average(gain, weights=weights))
    return _Gain(users, mean, gain - mean if weights is None else weights * (gain - mean) / weights.mean())


def _plain(weights: NDArray[np.generic] | None) -> NDArray[np.float64] | None:
    return None if weights is None else weights.astype(np.float64)


def _welch_satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of variances, each estimated with its own."""
    total = sum(part for part, _ in parts)
    spread = sum(part**2 / degrees for part, degrees in parts if part > 0)
    return total**2 / spread if spread > 0 else math.inf


def _p_value(difference: float, variance: float, degrees: float, user_degrees: float) -> float:
    from scipy.stats import t

    if math.isnan(variance) or math.isnan(difference):
        return 1.0
    if variance <= 0:
        # All users gain alike, so that nothing is known of how much they vary. What is left is that all gains have one sign:
        # two users who agree are no proof.
        return 1.0 if difference == 0 else 2.0**-user_degrees
    return float(2 * t.sf(abs(difference) / math.sqrt(variance), degrees))


def _smallest_detectable(pairs: Sequence[Pair], level: float, power: float) -> float:
    from scipy.stats import t

    found = [
        pair.standard_error * (t.isf(level / len(pairs) / 2, pair.degrees) + t.isf(1 - power, pair.degrees))
        for pair in pairs
        if pair.standard_error > 0
    ]
    return float(np.median(found)) if found else math.nan
