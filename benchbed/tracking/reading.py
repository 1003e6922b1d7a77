"""A sweep as MLflow holds it. Reports read this and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbed.errors import TrackingError, nearest
from benchbed.evaluation.protocol import LABELLED, METRICS, VARIANTS, columns_of
from benchbed.tracking.layout import FINAL, MODEL, TRIAL
from benchbed.tracking.sender import pages, send_outstanding
from benchbed.tracking.store import connect, first_line, metric_name, number_from, store_uri, why

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

__all__ = ["EpochRecord", "RunRecord", "SweepRecord", "read_cases", "read_sweep", "send_outstanding", "store_uri", "sweeps_of"]


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of a run: ``value`` is ``select_by`` on validation (nan where training diverged), ``seconds`` its wall time."""

    number: int
    value: float
    seconds: float


@dataclass(frozen=True)
class RunRecord:
    """A search trial or a final seed.

    Attributes
    ----------
    key
        ``study/number``.
    run_id
        Of MLflow.
    stage
        ``search`` or ``final``.
    model, variant
        Name and label of the model.
    state
        ``COMPLETE``, ``PRUNED``, ``FAIL``, or ``RUNNING`` when it was never closed.
    opened, closed
        What was told when it began and when it ended.
    epochs
        In order of their numbers.
    test
        Test metrics by column, e.g. ``ndcg@20`` (finals only).
    at
        When it was opened, milliseconds since 1970.
    """

    key: str
    run_id: str
    stage: str
    model: str
    variant: str
    state: str
    opened: dict[str, Any]
    closed: dict[str, Any]
    epochs: tuple[EpochRecord, ...] = ()
    test: dict[str, float] = field(default_factory=dict)
    at: int = 0

    @property
    def study(self) -> str:
        """Name of its Optuna study."""
        return self.key.rpartition("/")[0]

    @property
    def number(self) -> int:
        """Number of the trial in its study."""
        return int(self.key.rpartition("/")[2])

    @property
    def seed(self) -> int | None:
        """Training seed."""
        return self.opened.get("seed")

    @property
    def split_seed(self) -> int | None:
        """Seed of the split."""
        return self.opened.get("split_seed")

    @property
    def parameters(self) -> dict[str, Any]:
        """Hyper-parameters."""
        return dict(self.opened.get("parameters") or {})

    @property
    def value(self) -> float | None:
        """What the search was told: the best ``select_by`` on validation."""
        value = self.closed.get("value")
        return None if value is None else float(value)

    @property
    def seconds(self) -> float:
        """Wall time, over all attempts where known, else the sum over epochs."""
        told = self.closed.get("seconds")
        return float(told) if told is not None else sum(epoch.seconds for epoch in self.epochs)


