"""Where studies stand, in numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from benchbed.search.plans import FinalPlan, Plan
from benchbed.search.studies import best_trial, is_left_out, seed_of


@dataclass(frozen=True)
class Counts:
    """Where one study stands. ``budget`` is what its plan asks for, ``running`` counts started trials that are not over.

    A study of final runs may hold seeds of an earlier benchmark file; with ``seeds`` only these are counted.
    """

    study: str
    stage: str
    model: str
    split_seed: int
    budget: int
    seeds: tuple[int, ...] | None = None
    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    best_number: int | None = None
    best_value: float | None = None

    @property
    def spent(self) -> int:
        """Trials that are over."""
        return self.complete + self.pruned + self.failed


def count(
    study: optuna.Study, stage: str, model: str, split_seed: int, budget: int, seeds: Sequence[int] | None = None
) -> Counts:
    """Where an Optuna study stands."""
    everything = [trial for trial in study.get_trials(deepcopy=False) if not is_left_out(trial)]
    trials = [trial for trial in everything if seeds is None or seed_of(trial) in seeds]
    states = [trial.state for trial in trials]
    best = best_trial(trials)
    return Counts(
        study=study.study_name,
        stage=stage,
        model=model,
        split_seed=split_seed,
        budget=budget,
        seeds=None if seeds is None else tuple(seeds),
        complete=states.count(TrialState.COMPLETE),
        pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL),
        running=states.count(TrialState.RUNNING),
        best_number=best.number if best else None,
        best_value=best.value if best else None,
    )


def read_counts(storage: optuna.storages.BaseStorage, told: Iterable[dict[str, Any]]) -> Iterator[Counts]:
    """Where some studies stand, from a storage that is only read; those that are not there yet are empty."""
    there = {summary.study_name for summary in storage.get_all_studies()}
    for one in told:
        if one["study"] in there:
            study = optuna.load_study(study_name=one["study"], storage=storage)
            yield count(study, one["stage"], one["model"], one["split_seed"], one["budget"], one.get("seeds"))
        else:
            yield Counts(**one)


def is_spent(plan: Plan, storage: optuna.storages.BaseStorage) -> bool:
    """Whether the budget of a plan is spent and none of its trials is under way."""
    if plan.study_name not in {summary.study_name for summary in storage.get_all_studies()}:
        return False
    study = optuna.load_study(study_name=plan.study_name, storage=storage)
    if study.user_attrs.get("identity") != plan.identity:
        return False  # the study was being made when its driver ended
    seeds = plan.seeds if isinstance(plan, FinalPlan) else None
    counts = count(study, plan.stage, plan.model, plan.split_seed, plan.budget, seeds)
    waiting = study.get_trials(deepcopy=False, states=[TrialState.WAITING])
    return not waiting and counts.running == 0 and counts.spent >= plan.budget
