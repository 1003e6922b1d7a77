"""The options of an evaluation block that decide its cases, and the counts of what became of these."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Literal, Protocol

from benchbed.data.raw_cases import CANDIDATES


class CaseRules(Protocol):
    """The options of the evaluation block that decide the cases."""

    @property
    def seen_items(self) -> Literal["exclude", "keep"]:
        """Whether items of the history are candidates and targets."""
        ...

    @property
    def candidates(self) -> Literal["vocabulary", "catalogue"]:
        """What is ranked."""
        ...

    @property
    def unknown_targets(self) -> Literal["miss", "drop"]:
        """What becomes of targets outside the candidates."""
        ...

    @property
    def targets(self) -> Literal["rest", "next", "every_next"]:
        """Which events after the cut are targets, and of which case."""
        ...

    @property
    def mode(self) -> Literal["full", "sampled", "click_through"]:
        """Whether all candidates are ranked, listed ones, or labelled rows told apart."""
        ...

    @property
    def negatives(self) -> Literal["shipped"] | int | None:
        """Where listed negatives come from."""
        ...

    @property
    def flawed_negatives(self) -> Literal["drop", "keep"]:
        """What becomes of shipped negatives that are none."""
        ...

    @property
    def seed(self) -> int:
        """Of drawn negatives."""
        ...


@dataclass(frozen=True)
class Rules:
    """Plain :class:`CaseRules`."""

    seen_items: Literal["exclude", "keep"]
    candidates: Literal["vocabulary", "catalogue"] = "vocabulary"
    unknown_targets: Literal["miss", "drop"] = "miss"
    targets: Literal["rest", "next", "every_next"] = "rest"
    mode: Literal["full", "sampled", "click_through"] = "full"
    negatives: Literal["shipped"] | int | None = None
    flawed_negatives: Literal["drop", "keep"] = "drop"
    seed: int = 0


def rules_key(rules: CaseRules) -> str:
    """The options as one text, under which ``audit.json`` counts cases; before any is left out for want of negatives.

    Examples
    --------
    >>> rules_key(Rules("exclude")), rules_key(Rules("keep", "catalogue", mode="click_through"))
    ('exclude-vocabulary-miss-rest', 'click_through-catalogue-miss')
    """
    if rules.mode == "click_through":
        return "-".join((rules.mode, rules.candidates, rules.unknown_targets))
    return "-".join((rules.seen_items, rules.candidates, rules.unknown_targets, rules.targets))


def revision(rules: CaseRules) -> str | None:
    """What tells these rules from what the same words meant in earlier versions; None where they have always meant the same.

    It is part of the fingerprint of a protocol, so that results of an earlier meaning are never mixed with others.

    Examples
    --------
    >>> revision(Rules("keep", targets="every_next")), revision(Rules("keep", targets="every_next", unknown_targets="drop"))
    (None, 'unknown events are dropped before events are paired')
    """
    if rules.targets == "every_next" and rules.unknown_targets == "drop":
        return "unknown events are dropped before events are paired"
    return None


@dataclass(frozen=True)
class CaseCounts:
    """What became of the cases of a split under one protocol.

    Attributes
    ----------
    cases
        Evaluated cases.
    targets
        Targets of these, unknown ones included.
    unknown_targets
        Targets outside the candidates: counted as misses, or dropped, as the protocol says.
    seen_targets
        Targets removed because the history holds them.
    repeated_targets
        Targets removed because the same case has them already.
    cases_without_unseen_targets, cases_without_known_targets
        Cases not evaluated because no target was left by the rule.
    negatives, unknown_negatives
        Negative rows of ``mode: click_through`` and those among them of items outside the candidates; None in other modes.
    cases_without_known_history
        With ``targets: every_next`` and ``unknown_targets: drop`` known targets that are no case because no known event comes
        before them; None under other rules, and where a split was made before these were counted.
    cases_without_negatives
        Cases of ``mode: sampled`` not evaluated because none of their negatives is a candidate, or none was left; None in other
        modes, and where nothing was listed yet.
    """

    cases: int
    targets: int
    unknown_targets: int
    seen_targets: int = 0
    repeated_targets: int = 0
    cases_without_unseen_targets: int = 0
    cases_without_known_targets: int = 0
    cases_without_known_history: int | None = None
    negatives: int | None = None
    unknown_negatives: int | None = None
    cases_without_negatives: int | None = None

    @property
    def stored(self) -> dict[str, int]:
        """As in ``audit.json``: what is known."""
        return {name: count for name, count in asdict(self).items() if count is not None}


def all_rules(*, labelled: bool = False) -> Iterator[Rules]:
    """Every combination of options; with ``labelled`` also those of ``mode: click_through``."""
    seen: tuple[Literal["exclude", "keep"], ...] = ("exclude", "keep")
    unknown: tuple[Literal["miss", "drop"], ...] = ("miss", "drop")
    targets: tuple[Literal["rest", "next", "every_next"], ...] = ("rest", "next", "every_next")
    for chosen in product(seen, CANDIDATES, unknown, targets):
        yield Rules(*chosen)
    for candidates, what in product(CANDIDATES, unknown) if labelled else ():
        yield Rules("keep", candidates, what, mode="click_through")
