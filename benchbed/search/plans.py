"""What a ledger is asked to do: plans of studies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from benchbed.config import fingerprint
from benchbed.search.assignment import Assignment, Shape, Stage
from benchbed.search.pruners import PrunerKind
from benchbed.search.samplers import SamplerKind
from benchbed.search.space import SearchSpace

__all__ = ["Assignment", "FinalPlan", "Plan", "SearchPlan", "Shape", "Stage"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What search and final plans have in common.

    Attributes
    ----------
    model
        Name of the row.
    kind
        Name of its model in the registry, where that is another one.
    split_seed, split_id
        Which split.
    protocol
        Fingerprint of the evaluation and of the split's data.
    variant
        Label of the model's form.
    max_epochs, patience
        When a trial ends.
    seconds
        Cap of one trial in seconds, None for no cap.
    shape
        Resources of a trial.
    roomier
        Resources of the one retry after the memory ran out.
    facts
        More for the record.
    """

    model: str
    split_seed: int
    split_id: str
    protocol: str
    variant: str
    max_epochs: int
    patience: int | None
    seconds: float | None = None
    shape: Shape = field(default_factory=Shape)
    roomier: Shape = field(default_factory=Shape)
    facts: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""

    stage: Stage = field(init=False, default="search")

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that makes this study another one when it changes."""
        raise NotImplementedError

    @property
    def budget(self) -> int:
        """Number of trials."""
        raise NotImplementedError

    @cached_property
    def study_name(self) -> str:
        """``STAGE/MODEL/sSPLITSEED/HASH``."""
        return f"{self.lineage}/{fingerprint(self.identity)[:12]}"

    @property
    def lineage(self) -> str:
        """The study's name without its hash."""
        return f"{self.stage}/{self.model}/s{self.split_seed}"


@dataclass(frozen=True, kw_only=True)
class SearchPlan(Plan):
    """The search of one model on one split.

    Attributes
    ----------
    space
        What is searched.
    trials
        Declared number of trials; a space with fewer configurations gets fewer.
    sampler, pruner, seed
        Of Optuna; the seed is also that of the trials' own random numbers.
    """

    space: SearchSpace
    trials: int
    sampler: SamplerKind = "tpe"
    pruner: PrunerKind = "successive_halving"
    seed: int = 0

    @property
    def identity(self) -> dict[str, Any]:
        """Protocol, space, variant, sampler, pruner, seed and the caps of a trial: whatever changes what a trial means."""
        return {
            "protocol": self.protocol,
            "space": self.space.fingerprint,
            "variant": self.variant,
            "sampler": self.sampler,
            "pruner": self.pruner,
            "seed": self.seed,
            "max_epochs": self.max_epochs,
            "seconds_per_trial": self.seconds,
        }

    @cached_property
    def budget(self) -> int:
        """The declared trials, or as many as the space has configurations."""
        size = self.space.size()
        return self.trials if size is None else min(self.trials, size)


@dataclass(frozen=True, kw_only=True)
class FinalPlan(Plan):
    """The final runs of one model on one split: one configuration, several training seeds.

    Attributes
    ----------
    parameters
        The configuration.
    seeds
        Training seeds.
    split_folder
        Where the vault is.
    sweep
        Identity of the sweep, under which the vault is opened.
    """

    parameters: Mapping[str, Any]
    seeds: tuple[int, ...]
    split_folder: str
    sweep: str

    stage: Stage = field(init=False, default="final")

    @property
    def identity(self) -> dict[str, Any]:
        """Protocol, configuration, variant, max_epochs and patience."""
        made = {
            "protocol": self.protocol,
            "parameters": dict(self.parameters),
            "variant": self.variant,
            "max_epochs": self.max_epochs,
            "patience": self.patience,
        }
        return made | ({"kind": self.kind} if self.kind else {})

    @property
    def budget(self) -> int:
        """One trial a seed."""
        return len(self.seeds)
