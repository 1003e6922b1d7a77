"""What a ledger tells a tracking store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class RunKey:
    """Which run: a trial of an Optuna study. Study names are unique over everything, for they end in an identity hash.

    Examples
    --------
    >>> str(RunKey("search/ease/s42/1f0c9a2b", 3))
    'search/ease/s42/1f0c9a2b/3'
    """

    study: str
    number: int

    def __str__(self) -> str:
        return f"{self.study}/{self.number}"


class Recorder(Protocol):
    """A durable record of runs. Every call has reached the disk when it returns, and repeated calls change nothing.

    The ledger tells the recorder first and Optuna second; what a crash leaves between the two is told when the sweep goes on.
    """

    def opened(self, key: RunKey, facts: dict[str, Any]) -> None:
        """A trial exists now."""

    def epochs(self, key: RunKey, epochs: list[dict[str, Any]]) -> None:
        """Finished epochs of a trial, each with ``number`` and ``value``."""

    def closed(self, key: RunKey, state: str, facts: dict[str, Any]) -> None:
        """A trial is over: ``COMPLETE``, ``PRUNED`` or ``FAIL``."""

    def known(self) -> dict[str, dict[str, Any]]:
        """Text of a key -> ``state`` (``RUNNING`` until closed), ``value`` and ``steps`` (numbers of its epochs)."""
