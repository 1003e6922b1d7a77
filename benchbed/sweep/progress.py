"""Whether anything of a sweep is left to do, read from its storage without writing to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import TrialState

from benchbed.search.counts import count
from benchbed.search.plans import FinalPlan, Plan, SearchPlan
from benchbed.search.storage import read_storage
from benchbed.search.studies import SearchStudy
from benchbed.sweep.planning import Material, final_plan


def is_done(material: Material, folder: Path, plans: Sequence[SearchPlan]) -> bool:
    """Whether the searches of some plans, and the final runs of what they found, are over."""
    storage = read_storage(folder)
    if storage is None or not all(_is_spent(plan, storage) for plan in plans):
        return False
    found = [(plan, SearchStudy(plan, storage).best()) for plan in plans]
    return all(_is_spent(final_plan(material, plan, best), storage) for plan, best in found if best is not None)


def _is_spent(plan: Plan, storage: optuna.storages.BaseStorage) -> bool:
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
