"""One Optuna study with its budget: which trials are still to be made, and what each one is."""

from __future__ import annotations

import logging
import math
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from benchbed.config import canonical
from benchbed.search.plans import Assignment, FinalPlan, Plan, SearchPlan, Shape
from benchbed.search.pruners import make_pruner
from benchbed.search.recorder import RunKey
from benchbed.search.samplers import make_sampler

optuna.logging.set_verbosity(logging.ERROR)

LEFT_OUT = "left_out"
"""Attribute of a final run that was closed because its seed was no longer asked for."""

LARGEST_LIST = 10_000
"""A finite space of at most so many configurations never gives the same one twice."""


@dataclass(frozen=True)
class Best:
    """The best trial of a search."""

    number: int
    value: float
    epoch: int
    parameters: dict[str, Any]


def best_trial(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The best *complete* trial: largest told value, the earlier number on equal values; None when none is complete.

    This is the only place that decides what "best" means. The told value is the best over the trial's epochs.
    """
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None]
    return max(complete, key=lambda trial: (trial.value, -trial.number), default=None)


class Study:
    """An Optuna study under a plan.

    Parameters
    ----------
    plan
        What the study is for.
    storage
        Where it is kept; created there when it is new.
    """

    def __init__(self, plan: Plan, storage: optuna.storages.BaseStorage) -> None:
        self.plan = plan
        self.name = plan.study_name
        known = {summary.study_name for summary in storage.get_all_studies()}
        # Not load_if_exists: it writes to the journal whether or not the study exists.
        opened = optuna.load_study if self.name in known else partial(optuna.create_study, direction="maximize")
        self.optuna: optuna.Study = opened(
            study_name=self.name,
            storage=storage,
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=optuna.pruners.NopPruner(),
        )
        if self.optuna.user_attrs.get("identity") != plan.identity:
            self.optuna.set_user_attr("identity", plan.identity)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, in the order of their numbers."""
        return self.optuna.get_trials(deepcopy=False)

    def key(self, number: int) -> RunKey:
        """Of one trial."""
        return RunKey(self.name, number)

    def left(self) -> int:
        """Number of trials that are still to be started."""
        raise NotImplementedError

    def ask(self) -> optuna.Trial:
        """Start the next trial."""
        raise NotImplementedError

    def take_up(self, number: int) -> optuna.Trial:
        """A trial that was started before, as it stands in the storage; what a crash left undrawn is drawn."""
        raise NotImplementedError

    def assign(self, trial: optuna.Trial, attempt: int, shape: Shape) -> Assignment:
        """What the process that trains a trial has to know."""
        raise NotImplementedError

    def opening_facts(self, assignment: Assignment) -> dict[str, Any]:
        """What is recorded when a trial is opened."""
        plan = self.plan
        return {
            "stage": plan.stage,
            "model": plan.model,
            "variant": plan.variant,
            "split_seed": plan.split_seed,
            "split_id": plan.split_id,
            "parameters": assignment.parameters,
            "seed": assignment.seed,
            "number": assignment.number,
            "max_epochs": plan.max_epochs,
            "resources": {"cpu": assignment.shape.cpu, "gpu": assignment.shape.gpu},
            **plan.facts,
        }

    def wants(self, trial: FrozenTrial) -> bool:
        """Whether the plan still asks for a trial that was started or waits."""
        return True

    def should_prune(self, number: int) -> bool:
        """Whether the pruner ends a trial where it stands; trial 0 never."""
        return False

    def tell(self, number: int, state: TrialState) -> None:
        """Close a trial. A complete one gets its best value, never its last."""
        value = max(self.values(number).values()) if state == TrialState.COMPLETE else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.optuna.tell(number, value, state=state)

    def values(self, number: int) -> dict[int, float]:
        """Reported values of a trial by epoch."""
        return self.trials[number].intermediate_values

    def _rebuild(self, number: int) -> optuna.Trial:
        return optuna.trial.Trial(self.optuna, self.trials[number]._trial_id)


class SearchStudy(Study):
    """The search of one model on one split. Trial 0 is the default configuration."""

    plan: SearchPlan

    def __init__(self, plan: SearchPlan, storage: optuna.storages.BaseStorage) -> None:
        super().__init__(plan, storage)
        self.optuna.pruner = make_pruner(plan.pruner, plan.max_epochs)
        self._size = plan.space.size()
        self._conditional = any(dimension.when for dimension in plan.space.dimensions.values())

    def left(self) -> int:
        """The budget less the trials that were started; one that waits in the storage is still to be started."""
        waiting = sum(trial.state == TrialState.WAITING for trial in self.trials)
        return max(0, self.plan.budget - len(self.trials)) + waiting

    def ask(self) -> optuna.Trial:
        """Start the next trial: the default configuration, then what the sampler draws."""
        trials = self.trials
        self.optuna.sampler = self._sampler(len(trials))
        if not any(trial.state == TrialState.WAITING for trial in trials):
            fixed = self._decided(trials)
            if fixed is not None:
                self.optuna.enqueue_trial(fixed)
        trial = self.optuna.ask()
        self.plan.space.suggest(trial)
        return trial

    def take_up(self, number: int) -> optuna.Trial:
        """A trial that was started before; what a crash left undrawn is drawn."""
        self.optuna.sampler = self._sampler(number)
        trial = self._rebuild(number)
        self.plan.space.suggest(trial)
        return trial

    def assign(self, trial: optuna.Trial, attempt: int, shape: Shape) -> Assignment:
        """What the process that trains a trial has to know; no path to the vault is in it."""
        plan = self.plan
        return Assignment(
            study=self.name,
            number=trial.number,
            attempt=attempt,
            stage="search",
            model=plan.model,
            kind=plan.kind,
            split_seed=plan.split_seed,
            parameters=plan.space.to_parameters(trial.params),
            seed=plan.seed,
            max_epochs=plan.max_epochs,
            patience=plan.patience,
            seconds=plan.seconds,
            shape=shape,
        )

    def should_prune(self, number: int) -> bool:
        """Whether the pruner ends a trial where it stands; trial 0 never."""
        return number > 0 and self.optuna.pruner.prune(self.optuna, self.trials[number])

    def best(self) -> Best | None:
        """The best complete trial, None when there is none."""
        found = best_trial(self.trials)
        if found is None or found.value is None:
            return None
        epoch = min((at for at, value in found.intermediate_values.items() if value == found.value), default=0)
        return Best(found.number, found.value, epoch, self.plan.space.to_parameters(found.params))

    # ----- what comes next --------------------------------------------------------------------------------------------

    def _sampler(self, number: int, again: int = 0) -> optuna.samplers.BaseSampler:
        plan = self.plan
        return make_sampler(plan.sampler, plan.seed, number, conditional=self._conditional, again=again)

    def _decided(self, trials: list[FrozenTrial]) -> dict[str, Any] | None:
        """The next configuration where it is not left to the sampler."""
        if not trials:
            return self.plan.space.default_labels()
        if self._size is None or self._size > LARGEST_LIST:
            return None
        used = {_identity(trial) for trial in trials}
        if self._size > self.plan.budget:
            for again in range(1, 9):
                drawn = self._draw_aside(trials, again)
                if _text(drawn) not in used:
                    return drawn
        unused = [labels for labels in self.plan.space.configurations() if _text(labels) not in used]
        return random.Random(self.plan.seed * 1_000_003 + len(trials)).choice(unused) if unused else None

    def _draw_aside(self, trials: list[FrozenTrial], again: int) -> dict[str, Any]:
        """What the sampler would draw next, without a trial being made."""
        aside = optuna.create_study(direction="maximize", sampler=self._sampler(len(trials), again))
        aside.add_trials([trial for trial in trials if trial.state != TrialState.WAITING])
        return self.plan.space.suggest(aside.ask())


class FinalStudy(Study):
    """The final runs of one model on one split: a trial for each training seed."""

    plan: FinalPlan

    def left(self) -> int:
        """Seeds without a trial, and trials that wait."""
        return len(self._missing()) + sum(trial.state == TrialState.WAITING for trial in self.trials)

    def ask(self) -> optuna.Trial:
        """Start the run of the next seed."""
        if not any(trial.state == TrialState.WAITING for trial in self.trials):
            self.optuna.enqueue_trial({"seed": self._missing()[0]})
        return self._with_seed(self.optuna.ask())

    def take_up(self, number: int) -> optuna.Trial:
        """A run that was started before."""
        return self._with_seed(self._rebuild(number))

    def assign(self, trial: optuna.Trial, attempt: int, shape: Shape) -> Assignment:
        """What the process that trains a run has to know, the folder of the vault included."""
        plan = self.plan
        return Assignment(
            study=self.name,
            number=trial.number,
            attempt=attempt,
            stage="final",
            model=plan.model,
            kind=plan.kind,
            split_seed=plan.split_seed,
            parameters=dict(plan.parameters),
            seed=int(trial.params["seed"]),
            max_epochs=plan.max_epochs,
            patience=plan.patience,
            seconds=plan.seconds,
            shape=shape,
            split_folder=plan.split_folder,
            sweep=plan.sweep,
        )

    def wants(self, trial: FrozenTrial) -> bool:
        """Whether the seed of a run is one of the plan's."""
        return seed_of(trial) in self.plan.seeds

    def _missing(self) -> list[int]:
        made = {seed_of(trial) for trial in self.trials if not is_left_out(trial)}
        return [seed for seed in self.plan.seeds if seed not in made]

    def _with_seed(self, trial: optuna.Trial) -> optuna.Trial:
        trial.suggest_int("seed", 0, 2**53)
        return trial


def make_study(plan: Plan, storage: optuna.storages.BaseStorage) -> Study:
    """The study of a plan."""
    if isinstance(plan, SearchPlan):
        return SearchStudy(plan, storage)
    assert isinstance(plan, FinalPlan)
    return FinalStudy(plan, storage)


def seed_of(trial: FrozenTrial) -> int | None:
    """The training seed of a final run, also before it is drawn."""
    seed: int | None = trial.params.get("seed", trial.system_attrs.get("fixed_params", {}).get("seed"))
    return seed


def is_left_out(trial: FrozenTrial) -> bool:
    """Whether a final run was closed unfinished, for its seed was no longer asked for; asked for again, it is run anew."""
    return trial.state.is_finished() and bool(trial.user_attrs.get(LEFT_OUT))


def _identity(trial: FrozenTrial) -> str:
    return _text({**trial.system_attrs.get("fixed_params", {}), **trial.params})


def _text(labels: dict[str, Any]) -> str:
    """A configuration as text, equal for numbers that differ in rounding only."""
    return canonical({k: float(f"{v:.12g}") if isinstance(v, float) and math.isfinite(v) else v for k, v in labels.items()})
