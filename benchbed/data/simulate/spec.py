"""The ``simulate`` block of a dataset card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from benchbed.config import Document, Schema, check
from benchbed.errors import ConfigError

SIMULATOR_VERSION = 1
"""Raised when the same settings give other raw files than before."""

SHORTEST = 5
"""Events that every user has at least: enough for a history, a validation target and a test target on every split."""


class SimulateSpec(Schema):
    """What can be chosen of a simulated shop. Everything else is fixed; ``docs/bazaar.md`` has the equations.

    Attributes
    ----------
    name
        The simulator; ``bazaar`` is the only one.
    seed
        Of the shop and its visitors. The same settings give the same bytes.
    users, items, events
        Exact sizes. Every user has at least 5 events.
    categories
        Among which the items are divided, and of which a user likes one to four.
    launches
        Share of the items that can be taken only from some moment in the last tenth of the year on. 0 is a shop in which time
        has no influence on what is taken.

    Examples
    --------
    >>> SimulateSpec(name="bazaar", seed=7).events
    60000
    """

    name: Literal["bazaar"]
    seed: int = Field(ge=0)
    users: int = Field(default=2000, ge=1, le=10_000_000)
    items: int = Field(default=1000, ge=20, le=1_000_000)
    events: int = Field(default=60_000, ge=5)
    categories: int = Field(default=20, ge=1, le=1000)
    launches: float = Field(default=0.0, ge=0, lt=0.5)

    @model_validator(mode="after")
    def _possible(self) -> SimulateSpec:
        if self.items < SHORTEST * self.categories:
            raise ValueError(f"{self.categories} categories need at least {SHORTEST * self.categories} items, not {self.items}")
        low, high = SHORTEST * self.users, self.users * self.items // 4
        if not low <= self.events <= high:
            raise ValueError(
                f"{self.users} users and {self.items} items make between {low} and {high} events "
                f"({SHORTEST} a user at least, a quarter of the items at most), not {self.events}"
            )
        return self


def read_settings(settings: Mapping[str, Any], source: str = "simulate") -> SimulateSpec:
    """Validate the simulate block of a card.

    Raises
    ------
    ConfigError
        With every mistake of the block, and the nearest valid name where a name is wrong.
    """
    made, problems = check(Document(dict(settings), source), SimulateSpec)
    if made is None:
        raise ConfigError(problems)
    return made