@dataclass(frozen=True)
class SweepRecord:
    """One sweep of a benchmark.

    Attributes
    ----------
    benchmark
        The benchmark file.
    sweep
        Identity of the sweep.
    facts
        What the sweep told at its start: models, dataset, splits, protocol, environment, git.
    notes
        What it told later: ``finished``, ``openings`` ...
    trials, finals
        Its runs, in order of key.
    others
        Identities of other sweeps of this benchmark, oldest first: never mixed into this one.
    uri
        The store it was read from.
    told
        When the sweep was last started, milliseconds since 1970.
    """

    benchmark: dict[str, Any]
    sweep: str
    facts: dict[str, Any]
    notes: dict[str, Any]
    trials: tuple[RunRecord, ...]
    finals: tuple[RunRecord, ...]
    others: tuple[str, ...]
    uri: str
    told: int

    @property
    def finished(self) -> bool:
        """Whether the sweep came to its end."""
        return bool(self.notes.get("finished"))

    @property
    def select_by(self) -> str:
        """The metric that the search maximises and the leaderboard ranks by."""
        return str(self.benchmark["evaluation"]["select_by"])

    @property
    def mode(self) -> str:
        """The way to evaluate, one of :data:`benchbed.evaluation.protocol.Mode`."""
        return str(self.benchmark["evaluation"].get("mode", "full"))

    @property
    def diversity(self) -> dict[str, Any] | None:
        """What the benchmark says of the variety of lists; None where it does not ask for it."""
        said: dict[str, Any] | None = self.benchmark["evaluation"].get("diversity")
        return said

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all values of a row: standard metrics, diversity, then the forms of metrics that some papers report."""
        return (*self.standard_columns, *self.diversity_columns, *self.variant_columns)

    @property
    def standard_columns(self) -> tuple[str, ...]:
        """Names of the standard metrics."""
        return _columns(self.benchmark["evaluation"], (*METRICS, *LABELLED))

    @property
    def diversity_columns(self) -> tuple[str, ...]:
        """``diversity@N``, or nothing."""
        return (f"diversity@{self.diversity['cutoff']}",) if self.diversity else ()

    @property
    def variant_columns(self) -> tuple[str, ...]:
        """Names of the metrics that are shown apart."""
        return _columns(self.benchmark["evaluation"], VARIANTS)


def sweeps_of(uri: str, benchmark_name: str) -> list[str]:
    """Identities of the sweeps of a benchmark, the newest last.

    Raises
    ------
    TrackingError
        The store cannot be reached or has no such benchmark.
    """
    client = _reach(uri)
    parents = _parents(client, _experiment(client, uri, benchmark_name))
    return _by_age(parents)


def read_sweep(uri: str, benchmark_name: str, sweep: str | None = None) -> SweepRecord:
    """Read one sweep of a benchmark.

    Parameters
    ----------
    uri
        The store, see :func:`store_uri`.
    benchmark_name
        Name of the benchmark, which is the name of the MLflow experiment.
    sweep
        Identity of the sweep; None takes the one started last.

    Raises
    ------
    TrackingError
        The store cannot be reached, or holds no such benchmark or sweep.
    """
    client = _reach(uri)
    experiment = _experiment(client, uri, benchmark_name)
    parents = _parents(client, experiment)
    known = _by_age(parents)
    if not known:
        raise TrackingError(f"Benchmark '{benchmark_name}' has no sweep in the store '{uri}'.", advice=_run_it(benchmark_name))
    chosen = sweep or known[-1]
    if chosen not in known:
        raise TrackingError(f"Benchmark '{benchmark_name}' has no sweep '{sweep}'.", advice=f"Known: {', '.join(known)}.")
    mine = [run for run in parents if run.data.tags["benchbed.sweep"] == chosen]
    newest = max(mine, key=_told)
    facts = _artifact(client, newest, "sweep.json")
    notes = _artifact(client, newest, "notes.json", missing={})
    runs = _runs_of(client, experiment, newest, facts, notes)
    with ThreadPoolExecutor(8 if "://" in uri and uri.startswith("http") else 1) as readers:
        records = list(readers.map(lambda run: _record(client, run, facts), runs))
    records.sort(key=lambda run: (run.study, run.number))
    return SweepRecord(
        benchmark=facts["benchmark"],
        sweep=chosen,
        facts=facts,
        notes=notes,
        trials=tuple(run for run in records if run.stage == "search"),
        finals=tuple(run for run in records if run.stage == "final"),
        others=tuple(name for name in known if name != chosen),
        uri=uri,
        told=_told(newest),
    )


def read_cases(uri: str, run: RunRecord, columns: Sequence[str] | None = None) -> pd.DataFrame | None:
    """The values per test case of a final run, all columns or some; None when the run has none."""
    import pandas as pd

    client = _reach(uri)
    files = [each.path for each in client.list_artifacts(run.run_id, "cases") if each.path.endswith(".parquet")]
    if not files:
        return None
    return pd.read_parquet(client.download_artifacts(run.run_id, files[0]), columns=list(columns) if columns else None)


def _reach(uri: str) -> MlflowClient:
    path = uri.removeprefix("sqlite:///")
    if path != uri and not Path(path).exists():
        raise TrackingError(f"There is no store at '{uri}'.", advice="Run a sweep first, or name the workspace it ran in.")
    return connect(uri)


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    try:
        found = client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage == "deleted":
            names = [each.name for each in client.search_experiments() if each.name != "Default"]
            close = nearest(name, names)
            raise TrackingError(
                f"The store '{uri}' has no results of a benchmark '{name}'.",
                advice=f"Did you mean '{close}'?" if close else _run_it(name),
            )
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(
            f"The store '{uri}' cannot be read: {why(error, uri)}",
            advice="Is the tracking server up, and MLFLOW_TRACKING_URI right?",
        ) from error
    return str(found.experiment_id)


def _run_it(name: str) -> str:
    return f"Run 'benchbed sweep {name}' first."


def _parents(client: MlflowClient, experiment: str) -> list[Run]:
    return list(pages(client, [experiment], f"tags.`benchbed.kind` = '{MODEL}'"))


def _told(run: Run) -> int:
    return int(run.data.tags.get("benchbed.told") or run.info.start_time or 0)


def _by_age(parents: Iterable[Run]) -> list[str]:
    told: dict[str, int] = {}
    for run in parents:
        sweep = run.data.tags["benchbed.sweep"]
        told[sweep] = max(told.get(sweep, 0), _told(run))
    return sorted(told, key=lambda sweep: told[sweep])


def _runs_of(client: MlflowClient, experiment: str, model_run: Run, facts: dict[str, Any], notes: dict[str, Any]) -> list[Run]:
    """Trials and finals of the sweep of a model's run: never of another protocol, never of another workspace.

    For each stage, model and split one study counts. Where the sweep has told its name, it is that one, whoever began it: an
    earlier sweep may have, under the same identity. Else it is the newest that this sweep has told of: other parameters, or
    another space, make another study.
    """
    told = {str(name) for about in facts["models"].values() for name in about.get("studies", ())}
    told |= {str(name) for names in (notes.get("studies") or {}).values() for name in names}
    protocol = str(facts.get("protocol_fingerprint"))
    sweep, mark = (model_run.data.tags.get(f"benchbed.{name}") for name in ("sweep", "record"))
    runs = [
        run
        for run in pages(client, [experiment], "" if told else f"tags.`benchbed.sweep` = '{sweep}'")
        if run.data.tags.get("benchbed.kind") in (TRIAL, FINAL)
        and run.data.tags.get("benchbed.record") == mark
        and run.data.tags.get("benchbed.protocol", protocol) == protocol
    ]
    places: dict[tuple[str | None, ...], list[Run]] = {}
    for run in runs:
        places.setdefault(_place(run), []).append(run)
    chosen = []
    for there in places.values():
        named = [run for run in there if run.data.tags.get("benchbed.study") in told]
        own = [run for run in there if run.data.tags.get("benchbed.sweep") == sweep]
        newest = own[-1].data.tags.get("benchbed.study") if own else None
        chosen += named or [run for run in own if run.data.tags.get("benchbed.study") == newest]
    return chosen


def _place(run: Run) -> tuple[str | None, ...]:
    return tuple(run.data.tags.get(f"benchbed.{name}") for name in ("kind", "model", "split_seed"))


def _columns(evaluation: dict[str, Any], among: Iterable[str]) -> tuple[str, ...]:
    return columns_of([str(metric) for metric in evaluation["metrics"] if metric in among], evaluation["cutoffs"])


def _record(client: MlflowClient, run: Run, facts: dict[str, Any]) -> RunRecord:
    tags, metrics = run.data.tags, run.data.metrics
    evaluation = facts["benchmark"]["evaluation"]
    columns = list(columns_of(evaluation["metrics"], evaluation["cutoffs"]))
    if evaluation.get("diversity"):
        columns.append(f"diversity@{evaluation['diversity']['cutoff']}")
    name = f"valid_{metric_name(str(evaluation['select_by']))}"
    values = _history(client, run, name) if name in metrics else {}
    seconds = _history(client, run, "epoch_seconds") if "epoch_seconds" in metrics else {}
    return RunRecord(
        key=tags["benchbed.key"],
        run_id=run.info.run_id,
        stage="final" if tags["benchbed.kind"] == FINAL else "search",
        model=tags.get("benchbed.model", ""),
        variant=tags.get("benchbed.variant", ""),
        state=tags.get("benchbed.state", "RUNNING"),
        opened=_told_facts(client, run, "opened"),
        closed=_told_facts(client, run, "closed"),
        epochs=tuple(EpochRecord(step, values[step], seconds.get(step, 0.0)) for step in sorted(values)),
        at=int(run.info.start_time or 0),
        test={
            each: number_from(metrics[f"test_{metric_name(each)}"])
            for each in columns
            if f"test_{metric_name(each)}" in metrics
        },
    )


def _history(client: MlflowClient, run: Run, metric: str) -> dict[int, float]:
    return {point.step: number_from(point.value) for point in client.get_metric_history(run.info.run_id, metric)}


def _told_facts(client: MlflowClient, run: Run, name: str) -> dict[str, Any]:
    text = run.data.tags.get(f"benchbed.{name}")
    if text is None:
        return {}
    if text.startswith("artifact:"):
        return _artifact(client, run, text.removeprefix("artifact:"))
    facts: dict[str, Any] = json.loads(text)
    return facts


def _artifact(client: MlflowClient, run: Run, name: str, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(Path(client.download_artifacts(run.info.run_id, name)).read_text())
    except Exception as error:
        if missing is not None:
            return missing
        raise TrackingError(
            f"The file '{name}' of run {run.info.run_id} cannot be read: {first_line(error)}",
            advice="Continue the sweep with 'benchbed sweep': it sends what is missing from its outbox.",
        ) from error
    return facts
