"""The shop: items with their categories, makers, series, complements and popularity. Fixed once, before anybody enters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchbed.data.simulate.spec import SHORTEST, SimulateSpec

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

ZIPF = 1.0
"""Exponent of the popularity law that items start from; what is sold is flatter, because nobody buys a thing twice."""
CATEGORIES_PER_DEPARTMENT = 4
"""A tree of two levels whose upper one is still informative: with 20 categories, 5 departments."""
MAKERS_PER_DEPARTMENT = 8
"""About six items for each (category, maker) in the default shop: a maker narrows the choice down without naming the item."""
SERIES_LENGTHS = (1, 2, 3, 4, 5, 6)
SERIES_SHARES = (0.40, 0.12, 0.14, 0.14, 0.12, 0.08)
"""Of all series, 40 % are a single item. So about one item in seven stands alone, and five in eight have a successor."""
COMPLEMENTS = 2
"""Accessories of an item: few, so that a complement is a recommendation and not a category."""
TAGS_PER_CATEGORY = 6
TAGS_PER_SERIES = 2
"""Tags are drawn for a series as a whole: a feature that says more than the category and less than the series."""


@dataclass(frozen=True)
class Shop:
    """All that is known about the items. Items are numbered by category, then maker; ``ids`` hides that order.

    Attributes
    ----------
    ids
        Raw id of every item, a random permutation of ``i0001, i0002, ...``: no order of ids says anything.
    category, department, maker, series, tags
        Of every item; makers are numbered through all departments; ``tags`` has one row of tag numbers an item.
    volume
        Position within its series, from 0.
    successor
        The next volume of the series, -1 after the last.
    complements
        Shape (items, 2); -1 for none.
    weight
        Popularity b, a Zipf law; sums to 1.
    launch
        Seconds after the opening from which each item can be taken, 0 for those that were there from the beginning; None in a
        shop without launches.
    attention
        What items are drawn by in a shop with launches, in place of ``weight``; sums to 1.
    """

    ids: NDArray[np.str_]
    category: Ints
    department: Ints
    maker: Ints
    series: Ints
    volume: Ints
    tags: Ints
    successor: Ints
    complements: Ints
    weight: Floats
    launch: Ints | None = None
    attention: Floats | None = None

    def __len__(self) -> int:
        return len(self.category)

    @cached_property
    def cumulative(self) -> Floats:
        """Sums of what items are drawn by before each item, with the total at the end: length items + 1."""
        return np.concatenate([np.zeros(1), np.cumsum(self.weight if self.attention is None else self.attention)])

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """What is known of the items, by name; without what a shop of its kind does not have."""
        return {name: column for name in self.__dataclass_fields__ if (column := getattr(self, name)) is not None}

    @cached_property
    def category_bounds(self) -> Ints:
        """First item of each category, then the number of items."""
        return np.searchsorted(self.category, np.arange(self.category[-1] + 2))

    @cached_property
    def makers(self) -> int:
        """How many makers there are, those without items counted too."""
        return int(self.department.max() + 1) * MAKERS_PER_DEPARTMENT

    @cached_property
    def group_bounds(self) -> Ints:
        """First item of each (category, maker) pair, in the order ``category * makers + maker``; then the number of items."""
        keys = self.category * self.makers + self.maker
        bounds: Ints = np.searchsorted(keys, np.arange((self.category[-1] + 1) * self.makers + 1))
        return bounds

    @cached_property
    def department_of_category(self) -> Ints:
        """The department of every category."""
        return self.department[self.category_bounds[:-1]]

    @cached_property
    def makers_cumulative(self) -> Floats:
        """Cumulative popularity of the makers within each department, shape (departments, makers), each row ending in 1."""
        shares = np.bincount(self.maker, weights=self.weight, minlength=self.makers).reshape(-1, MAKERS_PER_DEPARTMENT)
        cumulative: Floats = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)
        return cumulative

    @cached_property
    def category_cumulative(self) -> Floats:
        """Cumulative popularity of the categories, ending in 1."""
        shares = np.add.reduceat(self.weight, self.category_bounds[:-1])
        cumulative: Floats = np.cumsum(shares) / shares.sum()
        return cumulative

    def draw(self, low: Ints, high: Ints, rng: np.random.Generator) -> Ints:
        """One item of each range ``low <= item < high``, by popularity within the range. Ranges must not be empty."""
        start, end = self.cumulative[low], self.cumulative[high]
        drawn = np.searchsorted(self.cumulative, start + rng.random(len(low)) * (end - start), side="right") - 1
        items: Ints = np.clip(drawn, low, high - 1)
        return items

    def draw_categories(self, size: int, rng: np.random.Generator) -> Ints:
        """Categories by popularity."""
        drawn = np.searchsorted(self.category_cumulative, rng.random(size), side="right")
        categories: Ints = np.minimum(drawn, self.category[-1])
        return categories


def open_shop(spec: SimulateSpec, rng: np.random.Generator) -> Shop:
    """Draw a shop."""
    departments = max(1, spec.categories // CATEGORIES_PER_DEPARTMENT)
    category, length = _series(spec, rng)
    # A maker is large or small in all categories of its department, and none has a department to itself: Dirichlet(4).
    shares = np.cumsum(rng.dirichlet(np.full(MAKERS_PER_DEPARTMENT, 4.0), size=departments), axis=1)
    department = category % departments
    rank = (rng.random(len(category))[:, None] > shares[department]).sum(axis=1).clip(max=MAKERS_PER_DEPARTMENT - 1)
    maker = department * MAKERS_PER_DEPARTMENT + rank
    order = np.lexsort((maker, category))
    category, department, maker, length = category[order], department[order], maker[order], length[order]

    series = np.repeat(np.arange(len(length)), length)
    volume = np.arange(spec.items) - np.repeat(np.cumsum(length) - length, length)
    partner = np.where(np.arange(spec.categories) + departments < spec.categories, np.arange(spec.categories) + departments, -1)
    partner = np.where(partner < 0, np.arange(spec.categories) % departments, partner)
    # Popularity has no regard for category or maker; within a series it falls, because people begin at the beginning.
    zipf = np.arange(1, spec.items + 1, dtype=np.float64) ** -ZIPF
    weight = rng.permutation(zipf / zipf.sum())
    shop = Shop(
        ids=numbered("i", spec.items)[rng.permutation(spec.items)],
        category=category[series],
        department=department[series],
        maker=maker[series],
        series=series,
        volume=volume,
        tags=_tags(category, rng)[series],
        successor=np.where(volume + 1 < length[series], np.arange(spec.items) + 1, -1),
        complements=np.full((spec.items, COMPLEMENTS), -1),
        weight=weight[np.lexsort((-weight, series))],
    )
    return replace(shop, complements=_complements(shop, partner, rng))


def _series(spec: SimulateSpec, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Category and length of every series; the lengths of a category add up to its size."""
    # Dirichlet(10): the sizes of categories vary by about a third around their mean.
    free = spec.items - SHORTEST * spec.categories
    sizes = SHORTEST + rng.multinomial(free, rng.dirichlet(np.full(spec.categories, 10.0)))
    categories, lengths = [], []
    for category, size in enumerate(sizes):
        ends = np.minimum(np.cumsum(rng.choice(SERIES_LENGTHS, size=size, p=SERIES_SHARES)), size)
        cut = np.diff(ends, prepend=0)
        lengths.append(cut[cut > 0])
        categories.append(np.full(len(lengths[-1]), category))
    return np.concatenate(categories), np.concatenate(lengths)


