"""Visitors of the shop: what they want, how that drifts, and what they take next.

One step takes one event of every visitor at once. The log and its continuations are made by the same step, so that an oracle
that simulates from the planted state at a cut draws from the very distribution that made the targets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchbed.data.simulate.shop import MAKERS_PER_DEPARTMENT, Floats, Ints, Shop

MOST_INTERESTS = 4
INTEREST_SHARES = (0.3, 0.3, 0.2, 0.2)
"""Users with one, two, three and four interests: every group is large enough to be measured on its own."""

NEW_SESSION = 0.25
"""Chance that an event opens a session: four events a session. Without memory, so that a cut needs no session clock."""
KEPT = 0.9
"""Autocorrelation of the interests' logits from session to session: half of them is left after six and a half sessions,
about the length of one history."""
SWAP = 0.03
"""Chance, per session, that an interest gives way to a new one: about one user in five meets it within eight sessions."""
REFOCUS = 0.15
"""Chance, per event within a session, that the session turns anew to one of the interests: sessions are mostly of one kind."""

SERIES, COMPLEMENT, BROWSE = 0.30, 0.10, 0.10
"""Shares of the ways to choose. Two events in five follow from what was taken before, where that can be followed; one in ten
is noise."""
LOYALTY = 0.5
"""Share of choices within a category that go to the user's own maker, the same in all categories of a department: what a graph
with makers knows and a list of categories does not."""
ANCHORS = 4
ANCHOR_SHARES = (8 / 15, 4 / 15, 2 / 15, 1 / 15)
"""Which of the last four events is followed. Half of the time it is the last one; people interleave, so that a chain of
first order is not enough."""
REPEAT = 0.005
"""Chance of taking one of the last four items again: repeats exist and stay below one per cent."""
TRIES = 30
"""Draws of an unseen item before one is drawn among all unseen ones: reached by fewer than one event in a thousand."""

WAYS = ("topic", "series", "complement", "browse", "repeat", "leftover")
TOPIC_WAY, SERIES_WAY, COMPLEMENT_WAY, BROWSE_WAY, REPEAT_WAY, LEFTOVER_WAY = range(6)


@dataclass
class Visitors:
    """The planted state of some visitors, one row each. Arrays are changed in place by :func:`step`.

    Attributes
    ----------
    maker
        The preferred maker in each department; shape (rows, departments).
    interests
        Categories, -1 beyond the number of interests; shape (rows, 4).
    logits
        Whose softmax, over a row's interests, are the weights of the interests; shape (rows, 4).
    topic
        The category that the session is about, -1 before the first event.
    recent
        The last four items, newest first, -1 where there is none.
    seen
        Which items were taken; shape (rows, items).
    """

    maker: Ints
    interests: Ints
    logits: Floats
    topic: Ints
    recent: Ints
    seen: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.topic)

    def view(self, rows: slice | Ints) -> Visitors:
        """Some rows: a slice gives a window on the same arrays, an array of row numbers a copy."""
        return Visitors(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def remember(self, items: Ints) -> None:
        """Note one item for every row."""
        self.recent[:, 1:] = self.recent[:, :-1].copy()
        self.recent[:, 0] = items
        self.seen[np.arange(len(items)), items] = True


@dataclass(frozen=True)
class Taken:
    """What one step gave: for every row the item, the way it was chosen, and whether it opened a session."""

    items: Ints
    ways: Ints
    opened: NDArray[np.bool_]


def enter(shop: Shop, count: int, rng: np.random.Generator) -> Visitors:
    """Visitors before their first event."""
    number = 1 + np.searchsorted(np.cumsum(INTEREST_SHARES)[:-1], rng.random(count), side="right")
    number = np.minimum(number, len(shop.category_bounds) - 1)
    interests = np.full((count, MOST_INTERESTS), -1)
    for slot in range(MOST_INTERESTS):
        rows = np.flatnonzero(number > slot)
        interests[rows, slot] = _another_category(shop, interests[rows], rng)
    departments = len(shop.makers_cumulative)
    maker = (rng.random((count, departments))[:, :, None] > shop.makers_cumulative).sum(axis=2)
    return Visitors(
        maker=maker.clip(max=MAKERS_PER_DEPARTMENT - 1) + np.arange(departments) * MAKERS_PER_DEPARTMENT,
        interests=interests,
        logits=rng.standard_normal((count, MOST_INTERESTS)),
        topic=np.full(count, -1),
        recent=np.full((count, ANCHORS), -1),
        seen=np.zeros((count, len(shop)), dtype=np.bool_),
    )


@dataclass(frozen=True)
class Schedule:
    """When visitors come, drawn before what they take: needed where what can be taken depends on the time.

    Attributes
    ----------
    begin
        For each visitor, the place of the first event to be taken in the arrays below.
    opened, seconds
        Of every event: whether it opens a session, and its time in seconds after the opening of the shop.
    """

    begin: Ints
    opened: NDArray[np.bool_]
    seconds: Ints

    def visit(self, number: int, count: int) -> Visit:
        """Event ``number`` from 0 of the first ``count`` visitors."""
        at = self.begin[:count] + number
        return Visit(self.opened[at], self.seconds[at])


@dataclass(frozen=True)
class Visit:
    """One event of some visitors, as far as it is fixed beforehand."""

    opened: NDArray[np.bool_]
    seconds: Ints


def step(shop: Shop, visitors: Visitors, rng: np.random.Generator, visit: Visit | None = None) -> Taken:
    """One more event of every visitor; changes the state. A shop with launches must be told the ``visit``."""
    count = len(visitors)
    opened = ((rng.random(count) < NEW_SESSION) | (visitors.topic < 0)) if visit is None else visit.opened
    _drift(shop, visitors, np.flatnonzero(opened), rng)
    refocused = np.flatnonzero(opened | (rng.random(count) < REFOCUS))
    visitors.topic[refocused] = _pick_interest(visitors, refocused, rng)
    items, ways = _choose(shop, visitors, rng, None if visit is None else visit.seconds)
    visitors.remember(items)
    return Taken(items, ways, opened)


def weights(interests: Ints, logits: Floats) -> Floats:
    """Softmax of the logits over the interests that there are; 0 elsewhere.

    Examples
    --------
    >>> weights(np.array([[3, 5, -1, -1]]), np.zeros((1, 4))).tolist()
    [[0.5, 0.5, 0.0, 0.0]]
    """
    masked = np.where(interests >= 0, logits, -np.inf)
    powers = np.exp(masked - masked.max(axis=1, keepdims=True))
    normal: Floats = powers / powers.sum(axis=1, keepdims=True)
    return normal


def _drift(shop: Shop, visitors: Visitors, rows: Ints, rng: np.random.Generator) -> None:
    """At the door of a session: weights move, and now and then an interest gives way to a new one."""
    rows = rows[visitors.topic[rows] >= 0]
    noise = rng.standard_normal((len(rows), MOST_INTERESTS))
    visitors.logits[rows] = KEPT * visitors.logits[rows] + np.sqrt(1 - KEPT**2) * noise
    number = (visitors.interests[rows] >= 0).sum(axis=1)
    possible = number < len(shop.category_bounds) - 1
    swapped = (rng.random(len(rows)) < SWAP) & possible
    slot = (rng.random(len(rows)) * number).astype(np.int64)[swapped]
    rows = rows[swapped]
    visitors.interests[rows, slot] = _another_category(shop, visitors.interests[rows], rng)
    visitors.logits[rows, slot] = rng.standard_normal(len(rows))


def _another_category(shop: Shop, interests: Ints, rng: np.random.Generator) -> Ints:
    """A category by popularity for each row, none of those that the row has."""
    found = shop.draw_categories(len(interests), rng)
    while len(again := np.flatnonzero((interests == found[:, None]).any(axis=1))):
        found[again] = shop.draw_categories(len(again), rng)
    return found


def _pick_interest(visitors: Visitors, rows: Ints, rng: np.random.Generator) -> Ints:
    interests = visitors.interests[rows]
    cumulative = np.cumsum(weights(interests, visitors.logits[rows]), axis=1)
    slot = (rng.random(len(rows))[:, None] > cumulative).sum(axis=1)
    number = (interests >= 0).sum(axis=1)
    picked: Ints = interests[np.arange(len(rows)), np.minimum(slot, number - 1)]
    return picked


def _choose(shop: Shop, visitors: Visitors, rng: np.random.Generator, now: Ints | None) -> tuple[Ints, Ints]:
    """P(item) is the mixture of the ways, restricted to unseen items that are launched: drawn by rejection."""
    count = len(visitors)
    items, ways = np.zeros(count, np.int64), np.full(count, REPEAT_WAY)
    held = (visitors.recent >= 0).sum(axis=1)
    repeats = (rng.random(count) < REPEAT) & (held > 0)
    which = np.flatnonzero(repeats)
    items[which] = visitors.recent[which, (rng.random(len(which)) * held[which]).astype(np.int64)]
    waiting = np.flatnonzero(~repeats)
    for _ in range(TRIES):
        if not len(waiting):
            return items, ways
        drawn, way = _propose(shop, visitors, waiting, rng)
        fresh = ~visitors.seen[waiting, drawn]
        if shop.launch is not None and now is not None:
            fresh &= shop.launch[drawn] <= now[waiting]
        items[waiting[fresh]], ways[waiting[fresh]] = drawn[fresh], way[fresh]
        waiting = waiting[~fresh]
    for row in waiting:
        there = np.ones(len(shop), bool) if shop.launch is None or now is None else shop.launch <= now[row]
        unseen = np.flatnonzero(~visitors.seen[row] & there)
        # a visitor who took everything can only take something again
        items[row] = rng.choice(unseen) if len(unseen) else rng.choice(np.flatnonzero(there))
        ways[row] = LEFTOVER_WAY
    return items, ways


def _propose(shop: Shop, visitors: Visitors, rows: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """One draw of the mixture for each row, seen items not yet excluded."""
    count = len(rows)
    followed = np.searchsorted(np.cumsum(ANCHOR_SHARES)[:-1], rng.random(count), side="right")
    anchor = visitors.recent[rows, followed]
    successor = np.where(anchor >= 0, shop.successor[anchor], -1)
    complement = np.where(anchor >= 0, shop.complements[anchor, rng.integers(shop.complements.shape[1], size=count)], -1)
    way = np.searchsorted(np.cumsum([SERIES, COMPLEMENT, BROWSE]), rng.random(count), side="right")
    way = np.array([SERIES_WAY, COMPLEMENT_WAY, BROWSE_WAY, TOPIC_WAY])[way]
    # where there is nothing to follow, the share of following goes to the topic
    way[(way == SERIES_WAY) & (successor < 0) | (way == COMPLEMENT_WAY) & (complement < 0)] = TOPIC_WAY

    topic = visitors.topic[rows]
    maker = visitors.maker[rows, shop.department_of_category[topic]]
    low, high = shop.category_bounds[topic], shop.category_bounds[topic + 1]
    key = topic * shop.makers + maker
    loyal = (rng.random(count) < LOYALTY) & (shop.group_bounds[key] < shop.group_bounds[key + 1])
    low, high = np.where(loyal, shop.group_bounds[key], low), np.where(loyal, shop.group_bounds[key + 1], high)
    browsing = way == BROWSE_WAY
    drawn = shop.draw(np.where(browsing, 0, low), np.where(browsing, len(shop), high), rng)
    return np.select([way == SERIES_WAY, way == COMPLEMENT_WAY], [successor, complement], drawn), way


Observe = Callable[[int, Taken, Visitors], None]


def walk(
    shop: Shop,
    visitors: Visitors,
    lengths: Ints,
    rng: np.random.Generator,
    observe: Observe,
    schedule: Schedule | None = None,
) -> None:
    """Take ``lengths[row]`` events for every visitor.

    Parameters
    ----------
    shop, visitors
        ``visitors`` must be ordered by falling length; it ends as the state after the last event of each.
    lengths
        Events of each visitor.
    rng
        Where chance comes from.
    observe
        Called after every step with its number from 0, what was taken, and the state of those who took something (the first
        rows of ``visitors``).
    schedule
        When the visitors come; None where time has no influence, and sessions are drawn on the way.
    """
    if np.any(np.diff(lengths) > 0):
        raise ValueError("visitors must be ordered by falling length")
    for number in range(int(lengths.max(initial=0))):
        active = visitors.view(slice(0, int(np.searchsorted(-lengths, -number))))
        visit = None if schedule is None else schedule.visit(number, len(active))
        observe(number, step(shop, active, rng, visit), active)
