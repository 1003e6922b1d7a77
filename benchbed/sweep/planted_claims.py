"""Claims about planted truth: which difference was expected before anything ran, and what came out, with its interval.

One simulator seed is one shop, with its visitors, its split, its searches and its training seeds. The shops are independent, so
for a difference of rows on some users::

    D_i  = sum over rows of weight * mean over training seeds and users       (shop i)
    D    = mean of D_i,  interval D +- t(n - 1) * s(D_i) / sqrt(n)            (n shops)

The spread of D_i holds everything that moves a result: shop, visitors, choice of hyper-parameters, training seeds. Beside it
stands the part that is known from within the shops, the mean of::

    var over users (sum of weight * mean over seeds) / users  +  sum of weight^2 * s^2 / seeds

where s^2 is the variance over training seeds of a row's mean, pooled over the rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from benchbed.config import Schema
from benchbed.sweep.planted_targets import Targets, column_of

Floats = NDArray[np.float64]
Verdict = Literal["confirmed", "refuted", "undecided"]


class Claim(Schema):
    """One difference and what is expected of it.

    Attributes
    ----------
    name, says
        A short name, and the claim in a sentence.
    rows
        Row -> weight; the weights add up to 0.
    interests
        Only users with so many planted interests; None for all users.
    targets
        ``launched``: only targets that were launched late count, for users who have one. ``other``: only the rest. None: all.
    expected
        ``gain``: above 0. ``no_gain``: not above the margin. ``none``: within the margin on both sides.
    scale
        Row whose mean on the same users the margin is a share of.
    margin
        Differences below this share of the scale do not count.
    """

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    says: str
    rows: dict[str, float] = Field(min_length=2)
    interests: tuple[int, ...] | None = None
    targets: Targets | None = None
    expected: Literal["gain", "no_gain", "none"]
    scale: str
    margin: float = Field(0.05, gt=0, lt=1)

    @model_validator(mode="after")
    def _balanced(self) -> Claim:
        if abs(sum(self.rows.values())) > 1e-9:
            raise ValueError("the weights of the rows must add up to 0")
        return self

    @model_serializer(mode="wrap")
    def _as_declared(self, make: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """``targets`` is left out where it says nothing, so that claims declared before it existed keep their fingerprint."""
        made: dict[str, Any] = make(self)
        if self.targets is None:
            made.pop("targets", None)
        return made


class Claims(Schema):
    """A file ``claims.yaml`` beside a benchmark, written before anything ran.

    Attributes
    ----------
    ceiling
        The row that knows the truth.
    metric
        Column that the claims are about.
    also
        Further columns in which no row may be above the ceiling.
    level
        Of every interval.
    test_users
        Least number of test users of every shop.
    """

    ceiling: str = "oracle"
    metric: str
    also: tuple[str, ...] = ()
    level: float = Field(0.95, gt=0.5, lt=1)
    test_users: int = Field(2000, ge=1)
    claims: tuple[Claim, ...] = Field(min_length=1)

    @property
    def parts(self) -> tuple[Targets, ...]:
        """Parts of the targets that are looked at for themselves: both, where a claim is about one."""
        return ("launched", "other") if any(claim.targets for claim in self.claims) else ()

    @property
    def rows(self) -> set[str]:
        """Every row that a claim or the ceiling names."""
        return {self.ceiling} | {row for claim in self.claims for row in (*claim.rows, claim.scale)}


@dataclass(frozen=True)
class Shop:
    """What one simulator seed gave.

    Attributes
    ----------
    seed
        Of the simulator.
    interests
        Planted interests of each test user, shape (users,).
    values
        Column -> row -> values, shape (training seeds, users), users aligned with ``interests``; nan for users without a target
        of those that the column is about.
    rows
        What else is to be told of each row: tuned hyper-parameters, seeds missing, and the like.
    commit
        Of the repository when the sweep was last started.
    """

    seed: int
    interests: NDArray[np.int64]
    values: Mapping[str, Mapping[str, Floats]]
    rows: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    commit: str = ""

    def chosen(self, interests: Sequence[int] | None) -> NDArray[np.bool_]:
        """Which users a claim is about."""
        return np.ones(len(self.interests), bool) if interests is None else np.isin(self.interests, interests)


@dataclass(frozen=True)
class Estimate:
    """A difference over several shops.

    Attributes
    ----------
    each
        The difference in every shop.
    mean, low, high
        Over the shops; the ends are nan with one shop alone.
    standard_error
        Of the mean, from the spread over the shops.
    user_part, seed_part
        Standard errors of the mean that come from users and from training seeds, known from within the shops.
    users
        Users of each shop.
    """

    each: tuple[float, ...]
    mean: float
    low: float
    high: float
    standard_error: float
    user_part: float
    seed_part: float
    users: tuple[int, ...]

    @property
    def within(self) -> float:
        """Standard error from users and training seeds together."""
        return math.hypot(self.user_part, self.seed_part)


@dataclass(frozen=True)
class Finding:
    """A claim and what came out.

    ``margin`` is in units of the metric; ``scale`` is the mean of the claim's scale row on the same users.
    """

    claim: Claim
    estimate: Estimate
    scale: float
    verdict: Verdict

    @property
    def margin(self) -> float:
        """Differences below this do not count."""
        return self.claim.margin * self.scale


def estimate(
    shops: Sequence[Shop], column: str, weights: Mapping[str, float], interests: Sequence[int] | None, level: float
) -> Estimate:
    """A weighted sum of rows over several shops.

    Parameters
    ----------
    shops
        At least one; with a single one there is no interval.
    column
        The metric.
    weights
        Row -> weight. A row with one training seed counts as one without chance.
    interests
        Only users with so many planted interests; None for all.
    level
        Of the interval.
    """
    from scipy.stats import t

    each, users, user_parts, seed_parts = [], [], [], []
    for shop in shops:
        chosen = shop.chosen(interests) & np.all([np.isfinite(shop.values[column][row]).all(axis=0) for row in weights], axis=0)
        values = {row: shop.values[column][row][:, chosen] for row in weights}
        gain = sum(weight * values[row].mean(axis=0) for row, weight in weights.items())
        assert isinstance(gain, np.ndarray)
        each.append(float(gain.mean()))
        users.append(len(gain))
        user_parts.append(float(gain.var(ddof=1)) / len(gain) if len(gain) > 1 else math.nan)
        seed_parts.append(_seed_part(values, weights))
    n = len(shops)
    mean = float(np.mean(each))
    error = float(np.std(each, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    reach = float(t.isf((1 - level) / 2, n - 1)) * error if n > 1 else math.nan
    by_users, by_seeds = (math.sqrt(sum(parts)) / n for parts in (user_parts, seed_parts))
    return Estimate(tuple(each), mean, mean - reach, mean + reach, error, by_users, by_seeds, tuple(users))


def _seed_part(values: Mapping[str, Floats], weights: Mapping[str, float]) -> float:
    """Squared standard error from training seeds: one variance, pooled over the rows that have several."""
    squares, degrees = 0.0, 0
    for row in values.values():
        means = row.mean(axis=1)
        squares += float(((means - means.mean()) ** 2).sum())
        degrees += len(means) - 1
    if not degrees:
        return 0.0
    pooled = squares / degrees
    return sum(weight**2 * pooled / len(values[row]) for row, weight in weights.items() if len(values[row]) > 1)


def judge(expected: str, low: float, high: float, margin: float) -> Verdict:
    """What an interval says of an expectation. The rule is part of the claim: fixed before anything ran.

    ========  ===============  ==================================================================
    expected  confirmed        refuted
    ========  ===============  ==================================================================
    gain      low > 0          not confirmed and high < margin: a gain that counts is excluded
    no_gain   high < margin    low > margin
    none      within margins   low > margin or high < -margin
    ========  ===============  ==================================================================

    Everything else, and every interval with an unknown end, is undecided.

    Examples
    --------
    >>> judge("gain", 0.01, 0.03, 0.005), judge("gain", -0.02, 0.03, 0.005), judge("none", -0.001, 0.002, 0.005)
    ('confirmed', 'undecided', 'confirmed')
    """
    confirmed, refuted = {
        "gain": (low > 0, high < margin),
        "no_gain": (high < margin, low > margin),
        "none": (-margin < low and high < margin, low > margin or high < -margin),
    }[expected]
    return "confirmed" if confirmed else "refuted" if refuted else "undecided"


def findings(claims: Claims, shops: Sequence[Shop]) -> list[Finding]:
    """Every claim with its interval and its verdict."""
    found = []
    for claim in claims.claims:
        column = column_of(claims.metric, claim.targets)
        gain = estimate(shops, column, claim.rows, claim.interests, claims.level)
        scale = estimate(shops, column, {claim.scale: 1.0}, claim.interests, claims.level).mean
        found.append(Finding(claim, gain, scale, judge(claim.expected, gain.low, gain.high, claim.margin * scale)))
    return found


MOST_ERRORS = 3.0
"""Standard errors of the paired difference by which a row may be above the ceiling."""


@dataclass(frozen=True)
class UnderCeiling:
    """How a row stands to the ceiling in one column.

    Attributes
    ----------
    row, column
        Which.
    value, ceiling
        Means over the shops.
    gap
        Row minus ceiling.
    errors
        The gap in standard errors of the paired difference (users and training seeds), over all shops together.
    highest
        The same in the shop where it is highest.
    """

    row: str
    column: str
    value: float
    ceiling: float
    gap: Estimate
    errors: float
    highest: float

    @property
    def holds(self) -> bool:
        """Whether the row is not above the ceiling, neither over all shops nor in one of them."""
        return max(self.errors, self.highest) <= MOST_ERRORS


def under_ceiling(claims: Claims, shops: Sequence[Shop]) -> list[UnderCeiling]:
    """Every row against the ceiling, in every column."""
    found = []
    for column in (claims.metric, *claims.also):
        for row in shops[0].values[column]:
            if row == claims.ceiling:
                continue
            weights = {row: 1.0, claims.ceiling: -1.0}
            gap = estimate(shops, column, weights, None, claims.level)
            alone = [estimate([shop], column, weights, None, claims.level) for shop in shops]
            mean, top = (estimate(shops, column, {name: 1.0}, None, claims.level).mean for name in (row, claims.ceiling))
            highest = max(_ratio(one.mean, one.within) for one in alone)
            found.append(UnderCeiling(row, column, mean, top, gap, _ratio(gap.mean, gap.within), highest))
    return found


def _ratio(difference: float, error: float) -> float:
    if error > 0:
        return difference / error
    return 0.0 if difference == 0 else math.copysign(math.inf, difference)
