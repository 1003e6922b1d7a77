"""From a benchmark to the plans of its studies and to what the record says about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import benchbed
from benchbed.config import fingerprint
from benchbed.data.fingerprints import protocol_fingerprint
from benchbed.data.load import sampled_validation
from benchbed.data.prepare import Prepared
from benchbed.data.split.make import PreparedSplit
from benchbed.models.registry import is_baseline, model_class
from benchbed.search.plans import FinalPlan, SearchPlan, Shape
from benchbed.search.studies import Best
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.preflight import Checked
from benchbed.sweep.protocol_words import protocol_words
from benchbed.sweep.surroundings import environment, git_state

LONGEST_FINAL = 10
"""Final runs stop by patience; at the latest after so many times the epochs of a search trial."""


@dataclass(frozen=True)
class Material:
    """What a sweep works on: the benchmark, what preflight found, the data and their splits by seed."""

    benchmark: Benchmark
    checked: Checked
    prepared: Prepared
    splits: Mapping[int, PreparedSplit]

    @property
    def protocol(self) -> str:
        """Fingerprint of data, kind of split and evaluation; split seeds are left out, for a leaderboard pools them."""
        spec = self.benchmark.split.model_dump(mode="json", exclude={"seeds"})
        return protocol_fingerprint(fingerprint(self.prepared.fingerprint, spec), self.benchmark.evaluation)

    @property
    def sweep(self) -> str:
        """Identity of the sweep: a changed question is another sweep, more trials or models are not."""
        asked = self.benchmark.model_dump(mode="json", exclude={"title", "models", "baselines", "resources", "published"})
        del asked["search"]["trials"]
        return f"{self.benchmark.name}-{fingerprint(self.protocol, asked)[:8]}"

    def protocol_of(self, seed: int) -> str:
        """Fingerprint of one split and the evaluation."""
        return protocol_fingerprint(self.splits[seed].fingerprint, self.benchmark.evaluation)


def search_plans(material: Material, shape: Shape, roomier: Shape) -> list[SearchPlan]:
    """The searches of all models on all splits."""
    benchmark, search = material.benchmark, material.benchmark.search
    plans = []
    for seed, split in material.splits.items():
        for name in material.checked.models:
            space = material.checked.spaces[name]
            counting = model_class(space.model).trained_by == "counting"
            plans.append(
                SearchPlan(
                    model=name,
                    kind="" if space.model == name else space.model,
                    split_seed=seed,
                    split_id=split.split_id,
                    protocol=material.protocol_of(seed),
                    variant=space.default_variant,
                    max_epochs=1 if counting else (search.max_epochs or space.max_epochs),
                    patience=space.patience,
                    seconds=search.seconds_per_trial,
                    shape=shape,
                    roomier=roomier,
                    facts={"sweep": material.sweep, "benchmark": benchmark.name},
                    space=space,
                    trials=search.trials,
                    sampler=search.sampler,
                    pruner=search.pruner,
                    seed=search.seed,
                )
            )
    return plans


def final_plan(material: Material, search: SearchPlan, best: Best) -> FinalPlan:
    """The final runs of a model's best configuration on one split. A closed form has no seeds: the first one stands for all."""
    final = material.benchmark.final
    kind = model_class(search.kind or search.model)
    config = kind.Config.model_validate(best.parameters)
    counting = kind.trained_by == "counting"
    longest = search.space.final_max_epochs or final.max_epochs
    return FinalPlan(
        model=search.model,
        kind=search.kind,
        split_seed=search.split_seed,
        split_id=search.split_id,
        protocol=search.protocol,
        variant=kind.variant(config),
        max_epochs=1 if counting else (longest or LONGEST_FINAL * search.max_epochs),
        patience=final.patience,
        seconds=None,
        shape=search.shape,
        roomier=search.roomier,
        facts={**search.facts, "search_study": search.study_name, "search_number": best.number, "search_value": best.value},
        parameters=config.model_dump(mode="json"),
        seeds=final.seeds[:1] if counting else final.seeds,
        split_folder=str(material.splits[search.split_seed].folder),
        sweep=material.sweep,
    )


def sweep_facts(material: Material, plans: Sequence[SearchPlan]) -> dict[str, Any]:
    """All that the record says about a sweep when it starts."""
    benchmark, checked = material.benchmark, material.checked
    manifest = material.prepared.manifest
    summary = {
        key: manifest[key]
        for key in ("name", "fingerprint", "interactions", "users", "items", "rows", "cleaning", "content")
        if key in manifest
    }
    return {
        "benchmark": benchmark.model_dump(mode="json"),
        "sweep": material.sweep,
        "version": benchbed.__version__,
        "left_out": dict(checked.left_out),
        "models": {name: _about(name, material, [plan for plan in plans if plan.model == name]) for name in checked.models},
        "dataset": {**summary, "title": checked.card.title, "licence": checked.card.licence, "homepage": checked.card.homepage},
        "splits": [_about_split(seed, split, benchmark) for seed, split in material.splits.items()],
        "protocol_fingerprint": material.protocol,
        "protocol_words": protocol_words(benchmark, checked.left_out, timed=manifest["timestamp_unit"] is not None),
        "environment": environment(),
        "git": git_state(),
    }


def _about_split(seed: int, split: PreparedSplit, benchmark: Benchmark) -> dict[str, Any]:
    said = {"seed": seed, "split_id": split.split_id, "fingerprint": split.fingerprint, "audit": split.audit}
    if benchmark.evaluation.mode == "sampled":
        said["sampled_validation"] = sampled_validation(split.folder, benchmark.evaluation)
    return said


def _about(name: str, material: Material, plans: Sequence[SearchPlan]) -> dict[str, Any]:
    space = material.checked.spaces[name]
    kind = model_class(space.model)
    return {
        "model": space.model,
        "variant": space.default_variant,
        "baseline": is_baseline(space.model),
        "user_mode": kind.user_mode,
        "trained_by": kind.trained_by,
        "ceiling": kind.ceiling,
        "reference": kind.reference,
        "space_fingerprint": space.fingerprint,
        "space_size": space.size(),
        "space": space.model_dump(mode="json"),
        "declared_trials": plans[0].budget,
        "max_epochs": plans[0].max_epochs,
        "seconds_per_trial": material.benchmark.search.seconds_per_trial,
        "studies": [plan.study_name for plan in plans],
    }
