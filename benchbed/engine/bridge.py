"""Between Ray Tune and the ledger: the searcher and the scheduler only ask and tell."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ray import cloudpickle
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError, RayTaskError, WorkerCrashedError
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from benchbed.engine.attempt import TrialError, hung_stacks, tidy, trial_folder
from benchbed.search.assignment import Assignment
from benchbed.search.ledger import FailureKind, Ledger
from benchbed.search.recorder import RunKey
from benchbed.workspace import replacing


class Halt(BaseException):
    """The sweep is to stop now: on a signal, or because its storage failed.

    No ``Exception``: Tune would take a quarter of a minute to ask every actor to leave. The trials are continued from their
    checkpoints whenever the sweep is.
    """


class Bridge:
    """What searcher and scheduler share.

    Parameters
    ----------
    ledger
        Who decides.
    trials
        Folder of all trials.
    capacity
        Number of trials that may run at the same time, asked again every few seconds (clusters grow).
    halt
        Set from outside to stop.
    """

    def __init__(self, ledger: Ledger, trials: Path, capacity: Callable[[], int], halt: threading.Event) -> None:
        self.ledger, self.trials, self.halt = ledger, trials, halt
        self.failure: BaseException | None = None
        self.closed = 0
        self._controller: Any = None
        self._capacity, self._asked, self._slots = capacity, -float("inf"), 0

    def check(self, controller: Any = None) -> None:
        """Stop here if the sweep is to stop. Called only between two events, never inside a write."""
        self._controller = controller or self._controller
        if self.failure is not None or self.halt.is_set():
            self._stop()

    def _stop(self, cause: BaseException | None = None) -> NoReturn:
        """End all actors at once and give their resources back; a cluster that is not ours would keep them reserved."""
        with contextlib.suppress(Exception):
            self._controller._actor_manager.cleanup()
        raise Halt from cause

    def slots(self) -> int:
        """Number of trials that may run at the same time."""
        if time.monotonic() - self._asked > 10:
            self._slots, self._asked = max(1, self._capacity()), time.monotonic()
        return self._slots

    def suggest(self, token: str) -> dict[str, Any] | str | None:
        """The configuration of the next attempt, None for none now, FINISHED for none ever."""
        self.check()
        if self.ledger.in_flight >= self.slots():
            return None
        try:
            assignment = self.ledger.next(token)
            if assignment is not None:
                return {"assignment": assignment.to_json()}
            return Searcher.FINISHED if self.ledger.finished else None
        except Exception as error:
            self.failure = error
            self._stop(error)

    def result(self, token: str, report: dict[str, Any]) -> bool:
        """One result of an attempt; returns whether it goes on."""
        assignment = self.ledger.assignment(token)
        if assignment is None:
            return False
        try:
            if report.get("failure"):
                self._failed(token, assignment, *report["failure"])
                return False
            goes_on = self.ledger.epochs(token, report["rows"], last=report["last"], facts=report.get("facts"))
            if not goes_on:
                self._over(assignment.key, assignment)
            return goes_on
        except Exception as error:
            self.failure = error
            return False

    def error(self, token: str, error: BaseException | None) -> None:
        """An attempt ended without a result."""
        assignment = self.ledger.assignment(token)
        if assignment is None:
            return
        try:
            stacks = hung_stacks(self.trials, assignment) if isinstance(error, RayActorError) else None
            if stacks:
                self._failed(token, assignment, "timeout", "one step took far longer than the cap of a trial", stacks)
            else:
                self._failed(token, assignment, *why_it_ended(error))
        except Exception as problem:
            self.failure = problem

    def _failed(self, token: str, assignment: Assignment, kind: FailureKind, message: str, trace: str) -> None:
        if not self.ledger.failed(token, kind, message):
            folder = trial_folder(self.trials, assignment.study, assignment.number)
            with replacing(folder / "error.txt") as temporary:
                temporary.write_text(f"{kind}: {message}\n\n{trace}")
            self._over(assignment.key, assignment)

    def _over(self, key: RunKey, assignment: Assignment) -> None:
        """A trial is closed: keep no weights but those of the best search trial of each study and of final runs."""
        self.closed += 1
        if assignment.stage == "final":
            tidy(self.trials, key.study, key.number, keep_newest=True)
            return
        best = self.ledger.best_numbers().get(key.study)
        for path in (self.trials / key.study).glob("*/attempt-*"):
            number = int(path.parent.name)
            if self.ledger.is_closed(key.study, number):
                tidy(self.trials, key.study, number, keep_newest=number == best)


def why_it_ended(error: BaseException | None) -> tuple[FailureKind, str, str]:
    """Kind, message and trace of what Ray reports about an attempt."""
    cause = getattr(error, "cause", None)
    if isinstance(error, TrialError) or isinstance(cause, TrialError):
        found = error if isinstance(error, TrialError) else cause
        assert isinstance(found, TrialError)
        return ("out_of_memory" if found.kind == "out_of_memory" else "error"), found.message, found.trace
    text = str(error).strip()
    first = text.splitlines()[0] if text else type(error).__name__
    if isinstance(error, OutOfMemoryError) or "memory pressure" in text or "low on memory" in text:
        return "out_of_memory", "the machine ran out of memory", text
    if isinstance(error, NodeDiedError) or getattr(error, "preempted", False) or "node has died" in text or "node died" in text:
        return "node_lost", first, text
    if isinstance(error, RayTaskError):
        return "error", first, text
    if isinstance(error, RayActorError | WorkerCrashedError):
        return "worker_died", first, text
    return "worker_died", first, text


class LedgerSearcher(Searcher):
    """Asks the ledger for the next attempt. What a trial gave is told by the scheduler."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Accept whatever Tune proposes: metric and mode are the ledger's business."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The configuration of the next attempt."""
        return self._bridge.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the scheduler has told the ledger."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal is the truth."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Tune's snapshots are never read."""
        raise NotImplementedError("a sweep continues from its journal, never from a snapshot of Tune")

    def __getstate__(self) -> dict[str, Any]:
        return {}


class LedgerScheduler(TrialScheduler):
    """Tells the ledger what the trials give and answers what it says."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
        self._bridge = bridge

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """One result."""
        goes_on = self._bridge.result(trial.trial_id, json.loads(result["report"]))
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """An attempt ended without a result."""
        self._bridge.error(trial.trial_id, _read_error(trial.pickled_error_file))

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Leave it to Tune, which starts what waits in order."""
        self._bridge.check(getattr(tune_controller, "_tune_controller", None))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Nothing."""

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Nothing: a trial ends only because the ledger said so."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Nothing."""

    def debug_string(self) -> str:
        """Nothing to say."""
        return ""

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _read_error(path: str | None) -> BaseException | None:
    try:
        with open(path or "", "rb") as file:
            error: BaseException = cloudpickle.load(file)
            return error
    except Exception:
        return None
