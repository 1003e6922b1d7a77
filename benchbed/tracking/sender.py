"""From the outbox to MLflow, in order; sending the same record twice changes nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchbed.errors import TrackingError
from benchbed.tracking.batch import Batch
from benchbed.tracking.layout import (
    FINAL,
    MODEL,
    STATUS,
    TRIAL,
    long_fact,
    metrics_of_closing,
    metrics_of_epochs,
    parameters_of,
    parent_key,
    run_name,
    tags_of_model,
    tags_of_run,
)
from benchbed.tracking.outbox import Outbox, Record, Sent
from benchbed.tracking.store import artifact_location, connect, first_line, store_uri, tend
from benchbed.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

_PERMANENT = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "BAD_REQUEST", "INVALID_STATE"}
"""Error codes of MLflow that another attempt at the same record does not mend."""


class _SendAgain(Exception):
    """What the store refused is to be sent in another way, after a new connection."""


def _is_permanent(error: Exception) -> bool:
    return getattr(error, "error_code", None) in _PERMANENT or isinstance(error, FileNotFoundError)


class Sender:
    """Tells an MLflow store what stands in an outbox.

    Runs are looked for by their tags (key, and mark of the outbox) before they are created, metrics keep the timestamp of their
    record, and parameters are written once: so a record may be sent any number of times.

    Parameters
    ----------
    outbox
        What to send.
    workspace
        Where files of runs are kept when the store is a database.
    uri
        Address of the store.
    """

    def __init__(self, outbox: Outbox, workspace: Workspace, uri: str) -> None:
        self._outbox, self._workspace, self._uri = outbox, workspace, uri
        self._client: MlflowClient | None = None
        self._facts: dict[str, dict[str, Any]] = {}
        self._notes: dict[str, dict[str, Any]] = {}
        self._experiments: dict[str, str] = {}
        self._runs: dict[str, _Known] = {}
        self._stubborn: tuple[int, int] = (0, 0)
        self._singly = 0
        self.refused: list[str] = []

    def send(self, most: int = 400) -> bool:
        """Send up to ``most`` records and remember how far.

        Returns
        -------
        bool
            Whether records are left.

        Raises
        ------
        Exception
            Whatever the store or the way to it raises. The position is kept; the next call connects anew.
        """
        while True:
            try:
                if self._client is None:
                    self._reconnect()
                return self._send(most)
            except _SendAgain:
                self._client = None
            except Exception:
                self._client = None
                raise

    def _send(self, most: int) -> bool:
        reached, left = self._outbox.sent.offset, False
        batch = Batch(self._connected())
        for count, record in enumerate(self._outbox.read(reached)):
            if count >= most:
                left = True
                break
            if record.end <= self._singly:
                self._send_one(record)
                continue
            try:
                self._tell(record, batch)
            except Exception as error:
                self._doubt(record.end, error)
                raise
            reached = record.end
        try:
            batch.flush()
        except Exception as error:
            self._doubt(reached, error)
            raise
        if reached > self._outbox.sent.offset:
            self._outbox.mark_sent(Sent(reached, self._uri))
        return left

    def _doubt(self, end: int, error: Exception) -> None:
        """Something up to here is refused for good: send record by record, to find out what, and let the others through."""
        if _is_permanent(error):
            self._singly = end
            raise _SendAgain from error

    def _send_one(self, record: Record) -> None:
        """Send one record; one that is refused three times is remembered and left out, so that it holds up no other."""
        batch = Batch(self._connected())
        try:
            self._tell(record, batch)
            batch.flush()
        except Exception as error:
            if not _is_permanent(error):
                raise
            number, times = self._stubborn
            self._stubborn = (record.number, times + 1 if number == record.number else 1)
            if self._stubborn[1] < 3:
                raise _SendAgain from error
            self.refused.append(f"record {record.number} ({record.kind}): {first_line(error)}")
        self._outbox.mark_sent(Sent(record.end, self._uri))

    # ----- what the store already knows -----------------------------------------------------------------------------

    def _reconnect(self) -> None:
        tend(self._workspace, self._uri)
        self._client = connect(self._uri)
        self._facts, self._notes, self._experiments, self._runs = {}, {}, {}, {}
        sent, told = self._outbox.sent, set()
        for record in self._outbox.read():
            if record.end > sent.offset:
                break
            self._remember(record)
            if record.kind == "opened":
                told.add(record.body["key"])
        for experiment in self._experiments.values():
            self._load_runs(experiment)
        # Another store, or one that was emptied: tell it everything from the beginning.
        if sent.offset and (sent.uri != self._uri or not told <= set(self._runs)):
            self._outbox.mark_sent(Sent(0, self._uri))

    def _remember(self, record: Record) -> None:
        if record.kind == "sweep":
            self._facts[record.sweep] = record.body["facts"]
            self._notes.setdefault(record.sweep, {})["finished"] = False
            name = str(record.body["facts"]["benchmark"]["name"])
            if name not in self._experiments:
                self._experiments[name] = self._experiment(name)
                self._load_runs(self._experiments[name])
        elif record.kind == "note":
            merge(self._notes.setdefault(record.sweep, {}), record.body["facts"])

    def _experiment(self, name: str) -> str:
        client = self._connected()
        found = client.get_experiment_by_name(name)
        if found is None:
            place = artifact_location(self._workspace, self._uri, name)
            # The MLflow UI opens this experiment as training runs, not as traces of a language model.
            return str(client.create_experiment(name, place, tags={"mlflow.experimentKind": "custom_model_development"}))
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _load_runs(self, experiment: str) -> None:
        from mlflow.entities import ViewType

        for run in pages(self._connected(), [experiment], view=ViewType.ALL):
            tags = run.data.tags
            # Another workspace may have asked the same question of the same store: its trials have the same keys.
            if (key := tags.get("benchbed.key")) and tags.get("benchbed.record") == self._outbox.identity:
                self._runs[key] = _Known(run)

    def _connected(self) -> MlflowClient:
        if self._client is None:
            raise TrackingError("The tracking store is not connected.")
        return self._client

    # ----- telling --------------------------------------------------------------------------------------------------

    def _tell(self, record: Record, batch: Batch) -> None:
        if record.kind == "sweep":
            self._remember(record)
            self._tell_sweep(record, batch)
        elif record.kind == "note":
            self._remember(record)
            self._tell_note(record, batch)
        elif record.kind == "opened":
            self._tell_opened(record, batch)
        elif (known := self._runs.get(record.body["key"])) is None or known.deleted:
            return
        elif record.kind == "epochs":
            select_by = str(self._facts[record.sweep]["benchmark"]["evaluation"]["select_by"])
            found = metrics_of_epochs(record.body["epochs"], select_by)
            batch.add(known.id, points=[(name, value, record.at, step) for name, value, step in found])
        elif record.kind == "closed":
            self._tell_closed(known, record, batch)

    def _tell_sweep(self, record: Record, batch: Batch) -> None:
        facts = self._facts[record.sweep]
        for model in facts["models"]:
            tags = tags_of_model(record.sweep, model, facts)
            known, _ = self._run(parent_key(record.sweep, model), record, run_name(MODEL, model, facts), tags)
            if known.deleted:
                continue
            batch.add(known.id, tags={**tags, "benchbed.told": str(record.at), "benchbed.finished": "False"})
            if known.status != "RUNNING":
                self._connected().update_run(known.id, status="RUNNING")
                known.status = "RUNNING"
            self._attach(known.id, "sweep.json", facts)
            self._attach(known.id, "notes.json", self._notes[record.sweep])
            self._attach_dataset(known.id, facts)

    def _tell_note(self, record: Record, batch: Batch) -> None:
        notes, facts = self._notes[record.sweep], self._facts[record.sweep]
        simple = {name: value for name, value in notes.items() if not isinstance(value, dict | list)}
        for model in facts["models"]:
            parent = self._runs.get(parent_key(record.sweep, model))
            if parent is not None and not parent.deleted:
                batch.add(parent.id, tags={f"benchbed.{name}": str(value)[:4000] for name, value in simple.items()})
                self._attach(parent.id, "notes.json", notes)
        if record.body["facts"].get("finished"):
            batch.flush()
            self._finish(record)

    def _finish(self, record: Record) -> None:
        """The sweep is over: no run of it stays RUNNING."""
        mine = [known for known in self._runs.values() if known.sweep == record.sweep and not known.deleted]
        for known in mine:
            if known.kind in (TRIAL, FINAL) and known.status == "RUNNING":
                self._end(known, "KILLED", record.at)
        for known in mine:
            if known.kind == MODEL:
                states = [other.state for other in mine if other.kind == FINAL and other.model == known.model]
                failed = bool(states) and "COMPLETE" not in states
                self._end(known, "FAILED" if failed else "FINISHED", record.at)

    def _tell_opened(self, record: Record, batch: Batch) -> None:
        key, opened = record.body["key"], record.body["facts"]
        facts, model = self._facts[record.sweep], str(opened.get("model", ""))
        tags = tags_of_run(record.sweep, key, opened, facts)
        parent = self._runs.get(parent_key(record.sweep, model))
        if parent is not None:
            tags["mlflow.parentRunId"] = parent.id
        kind = tags["benchbed.kind"]
        known, is_new = self._run(key, record, run_name(kind, model, opened, key), tags)
        if known.deleted:
            return
        batch.add(known.id, params=parameters_of(opened), tags={} if is_new else tags)
        self._keep_facts(known, "opened", opened, batch)
        if kind == FINAL:
            self._attach_dataset(known.id, facts)

    def _tell_closed(self, known: _Known, record: Record, batch: Batch) -> None:
        state, closed = record.body["state"], record.body["facts"]
        known.state = state
        tags = {"benchbed.state": state}
        if closed.get("reason"):
            tags["benchbed.reason"] = str(closed["reason"])[:4000]
        batch.add(known.id, points=[(name, value, record.at, 0) for name, value in metrics_of_closing(closed)], tags=tags)
        self._keep_facts(known, "closed", closed, batch)
        for name, path in (closed.get("artifacts") or {}).items():
            self._connected().log_artifact(known.id, str(path), artifact_path=name)
        batch.flush(known.id)
        self._end(known, STATUS.get(state, "FAILED"), record.at)

    # ----- small writes ---------------------------------------------------------------------------------------------

    def _run(self, key: str, record: Record, name: str, tags: dict[str, str]) -> tuple[_Known, bool]:
        """The run of a key, and whether it was created now."""
        if key in self._runs:
            return self._runs[key], False
        experiment = self._experiments[str(self._facts[record.sweep]["benchmark"]["name"])]
        tags = {**tags, "benchbed.record": self._outbox.identity}
        run = self._connected().create_run(experiment, start_time=record.at, tags=tags, run_name=name)
        self._runs[key] = _Known(run)
        return self._runs[key], True

    def _end(self, known: _Known, status: str, at: int) -> None:
        self._connected().set_terminated(known.id, status, end_time=at)
        known.status = status

    def _keep_facts(self, known: _Known, name: str, facts: dict[str, Any], batch: Batch) -> None:
        text = json.dumps(facts, sort_keys=True)
        if known.kind == FINAL or long_fact(text):
            self._attach(known.id, f"{name}.json", facts)
        batch.add(known.id, tags={f"benchbed.{name}": f"artifact:{name}.json" if long_fact(text) else text})

    def _attach(self, run: str, name: str, value: dict[str, Any]) -> None:
        with TemporaryDirectory(prefix="benchbed-") as folder:
            path = Path(folder) / name
            path.write_text(json.dumps(value, indent=1, sort_keys=True))
            self._connected().log_artifact(run, str(path))

    def _attach_dataset(self, run: str, facts: dict[str, Any]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        splits = facts.get("splits") or []
        name = str(facts["benchmark"].get("dataset", ""))
        inputs = [
            DatasetInput(
                Dataset(
                    # MLflow's own digest reads ten thousand rows; this is the content hash of the split, as far as it fits.
                    name=f"{name}, split seed {split.get('seed')}"[:500],
                    digest=str(split.get("fingerprint", ""))[:36] or "unknown",
                    source_type="benchbed",
                    source=json.dumps({"dataset": name, "split_id": split.get("split_id")}),
                ),
                tags=[InputTag("mlflow.data.context", "benchmark")],
            )
            for split in splits
        ]
        if inputs:
            self._connected().log_inputs(run, inputs)


class _Known:
    """A run that the store has."""

    def __init__(self, run: Run) -> None:
        tags = run.data.tags
        self.id = str(run.info.run_id)
        self.status = str(run.info.status)
        self.deleted = run.info.lifecycle_stage == "deleted"
        self.kind, self.sweep = tags.get("benchbed.kind", ""), tags.get("benchbed.sweep", "")
        self.model, self.state = tags.get("benchbed.model", ""), tags.get("benchbed.state", "")


def send_outstanding(sweep_folder: Path, workspace: Workspace, uri: str | None = None) -> int:
    """Send what an ended sweep could not send.

    Returns
    -------
    int
        Number of records that are still unsent. A sweep that is running sends its own; then nothing is done here.
    """
    if not (sweep_folder / "outbox.jsonl").exists():
        return 0
    outbox = Outbox(sweep_folder, writable=False)
    with outbox.sending() as mine, contextlib.suppress(Exception):
        sender = Sender(outbox, workspace, store_uri(workspace, uri))
        while mine and sender.send():
            pass
    return outbox.count_unsent()


def pages(client: MlflowClient, experiments: list[str], query: str = "", view: int = 1) -> Iterator[Run]:
    """All runs that fit a query, page after page, oldest first (``view``: 1 active, 2 deleted, 3 all)."""
    token = None
    while True:
        page = client.search_runs(
            experiments, query, run_view_type=view, max_results=1000, order_by=["attributes.start_time ASC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def merge(into: dict[str, Any], news: dict[str, Any]) -> None:
    """Newer facts over older ones; dictionaries are merged, lists and everything else replaced.

    Examples
    --------
    >>> facts = {"spent": {"ease": 1}}
    >>> merge(facts, {"spent": {"gru4rec": 2}})
    >>> facts
    {'spent': {'ease': 1, 'gru4rec': 2}}
    """
    for name, value in news.items():
        if isinstance(value, dict) and isinstance(into.get(name), dict):
            merge(into[name], value)
        else:
            into[name] = value
