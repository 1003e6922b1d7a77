"""The split block of a benchmark file."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from benchbed.config import Schema, fingerprint, mistake, unknown_choice

SPLITS: dict[str, str] = {
    "user_disjoint": "users are divided into train, validation and test; held-out users give a history and targets",
    "partial_history": "as user_disjoint, but the histories of held-out users are trained on too (weak generalisation)",
    "leave_one_out": "the last event of each user is the test target, the one before it the validation target",
    "session": "whole sessions are held out, the newest or those of a file; each event after a session's first is a target",
    "temporal": "everybody's events from one moment on are test targets, those of the stretch before it validation targets",
    "click_through": "events and as many drawn negatives are pooled and divided at random into labelled rows of three parts",
}
"""Every split kind, with its meaning in words."""

_OWNERS: dict[str, tuple[str, ...]] = {
    "ratios": ("user_disjoint", "partial_history", "click_through"),
    "input_fraction": ("user_disjoint", "partial_history"),
    "test_days": ("session", "temporal"),
    "test_share": ("session", "temporal"),
    "by": ("session",),
    "valid_share": ("session",),
    "test": ("leave_one_out",),
}
"""The split kinds that a key belongs to."""


def _order(value: str) -> str:
    if value not in ("hash", "file") and not re.fullmatch(r"column: ?[^ ].*", value):
        raise unknown_choice(value, ["hash", "file"], f"'{value}' is not one of hash, file, 'column: NAME'")
    return value


def _column(value: str) -> str:
    if not re.fullmatch(r"column: ?[^ ].*", value):
        raise ValueError(f"'{value}' names no column; write it as 'column: NAME'")
    return value


Ties = Annotated[str, AfterValidator(_order)]


class SplitSpec(Schema):
    """How training events, validation cases and test cases are made.

    Attributes
    ----------
    kind
        A name of ``SPLITS``.
    ratios
        Train : validation : test, in users (``user_disjoint`` and ``partial_history``; default 8:1:1) or in rows
        (``click_through``; default 6:2:2).
    input_fraction
        Share of a held-out user's events that becomes the history (``user_disjoint`` and ``partial_history`` only;
        default 0.8).
    test_days
        The sessions that begin in the last so many days (of 24 hours) of the log are tested, those that begin in as many days
        before are validated (``session``); likewise events (``temporal``).
    test_share
        The newest share of the sessions (``session``) or of the events (``temporal``) is tested, as many before them are
        validated (0.1 where nothing else is said).
    by
        ``column: NAME``: the sessions with the largest value of this column are tested (``session`` only).
    valid_share
        With ``by``: the newest share of the other sessions is validated (default 0.1).
    test
        ``column: NAME``: the rows with the largest value of this column are the test targets, instead of each user's last event
        (``leave_one_out`` only).
    seeds
        One whole sweep a seed; the leaderboard pools them. Session and temporal splits take one: they hold out
        the same for all. Whole numbers, 0 or larger and below 2**63.
    ties
        Order of events of one user that share a timestamp: ``hash`` (keyed by split seed, raw user and raw item), ``file``
        (the order of the log), or ``column: NAME`` (an additional column of the card).
    """

    kind: Literal["user_disjoint", "partial_history", "leave_one_out", "session", "temporal", "click_through"]
    ratios: tuple[int, int, int] | None = None
    input_fraction: float | None = None
    test_days: float | None = Field(None, gt=0)
    test_share: float | None = Field(None, gt=0, lt=0.5)
    by: Annotated[str, AfterValidator(_column)] | None = None
    valid_share: float | None = Field(None, gt=0, lt=1)
    test: Annotated[str, AfterValidator(_column)] | None = None
    seeds: tuple[int, ...] = Field((42,), min_length=1)
    ties: Ties = "hash"

    @field_validator("ratios")
    @classmethod
    def _positive(cls, value: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if value is not None and min(value) < 1:
            at = value.index(min(value))
            raise mistake(f"every part has at least 1 (it is {value[at]})", at=(at,))
        return value

    @field_validator("input_fraction")
    @classmethod
    def _proper(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value < 1:
            raise ValueError(f"this lies strictly between 0 and 1 (it is {value:g})")
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a seed stands twice")
        wrong = next((place for place, seed in enumerate(value) if not 0 <= seed < 2**63), None)
        if wrong is not None:
            raise mistake(f"{value[wrong]} is no seed of a split; give whole numbers from 0 to {2**63 - 1}", at=(wrong,))
        if len(value) > 1 and (kind := info.data.get("kind")) in ("session", "temporal"):
            raise ValueError(f"a {kind} split holds out the same for every seed, so it takes one seed")
        return value

    @field_validator("ratios", "input_fraction", "test_days", "test_share", "by", "valid_share", "test")
    @classmethod
    def _belongs(cls, value: object, info: ValidationInfo) -> object:
        owners = _OWNERS[str(info.field_name)]
        kind = info.data.get("kind", owners[0])
        if value is not None and kind not in owners:
            named = " or ".join(filter(None, (", ".join(owners[:-1]), owners[-1])))
            raise ValueError(f"this belongs to the {named} split; with {kind} it would change nothing")
        return value

    @field_validator("test_share", "by")
    @classmethod
    def _one_way(cls, value: object, info: ValidationInfo) -> object:
        other = next((key for key in ("test_days", "test_share") if info.data.get(key) is not None), None)
        if value is not None and other is not None:
            raise ValueError(f"{other} already says what is tested; give one of them")
        return value

    @field_validator("valid_share")
    @classmethod
    def _beside_by(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("kind") == "session" and info.data.get("by") is None:
            raise ValueError("this belongs to `by`; otherwise the validation part is as large as the test part")
        return value

    @property
    def parts(self) -> tuple[int, int, int]:
        """Train : validation : test, in users or rows."""
        return self.ratios or ((6, 2, 2) if self.kind == "click_through" else (8, 1, 1))

    @property
    def history_share(self) -> Fraction:
        """The input fraction as an exact fraction, so that cuts are integer arithmetic."""
        return Fraction(str(0.8 if self.input_fraction is None else self.input_fraction))

    @property
    def newest_share(self) -> Fraction:
        """``test_share``, or with ``by`` ``valid_share``, as an exact fraction."""
        given = self.valid_share if self.by is not None else self.test_share
        return Fraction(str(0.1 if given is None else given))

    def identity(self, seed: int) -> dict[str, object]:
        """All that decides the rows of one split."""
        made: dict[str, object] = {"kind": self.kind, "ties": self.ties, "seed": seed}
        if self.kind in ("user_disjoint", "partial_history"):
            made |= {"ratios": list(self.parts), "input_fraction": str(self.history_share)}
        elif self.kind == "click_through":
            made |= {"ratios": list(self.parts)}
        elif self.kind in ("session", "temporal") and self.test_days is not None:
            made |= {"test_days": str(self.test_days)}
        elif self.kind == "temporal":
            made |= {"newest_share": str(self.newest_share)}
        elif self.kind == "session":
            made |= {"newest_share": str(self.newest_share), "by": self.by}
        elif self.test is not None:
            made |= {"test": self.test.partition(":")[2].strip()}
        return made

    def split_id(self, seed: int) -> str:
        """Folder name of one split, for example ``user_disjoint-s42-1f0c9a2b``."""
        return f"{self.kind}-s{seed}-{fingerprint(self.identity(seed))[:8]}"
