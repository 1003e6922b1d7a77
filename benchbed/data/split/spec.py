"""The split block of a benchmark file."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from benchbed.config import Schema, fingerprint

SPLITS: dict[str, str] = {
    "user_disjoint": "users are divided into train, validation and test; held-out users give a history and targets",
    "leave_one_out": "the last event of each user is the test target, the one before it the validation target",
}
"""Every split kind, with its meaning in words."""


def _order(value: str) -> str:
    if value not in ("hash", "file") and not re.fullmatch(r"column: ?[^ ].*", value):
        raise ValueError(f"'{value}' is not one of hash, file, 'column: NAME'")
    return value


Ties = Annotated[str, AfterValidator(_order)]


class SplitSpec(Schema):
    """How training events, validation cases and test cases are made.

    Attributes
    ----------
    kind
        ``user_disjoint`` or ``leave_one_out``.
    ratios
        Train : validation : test, in users (``user_disjoint`` only; default 8:1:1).
    input_fraction
        Share of a held-out user's events that becomes the history (``user_disjoint`` only; default 0.8).
    seeds
        One whole sweep a seed; the leaderboard pools them.
    ties
        Order of events of one user that share a timestamp: ``hash`` (keyed by split seed, raw user and raw item), ``file``
        (the order of the log), or ``column: NAME`` (an additional column of the card).
    """

    kind: Literal["user_disjoint", "leave_one_out"]
    ratios: tuple[int, int, int] | None = None
    input_fraction: float | None = None
    seeds: tuple[int, ...] = Field((42,), min_length=1)
    ties: Ties = "hash"

    @field_validator("ratios")
    @classmethod
    def _positive(cls, value: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if value is not None and min(value) < 1:
            raise ValueError("every part of the ratios must be at least 1")
        return value

    @field_validator("input_fraction")
    @classmethod
    def _proper(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value < 1:
            raise ValueError("input_fraction must lie strictly between 0 and 1")
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a seed stands twice")
        return value

    @field_validator("ratios", "input_fraction")
    @classmethod
    def _belongs(cls, value: object, info: ValidationInfo) -> object:
        kind = info.data.get("kind", "user_disjoint")
        if value is not None and kind != "user_disjoint":
            raise ValueError(f"this belongs to the user_disjoint split; with {kind} it would change nothing")
        return value

    @property
    def parts(self) -> tuple[int, int, int]:
        """Train : validation : test, in users."""
        return self.ratios or (8, 1, 1)

    @property
    def history_share(self) -> Fraction:
        """The input fraction as an exact fraction, so that cuts are integer arithmetic."""
        return Fraction(str(0.8 if self.input_fraction is None else self.input_fraction))

    def identity(self, seed: int) -> dict[str, object]:
        """All that decides the rows of one split."""
        made: dict[str, object] = {"kind": self.kind, "ties": self.ties, "seed": seed}
        if self.kind == "user_disjoint":
            made |= {"ratios": list(self.parts), "input_fraction": str(self.history_share)}
        return made

    def split_id(self, seed: int) -> str:
        """Folder name of one split, for example ``user_disjoint-s42-1f0c9a2b``."""
        return f"{self.kind}-s{seed}-{fingerprint(self.identity(seed))[:8]}"
