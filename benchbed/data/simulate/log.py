"""The log that visitors leave behind: who took what when, with the planted state at every event."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchbed.data.simulate.launches import launch
from benchbed.data.simulate.shop import Floats, Ints, Shop, open_shop
from benchbed.data.simulate.spec import SHORTEST, SimulateSpec
from benchbed.data.simulate.visitors import MOST_INTERESTS, NEW_SESSION, Schedule, Taken, Visitors, enter, walk

OPENING = 1_704_067_200
"""1 January 2024, 00:00 UTC."""
YEAR = 365 * 86_400
ARRIVAL = 0.8
"""Users arrive during the first four fifths of the year."""
WITHIN_MEDIAN, WITHIN_SPREAD = 45.0, 1.0
"""Seconds between events of a session: log-normal, median 45 s, one in twenty above four minutes."""
SAME_SECOND = 0.06
"""Share of events within a session that fall into the second of the one before: several things put into one basket."""
BETWEEN_LEAST = 1800
"""Seconds that divide two sessions at least: the half hour of web analytics."""
BLOCK = 4096
"""Visitors walked at once. Each block has random numbers of its own, so that memory does not grow with the number of users."""


@dataclass(frozen=True)
class Log:
    """All events, user by user, oldest first, with the planted state at each.

    Attributes
    ----------
    lengths
        Events of each user; the arrays below hold them end to end.
    maker
        Preferred maker of each user in each department.
    items, ways, opened, topic, interests, logits
        Of each event: the item, how it was chosen, whether it opened a session, and the state in which it was chosen.
    timestamps
        Seconds since 1970; never falling within a user.
    """

    lengths: Ints
    maker: Ints
    items: Ints
    ways: Ints
    opened: NDArray[np.bool_]
    topic: Ints
    interests: Ints
    logits: Floats
    timestamps: Ints

    @property
    def users(self) -> Ints:
        """The user of every event."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


def generator(seed: int, *key: int) -> np.random.Generator:
    """Independent random numbers for each part of the simulation."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def simulate(spec: SimulateSpec) -> tuple[Shop, Log]:
    """The shop and a year of its visitors. With launches, when people come is drawn first, then what they take."""
    shop = open_shop(spec, generator(spec.seed, 0))
    lengths = _lengths(spec, generator(spec.seed, 1))
    starts = np.cumsum(lengths) - lengths
    timestamps: Ints | None = None
    departments = len(shop.makers_cumulative)
    items, ways, topic = (np.zeros(spec.events, np.int64) for _ in range(3))
    opened = np.zeros(spec.events, np.bool_)
    if spec.launches:
        shop = launch(shop, spec.launches, YEAR, generator(spec.seed, 6))
        opened = generator(spec.seed, 7).random(spec.events) < NEW_SESSION
        opened[starts] = True
        timestamps = _timestamps(lengths, opened, generator(spec.seed, 3), to_the_end=True)
    interests = np.zeros((spec.events, MOST_INTERESTS), np.int64)
    logits = np.zeros((spec.events, MOST_INTERESTS))
    maker = np.zeros((spec.users, departments), np.int64)
    for block, first in enumerate(range(0, spec.users, BLOCK)):
        users = np.arange(first, min(first + BLOCK, spec.users))
        users = users[np.argsort(-lengths[users], kind="stable")]
        rng = generator(spec.seed, 2, block)
        visitors = enter(shop, len(users), rng)
        maker[users] = visitors.maker
        begin = starts[users]

        def note(number: int, taken: Taken, state: Visitors, begin: Ints = begin) -> None:
            at = begin[: len(state)] + number
            items[at], ways[at], opened[at] = taken.items, taken.ways, taken.opened
            topic[at], interests[at], logits[at] = state.topic, state.interests, state.logits

        schedule = None if timestamps is None else Schedule(begin, opened, timestamps - OPENING)
        walk(shop, visitors, lengths[users], rng, note, schedule)
    if timestamps is None:
        timestamps = _timestamps(lengths, opened, generator(spec.seed, 3))
    return shop, Log(lengths, maker, items, ways, opened, topic, interests, logits, timestamps)


def _lengths(spec: SimulateSpec, rng: np.random.Generator) -> Ints:
    """Events of each user: 5, and a share of the rest drawn from Gamma(2): a few histories are many times the mean."""
    most = max(SHORTEST, spec.items // 2)
    share = rng.gamma(2.0, size=spec.users)
    lengths = np.full(spec.users, SHORTEST)
    while (rest := spec.events - int(lengths.sum())) > 0:
        # what would take a user beyond half of all items goes to the others
        open_share = share * (lengths < most)
        lengths = np.minimum(lengths + rng.multinomial(rest, open_share / open_share.sum()), most)
    return lengths


def _timestamps(lengths: Ints, opened: NDArray[np.bool_], rng: np.random.Generator, *, to_the_end: bool = False) -> Ints:
    """Arrival, then sessions spread over a part of the remaining year, or all of it, then events within sessions."""
    events, users = len(opened), len(lengths)
    user = np.repeat(np.arange(users), lengths)
    first = np.cumsum(lengths) - lengths
    arrival = rng.random(users) * ARRIVAL * YEAR
    # A user's sessions divide a window, from a third to all of the rest of the year, as a Poisson process does.
    window = (YEAR - arrival) * (1.0 if to_the_end else 1 / 3 + 2 / 3 * rng.random(users))
    waits = np.where(opened, rng.exponential(size=events), 0.0)
    waits[first] = 0.0
    total = np.add.reduceat(waits, first) + rng.exponential(size=users)
    between = BETWEEN_LEAST + waits * (window / total)[user]
    within = 1 + WITHIN_MEDIAN * np.exp(WITHIN_SPREAD * rng.standard_normal(events))
    within[rng.random(events) < SAME_SECOND] = 0
    gaps = np.where(opened, between, within).astype(np.int64)
    gaps[first] = arrival.astype(np.int64)
    passed = np.cumsum(gaps)
    timestamps: Ints = OPENING + passed - (passed[first] - gaps[first])[user]
    return timestamps
