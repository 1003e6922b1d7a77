"""Items that come late: from when each can be taken, and how much attention it draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchbed.data.simulate.shop import Shop

LAUNCHES_FROM = 0.9
"""Launches happen in the last tenth of the year, evenly: late enough that training on what was before tells nothing of how
they sell, early enough that some are out when a split in time begins to validate."""
ATTENTION = 0.4
"""Share of all popularity that launched items have together, each of them alike: new things are looked at. With two fifths they
make more than a fifth of what is taken in the last twentieth of the year, when three quarters of them are out on average."""


def launch(shop: Shop, share: float, year: int, rng: np.random.Generator) -> Shop:
    """The same shop with a share of its items, drawn evenly, launched late; at least one.

    Parameters
    ----------
    shop
        Its categories, makers, series and complements stay as they are, and what users come for is drawn by its old popularity.
    share
        Of the items.
    year
        Seconds of simulated time.
    rng
        Where chance comes from.
    """
    items = len(shop)
    late = rng.permutation(items)[: max(1, round(share * items))]
    moments = np.zeros(items, np.int64)
    moments[late] = (year * (LAUNCHES_FROM + (1 - LAUNCHES_FROM) * rng.random(len(late)))).astype(np.int64)
    attention = shop.weight.copy()
    attention[late] = 0.0
    attention *= (1 - ATTENTION) / attention.sum()
    attention[late] = ATTENTION / len(late)
    return replace(shop, launch=moments, attention=attention)