def _tags(category: Ints, rng: np.random.Generator) -> Ints:
    """Two different tags for every series, out of those of its category."""
    ranks = np.argsort(rng.random((len(category), TAGS_PER_CATEGORY)), axis=1)[:, :TAGS_PER_SERIES]
    return category[:, None] * TAGS_PER_CATEGORY + ranks


def _complements(shop: Shop, partner: Ints, rng: np.random.Generator) -> Ints:
    """Accessories of every item: of the partner category, of the same maker where it has items there, by popularity."""
    other = partner[shop.category]
    key = other * shop.makers + shop.maker
    made = shop.group_bounds[key] < shop.group_bounds[key + 1]
    low = np.where(made, shop.group_bounds[key], shop.category_bounds[other])
    high = np.where(made, shop.group_bounds[key + 1], shop.category_bounds[other + 1])
    drawn = np.stack([shop.draw(low, high, rng) for _ in range(COMPLEMENTS)], axis=1)
    drawn[:, 1:][drawn[:, 1:] == drawn[:, :1]] = -1
    drawn[other == shop.category] = -1
    complements: Ints = drawn
    return complements


def numbered(prefix: str, count: int) -> NDArray[np.str_]:
    """``prefix`` and a number from 1, all of the same width of at least four digits.

    Examples
    --------
    >>> numbered("u", 3).tolist()
    ['u0001', 'u0002', 'u0003']
    """
    width = max(4, len(str(count)))
    return np.array([f"{prefix}{number:0{width}d}" for number in range(1, count + 1)])
