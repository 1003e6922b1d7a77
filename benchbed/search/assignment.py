"""What travels from the ledger to the process that trains. Knows nothing of Optuna."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchbed.search.recorder import RunKey

Stage = Literal["search", "final"]


@dataclass(frozen=True)
class Shape:
    """Resources of one trial: CPU cores and GPUs, both may be fractions."""

    cpu: float = 1
    gpu: float = 0


@dataclass(frozen=True)
class Assignment:
    """One attempt at one trial, as plain values that travel to the process that trains it.

    ``model`` is the name of the row; ``kind`` is its model's name in the registry where that is another one.
    ``split_folder`` and ``sweep`` are empty in the search stage: a search trial knows no path to the vault.
    """

    study: str
    number: int
    attempt: int
    stage: Stage
    model: str
    split_seed: int
    parameters: dict[str, Any]
    seed: int
    max_epochs: int
    patience: int | None
    seconds: float | None
    shape: Shape
    split_folder: str = ""
    sweep: str = ""
    kind: str = ""

    @property
    def key(self) -> RunKey:
        """Of the trial."""
        return RunKey(self.study, self.number)

    def to_json(self) -> dict[str, Any]:
        """As plain dictionaries."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Assignment:
        """Back from :meth:`to_json`."""
        return cls(**{**values, "shape": Shape(**values["shape"])})
