"""A made-up sweep, told to a real Tracker: realistic shapes, no training."""

from __future__ import annotations

import atexit
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd

from benchbed.tracking.store import connect
from benchbed.tracking.tracker import Tracker
from benchbed.workspace import Workspace

COLUMNS = [f"{metric}@{k}" for metric in ("recall", "ndcg", "hit_rate", "mrr") for k in (10, 20)]
SCALE = {"recall": 1.3, "ndcg": 1.0, "hit_rate": 2.2, "mrr": 1.15}


@dataclass(frozen=True)
class Key:
    study: str
    number: int


@dataclass
class Model:
    """What one model does in the sweep."""

    name: str
    quality: float = 0.1
    baseline: bool = False
    counting: bool = False
    ceiling: bool = False
    seed_noise: float = 0.002
    trials: int = 12
    failed_trials: int = 0
    finals: bool = True
    nan_seed: int | None = None
    failed_seed: int | None = None
    variant: str = "authors"
    user_mode: str = "inductive"
    reference: str = "A. Author et al. A model of sessions. RecSys 2016. https://doi.org/10.1145/2959100"
    slow_learner: bool = False
    size: int = 100_000


@dataclass
class MadeUpSweep:
    """A whole sweep. ``play`` tells it to a tracker; ``steps`` gives the calls one by one."""

    models: list[Model]
    name: str = "made-up"
    sweep: str = "s1"
    seeds: tuple[int, ...] = (1, 2, 3)
    split_seeds: tuple[int, ...] = (42,)
    users: int = 400
    protocol_fingerprint: str = "ab12" * 16
    finished: bool = True
    epochs: int = 12
    declared_trials: int = 12
    published: tuple[dict[str, Any], ...] = ()

    def facts(self) -> dict[str, Any]:
        return {
            "sweep": self.sweep,
            "version": "0.1.0",
            "protocol_fingerprint": self.protocol_fingerprint,
            "protocol_words": [
                "Users are split 8:1:1 into train, validation and test; the first 80 % of a held-out user's events are given.",
                "Items of the full history are excluded from candidates and targets.",
                "Ties between scores follow a permutation of items keyed by the protocol seed.",
            ],
            "benchmark": {
                "name": self.name,
                "title": "Made-up data, user-disjoint",
                "dataset": "bazaar",
                "split": {"kind": "user_disjoint", "ratios": [8, 1, 1], "seeds": list(self.split_seeds)},
                "evaluation": {
                    "metrics": ["recall", "ndcg", "hit_rate", "mrr"],
                    "cutoffs": [10, 20],
                    "select_by": "ndcg@20",
                    "seen_items": "exclude",
                    "candidates": "vocabulary",
                    "unknown_targets": "miss",
                    "targets": "rest",
                },
                "models": [m.name for m in self.models if not m.baseline],
                "search": {"trials": self.declared_trials, "seconds_per_trial": 600, "sampler": "tpe", "seed": 0},
                "final": {"seeds": list(self.seeds), "patience": 10},
                "resources": "auto",
                "published": list(self.published),
            },
            "models": {
                m.name: {
                    "variant": m.variant,
                    "baseline": m.baseline,
                    "user_mode": m.user_mode,
                    "trained_by": "counting" if m.counting else "gradient",
                    "ceiling": m.ceiling,
                    "space_fingerprint": "cd34" * 16,
                    "reference": m.reference,
                    "declared_trials": m.trials,
                    "max_epochs": self.epochs,
                }
                for m in self.models
            },
            "dataset": {
                "name": "bazaar",
                "title": "Bazaar (simulated)",
                "fingerprint": "ef56" * 16,
                "cleaning": [
                    {
                        "reason": "rows that could not be read",
                        "dropped": 3,
                        "interactions": 60003,
                        "users": 2000,
                        "items": 1000,
                    },
                    {"reason": "repeated pairs", "dropped": 3, "interactions": 60000, "users": 2000, "items": 1000},
                ],
            },
            "splits": [
                {
                    "seed": seed,
                    "split_id": f"user_disjoint-{seed}",
                    "fingerprint": f"{seed:04d}" * 16,
                    "audit": {
                        "users": 2000,
                        "training_users": 1600,
                        "training_events": 47213,
                        "valid": {"cases": 200, "targets": 1188, "unknown_targets_share": 0.0008},
                        "test": {"cases": self.users, "targets": 1203, "unknown_targets_share": 0.0016},
                        "cases": {
                            "test": {
                                "exclude-vocabulary-miss-rest": {"seen_targets": 17},
                                "keep-vocabulary-drop-next": {"odd": 9},
                            }
                        },
                        "warnings": [
                            "41.3 % of the test cuts fall between events of the same time.",
                            "46.9 % of the training events are later than a test user's cut, on average over the users.",
                        ],
                    },
                }
                for seed in self.split_seeds
            ],
            "environment": {"python": "3.11.7", "torch": "2.13.0", "ray": "2.60.0", "cpu": "Some CPU", "gpu": None},
            "git": {"commit": "0123456789abcdef", "dirty": False},
        }

    def play(self, tracker: Tracker, folder: Path) -> None:
        for call, *arguments in self.steps(folder):
            getattr(tracker, call)(*arguments)

    def steps(self, folder: Path):
        random = np.random.default_rng(5)
        skill = random.normal(size=self.users)
        yield "start", self.facts()
        for model in self.models:
            for split in self.split_seeds:
                yield from self._search(model, split, random)
        openings: dict[str, list[dict[str, Any]]] = {f"user_disjoint-{split}": [] for split in self.split_seeds}
        for model in self.models:
            if model.finals:
                for split in self.split_seeds:
                    yield from self._finals(model, split, random, skill, folder, openings)
        yield "note", {"openings": openings, "spent": {m.name: {"seconds": 12.5} for m in self.models}}
        if self.finished:
            yield "note", {"finished": True}

    def _search(self, model: Model, split: int, random: np.random.Generator):
        study = f"search/{model.name}/s{split}/1f2e3d"
        for number in range(model.trials):
            key = Key(study, number)
            parameters = {"dim": int(2 ** random.integers(4, 8)), "lr": float(10 ** random.uniform(-4, -2))}
            opened = {
                "stage": "search",
                "model": model.name,
                "variant": model.variant,
                "split_seed": split,
                "seed": number,
                "parameters": parameters,
                "max_epochs": self.epochs,
                "resources": {"cpu": 1, "gpu": 0},
            }
            yield "opened", key, opened
            if number >= model.trials - model.failed_trials:
                yield "closed", key, "FAIL", {"reason": "nan at the first epoch", "seconds": 1.0, "attempts": 1}
                continue
            top = model.quality * (0.8 if number == 0 else 0.8 + 0.2 * random.beta(3, 2))
            pruned = number > 2 and not model.counting and random.random() < 0.35
            last = 1 if model.counting else (3 if pruned else self.epochs)
            epochs = [self._epoch(model, top, n, random) for n in range(1, last + 1)]
            for first in range(0, last, 4):
                yield "epochs", key, epochs[first : first + 4]
            best = max(epochs, key=lambda epoch: epoch["value"])
            closed = {
                "value": best["value"],
                "best_epoch": best["number"],
                "epochs": len(epochs),
                "reason": f"pruned after epoch {last}" if pruned else "max_epochs",
                "finished": "max_epochs",
                "seconds": sum(e["seconds"] for e in epochs) + 0.4,
                "attempts": 1,
                "parameters": model.size,
                "peak_memory_mb": 412.0,
            }
            yield "closed", key, "PRUNED" if pruned else "COMPLETE", closed

    def _epoch(self, model: Model, top: float, number: int, random: np.random.Generator) -> dict[str, Any]:
        share = number / self.epochs if model.slow_learner else 1 - np.exp(-number / 2.5)
        value = float(top if model.counting else top * share * (1 - max(0, number - 8) / 200) + random.normal(0, 0.0004))
        metrics = {column: value * SCALE[column.split("@")[0]] for column in COLUMNS}
        metrics["ndcg@20"] = value
        return {
            "number": number,
            "value": value,
            "metrics": metrics,
            "loss": float(2.0 / number),
            "seconds": 0.9,
            "train_seconds": 0.7,
            "validate_seconds": 0.2,
        }

    def _finals(self, model, split, random, skill, folder, openings):
        study = f"final/{model.name}/s{split}/1f2e3d"
        for number, seed in enumerate(self.seeds[:1] if model.counting else self.seeds):
            key = Key(study, number)
            opened = {
                "stage": "final",
                "model": model.name,
                "variant": model.variant,
                "split_seed": split,
                "seed": seed,
                "split_id": f"user_disjoint-{split}",
                "parameters": {"dim": 64, "lr": 0.001},
                "max_epochs": 10 * self.epochs,
            }
            yield "opened", key, opened
            if seed == model.failed_seed:
                yield "closed", key, "FAIL", {"reason": "out of memory twice", "seconds": 3.0, "attempts": 2}
                continue
            epochs = [
                self._epoch(model, model.quality, n, random) for n in range(1, (1 if model.counting else self.epochs) + 1)
            ]
            yield "epochs", key, epochs
            best = max(epochs, key=lambda epoch: epoch["value"])
            if seed == model.nan_seed:
                yield "closed", key, "FAIL", {"reason": "nan", "finished": "nan", "seconds": 2.0, "attempts": 1}
                continue
            frame = self.cases(model, seed, random, skill, split)
            path = folder / f"{self.models.index(model)}-{split}-{seed}.parquet"
            frame.to_parquet(path)
            opening = {
                "time": "2026-11-20T10:00:00Z",
                "sweep": self.sweep,
                "model": model.name,
                "seed": seed,
                "repeated": False,
            }
            openings[f"user_disjoint-{split}"].append({**opening, "by": {"host": "here", "pid": 1}})
            closed = {
                "value": best["value"],
                "best_epoch": best["number"],
                "epochs": len(epochs),
                "coverage": 0.4,
                "cases": float(self.users),
                "finished": "patience",
                "seconds": 11.0,
                "attempts": 1,
                "parameters": model.size,
                "peak_memory_mb": 433.0,
                "test": {column: float(frame[column].mean()) for column in COLUMNS},
                "artifacts": {"cases": str(path)},
            }
            yield "closed", key, "COMPLETE", closed

    def cases(self, model, seed, random, skill, split) -> pd.DataFrame:
        level = model.quality * 0.95 + (0 if model.counting else random.normal(0, model.seed_noise))
        base = np.clip(level + 0.08 * skill + random.normal(0, 0.1, self.users), 0, 1)
        base = base + level - base.mean()
        frame = pd.DataFrame({"user": [f"{split}-{u}" for u in range(self.users)], "n_targets": 5})
        for column in COLUMNS:
            frame[column] = base * SCALE[column.split("@")[0]] * (0.9 if column.endswith("10") else 1.0)
        return frame


def five_models() -> list[Model]:
    return [
        Model("popularity", 0.06, baseline=True, counting=True, trials=1, size=1000, reference="", variant="-"),
        Model("ease", 0.118, baseline=True, counting=True, trials=8, size=1_000_000),
        Model("gru4rec", 0.131, variant="windows", failed_trials=2),
        Model("comirec_sa", 0.123, variant="random_cut", slow_learner=True),
        Model("mkr", 0.117, user_mode="fold_in", seed_noise=0.003),
    ]


@cache
def _empty_store() -> Path:
    """A new SQLite store takes MLflow more than a second: make one, copy it for every test."""
    path = Path(mkdtemp(prefix="benchbed-tests-")) / "mlflow.db"
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    connect(f"sqlite:///{path}").search_experiments()
    return path


def home_with_store(folder: Path) -> Workspace:
    """A workspace with an empty store."""
    home = Workspace.open(folder)
    shutil.copy(_empty_store(), home.mlflow_database)
    return home
