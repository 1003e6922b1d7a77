"""What a sweep tells: to the outbox at once, to MLflow in the background."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

from benchbed.errors import TrackingError
from benchbed.tracking.outbox import Outbox, Record
from benchbed.tracking.sender import Sender
from benchbed.tracking.store import store_uri, tend, why
from benchbed.workspace import Workspace

_PAUSE = 0.3
"""Seconds between two batches: epochs that arrive together are sent together."""
_LONGEST_WAIT = 60.0


class Key(Protocol):
    """Which run: the trial ``number`` of an Optuna study."""

    @property
    def study(self) -> str:
        """Name of the study, unique over everything."""

    @property
    def number(self) -> int:
        """Number of the trial in its study."""


class Tracker:
    """Records a sweep: durable in the outbox when a call returns, sent to MLflow by one background thread.

    A tracking server that is away costs the sweep nothing; what could not be sent is sent by the next start of the sweep or by
    ``benchbed report``.

    Parameters
    ----------
    sweep_folder
        Folder of the sweep; the outbox lies in it.
    workspace
        Where the default store and its files are.
    uri
        The MLflow store; None takes ``MLFLOW_TRACKING_URI``, else SQLite in the workspace.

    Raises
    ------
    TrackingError
        The outbox was damaged by something else than a crash.
    """

    def __init__(self, sweep_folder: Path, workspace: Workspace, uri: str | None = None) -> None:
        self._workspace, self.uri = workspace, store_uri(workspace, uri)
        self._outbox = Outbox(sweep_folder, writable=True)
        self._sender = Sender(self._outbox, workspace, self.uri)
        self._sweep = ""
        self._known: dict[str, dict[str, Any]] = {}
        for record in self._outbox.read():
            self._learn(record)
        self._news, self._closing = Event(), Event()
        self._thread: Thread | None = None
        self._trouble: str | None = None

    # ----- what the driver calls ------------------------------------------------------------------------------------

    def start(self, sweep_facts: dict[str, Any]) -> None:
        """Open the sweep, or continue it, and start sending."""
        self._sweep = str(sweep_facts["sweep"])
        self._append("sweep", {"facts": sweep_facts})
        if self._thread is None:
            self._thread = Thread(target=self._run, name="benchbed-tracking", daemon=True)
            self._thread.start()

    def opened(self, key: Key, facts: dict[str, Any]) -> None:
        """A trial exists now. Told again, nothing happens."""
        if _text(key) not in self._known:
            self._append("opened", {"key": _text(key), "facts": facts})

    def epochs(self, key: Key, epochs: list[dict[str, Any]]) -> None:
        """Finished epochs of a trial; those already known are left out."""
        known = self._known.get(_text(key), {}).get("steps", [])
        news = [epoch for epoch in epochs if int(epoch["number"]) not in known]
        if news:
            self._append("epochs", {"key": _text(key), "epochs": news})

    def closed(self, key: Key, state: str, facts: dict[str, Any]) -> None:
        """A trial is over. Told again with the same state, nothing happens."""
        if self._known.get(_text(key), {}).get("state") != state:
            self._append("closed", {"key": _text(key), "state": state, "facts": facts})

    def note(self, facts: dict[str, Any]) -> None:
        """Facts of the sweep that change: ``finished``, ``openings`` of the vault, the budget spent ...

        Newer facts replace older ones of the same name, dictionaries are merged. With ``finished: True`` no run of the sweep
        stays RUNNING in MLflow.
        """
        self._append("note", {"facts": facts})

    def known(self) -> dict[str, dict[str, Any]]:
        """What the outbox holds: ``study/number`` -> ``state`` (RUNNING until closed), ``value`` (or None), ``steps``."""
        return {
            key: {"state": one["state"], "value": one["value"], "steps": list(one["steps"])} for key, one in self._known.items()
        }

    def reasons(self, study: str) -> list[str]:
        """Why trials of a study failed, the most frequent reason first; where none failed, why the others ended."""
        mine = [one for key, one in self._known.items() if key.rpartition("/")[0] == study and one.get("why")]
        failed = [one["why"] for one in mine if one["state"] == "FAIL"]
        return [why for why, _ in Counter(failed or [one["why"] for one in mine]).most_common()]

    def close(self, timeout: float = 30.0) -> bool:
        """Send what is left, for at most ``timeout`` seconds.

        Returns
        -------
        bool
            Whether everything was sent. If not, :attr:`trouble` says why; nothing is lost.
        """
        self._closing.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(timeout)
        tend(self._workspace, self.uri)
        return self.unsent == 0

    @property
    def unsent(self) -> int:
        """Number of records that the store has not been told."""
        return self._outbox.count_unsent()

    @property
    def trouble(self) -> str | None:
        """Why the last attempt to send failed; None while all is well."""
        return self._trouble

    @property
    def refused(self) -> list[str]:
        """Records that the store refused for good, with its reason."""
        return list(self._sender.refused)

    # ----- inside ---------------------------------------------------------------------------------------------------

    def _append(self, kind: str, body: dict[str, Any]) -> None:
        if not self._sweep:
            raise TrackingError("The sweep is not started.", advice="Call start() before anything is recorded.")
        self._learn(self._outbox.append(kind, self._sweep, body))
        self._news.set()

    def _learn(self, record: Record) -> None:
        if record.kind not in ("opened", "epochs", "closed"):
            return
        one = self._known.setdefault(record.body["key"], {"state": "RUNNING", "value": None, "steps": []})
        if record.kind == "epochs":
            one["steps"].extend(int(epoch["number"]) for epoch in record.body["epochs"])
        elif record.kind == "closed":
            facts = record.body["facts"]
            one["state"], one["value"] = record.body["state"], facts.get("value")
            one["why"] = ": ".join(str(facts[name]) for name in ("reason", "message") if facts.get(name))

    def _run(self) -> None:
        """The background thread: send, pause, send; wait longer and longer while the store is away."""
        wait = 1.0
        while True:
            with self._outbox.sending() as mine:
                while mine:
                    closing = self._closing.is_set()
                    self._news.clear()
                    try:
                        left = self._sender.send()
                    except Exception as error:
                        self._trouble = why(error, self.uri)
                        break
                    self._trouble, wait = None, 1.0
                    if closing and not left:
                        return
                    if not left:
                        self._news.wait()
                        self._closing.wait(_PAUSE)
            if self._closing.is_set():
                if mine:
                    self._last_attempt()
                return
            self._closing.wait(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def _last_attempt(self) -> None:
        """The store was away a moment ago and the sweep is over: once more, then leave it to the next start."""
        with self._outbox.sending() as mine:
            try:
                while mine and self._sender.send():
                    pass
                self._trouble = None
            except Exception as error:
                self._trouble = why(error, self.uri)


def _text(key: Key) -> str:
    return f"{key.study}/{key.number}"
