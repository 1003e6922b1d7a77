"""How a sweep looks in MLflow: kinds of runs, tags, parameters, names of metrics. No MLflow in here.

===========  ===============================================================================================
experiment   the benchmark
model run    one per sweep and model; ``sweep.json`` holds all facts of the sweep, ``notes.json`` those that change
trial run    one per search trial, child of its model run; metrics ``valid_ndcg_at_20`` by epoch
final run    one per final seed, child of its model run; in addition ``test_ndcg_at_20`` and ``cases/*.parquet``
===========  ===============================================================================================

Every run carries ``benchbed.key``, by which it is found again, and ``benchbed.record``, the mark of the outbox that told of it:
workspaces may share a store, and trials of the same question have the same keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from benchbed.tracking.store import metric_name

MODEL, TRIAL, FINAL = "model", "trial", "final"

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}
"""State of a trial -> status of its run. Pruned trials stand out from complete ones in the MLflow UI, and from failed ones."""


def parent_key(sweep: str, model: str) -> str:
    """The key of a model's run."""
    return f"sweep {sweep}/{model}"


def run_name(kind: str, model: str, facts: dict[str, Any], key: str = "") -> str:
    """What the MLflow UI shows.

    Examples
    --------
    >>> run_name("trial", "ease", {}, "ease-1f3/7")
    'ease #7'
    >>> run_name("final", "ease", {"seed": 2, "split_seed": 42}, "final/ease-1f3/0")
    'ease final seed 2 split 42'
    """
    if kind == MODEL:
        return model
    if kind == FINAL:
        split = f" split {facts['split_seed']}" if facts.get("split_seed") is not None else ""
        return f"{model} final seed {facts.get('seed')}{split}"
    return f"{model} #{key.rpartition('/')[2]}"


def tags_of_model(sweep: str, model: str, facts: dict[str, Any]) -> dict[str, str]:
    """Tags of a model's run."""
    about, git = facts["models"][model], facts.get("git") or {}
    tags = {
        "benchbed.kind": MODEL,
        "benchbed.key": parent_key(sweep, model),
        "benchbed.sweep": sweep,
        "benchbed.model": model,
        "benchbed.variant": about.get("variant"),
        "benchbed.baseline": about.get("baseline"),
        "benchbed.user_mode": about.get("user_mode"),
        "benchbed.protocol": facts.get("protocol_fingerprint"),
        "benchbed.mode": facts["benchmark"]["evaluation"].get("mode"),
        "benchbed.dataset": facts["benchmark"].get("dataset"),
        "benchbed.version": facts.get("version"),
        "mlflow.source.git.commit": git.get("commit"),
        "mlflow.source.name": "benchbed",
    }
    return _texts(tags)


def tags_of_run(sweep: str, key: str, opened: dict[str, Any], facts: dict[str, Any]) -> dict[str, str]:
    """Tags of the run of a trial or a final seed."""
    study, _, number = key.rpartition("/")
    tags = {
        "benchbed.kind": FINAL if opened.get("stage") == "final" else TRIAL,
        "benchbed.key": key,
        "benchbed.sweep": sweep,
        "benchbed.study": study,
        "benchbed.number": number,
        "benchbed.model": opened.get("model"),
        "benchbed.variant": opened.get("variant"),
        "benchbed.split_seed": opened.get("split_seed"),
        "benchbed.seed": opened.get("seed"),
        "benchbed.protocol": facts.get("protocol_fingerprint"),
        "benchbed.mode": facts["benchmark"]["evaluation"].get("mode"),
        "mlflow.source.name": "benchbed",
    }
    return _texts(tags)


def parameters_of(opened: dict[str, Any]) -> dict[str, str]:
    """Hyper-parameters as MLflow parameters; nested ones under dotted names."""
    flat: dict[str, str] = {}
    for name, value in _flat("", opened.get("parameters") or {}):
        text = value if isinstance(value, str) else json.dumps(value)
        flat[metric_name(name)] = text[:6000]
    return flat


def metrics_of_epochs(epochs: list[dict[str, Any]], select_by: str) -> Iterator[tuple[str, float, int]]:
    """Name, value and step of everything measured in some epochs. The selected metric is the epoch's value, nan included."""
    for epoch in epochs:
        step = int(epoch["number"])
        values = dict(epoch.get("metrics") or {})
        if select_by and epoch.get("value") is not None:
            values[select_by] = epoch["value"]
        for column, value in values.items():
            yield f"valid_{metric_name(column)}", float(value), step
        for name, written in (
            ("loss", "loss"),
            ("seconds", "epoch_seconds"),
            ("train_seconds", "epoch_train_seconds"),
            ("validate_seconds", "epoch_validate_seconds"),
        ):
            if epoch.get(name) is not None:
                yield written, float(epoch[name]), step


def metrics_of_closing(closed: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Name and value of the numbers a run closes with."""
    for column, value in (closed.get("test") or {}).items():
        if value is not None:
            yield f"test_{metric_name(column)}", float(value)
    for name, value in closed.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield "best_value" if name == "value" else metric_name(name), float(value)


def long_fact(text: str) -> bool:
    """Whether a fact is too long for a tag and becomes a file."""
    return len(text) > 5000


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _flat(prefix: str, values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value
