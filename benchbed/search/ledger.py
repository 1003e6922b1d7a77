"""The ledger of a sweep: who gets the next trial, what is told, what is best. Tested without Ray."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Protocol

import optuna
from optuna.trial import TrialState

from benchbed.search.counts import Counts, count
from benchbed.search.plans import Assignment, FinalPlan, Plan, Shape
from benchbed.search.recorder import Recorder, RunKey
from benchbed.search.storage import persist
from benchbed.search.studies import LEFT_OUT, SearchStudy, Study, make_study

__all__ = ["Counts", "FailureKind", "Ledger", "Observer"]

FailureKind = Literal["error", "out_of_memory", "timeout", "worker_died", "node_lost"]

MAX_DEATHS = 3
"""Attempts of one trial whose process may die before the trial counts as failed."""
MAX_LOSSES = 20
"""The same for nodes that go away under it."""


class Observer(Protocol):
    """Somebody who watches the trials, for example a live table. What an observer raises stops nothing."""

    def started(self, assignment: Assignment, counts: Counts) -> None:
        """An attempt at a trial begins."""

    def epoch(self, key: RunKey, epoch: dict[str, Any]) -> None:
        """A trial has finished an epoch."""

    def closed(self, key: RunKey, state: str, facts: dict[str, Any], counts: Counts) -> None:
        """A trial is over."""

    def notice(self, text: str) -> None:
        """Something the user should read."""


@dataclass
class _Live:
    study: Study
    trial: optuna.Trial
    assignment: Assignment
    reported: set[int]
    seconds: float = 0.0
    values: dict[int, float] = field(default_factory=dict)


class Ledger:
    """Keeps one Optuna study for each plan and hands out their trials.

    A token stands for one attempt at one trial: :meth:`next` gives it an assignment, :meth:`epochs` and :meth:`failed` report
    on it. Everything is in the storage and in the recorder when a call returns, the recorder first.

    Parameters
    ----------
    plans
        The studies, in the order of preference.
    storage
        Optuna's, open for writing.
    recorder
        Of runs.
    observer
        Who watches.

    Raises
    ------
    SweepError
        The storage or the record cannot be written for minutes.
    """

    def __init__(
        self,
        plans: Iterable[Plan],
        storage: optuna.storages.BaseStorage,
        recorder: Recorder,
        observer: Observer | None = None,
    ) -> None:
        self._storage = storage
        self._recorder = recorder
        self._observer = observer
        self._live: dict[str, _Live] = {}
        self._again: deque[tuple[Study, int]] = deque()
        self._freed: Shape | None = None
        self.studies: list[Study] = []
        names = {summary.study_name: summary.user_attrs for summary in storage.get_all_studies()}
        known = recorder.known()
        for plan in plans:
            study = make_study(plan, storage)
            self.studies.append(study)
            self._announce(study, names)
            self._reconcile(study, known)

    # ----- handing out ------------------------------------------------------------------------------------------------

    def next(self, token: str) -> Assignment | None:
        """The next attempt, None when there is nothing to hand out now.

        Trials that were begun come first, under their own numbers. Among studies with budget left one is preferred whose
        resources are those of the slot that became free last, then the one with the fewest trials in flight.
        """
        if self._again:
            study, number = self._again.popleft()
            trial = study.take_up(number)
            if trial.user_attrs.get(LEFT_OUT):
                trial.set_user_attr(LEFT_OUT, False)
        else:
            chosen = self._choose()
            if chosen is None:
                return None
            study, trial = chosen, chosen.ask()
        attributes = trial.user_attrs
        attempt = int(attributes.get("attempts", 0)) + 1
        trial.set_user_attr("attempts", attempt)
        shape = study.plan.roomier if attributes.get("ooms", 0) else study.plan.shape
        assignment = study.assign(trial, attempt, shape)
        self._record(self._recorder.opened, assignment.key, study.opening_facts(assignment))
        self._live[token] = _Live(study, trial, assignment, reported=set(study.values(trial.number)))
        self._freed = None
        self._watch("started", assignment, self.counts(study))
        return assignment

    def _choose(self) -> Study | None:
        flying: dict[str, int] = {}
        for live in self._live.values():
            flying[live.study.name] = flying.get(live.study.name, 0) + 1
        open_ = [(study, left) for study in self.studies if (left := study.left()) > 0]
        if not open_:
            return None

        def rank(entry: tuple[Study, int]) -> tuple[bool, int, int]:
            study, left = entry
            return (self._freed is not None and study.plan.shape != self._freed, flying.get(study.name, 0), -left)

        return min(open_, key=rank)[0]

    @property
    def finished(self) -> bool:
        """Whether every budget is spent and nothing is in flight."""
        return not self._live and not self._again and all(study.left() == 0 for study in self.studies)

    @property
    def in_flight(self) -> int:
        """Number of attempts that were handed out and are not over."""
        return len(self._live)

    def assignment(self, token: str) -> Assignment | None:
        """What a token stands for, None when it is over."""
        live = self._live.get(token)
        return live.assignment if live else None

    # ----- being told -------------------------------------------------------------------------------------------------

    def epochs(
        self, token: str, rows: Sequence[dict[str, Any]], *, last: bool = False, facts: dict[str, Any] | None = None
    ) -> bool:
        """Finished epochs of an attempt; epochs that are known are skipped, so that a whole history may be sent.

        Parameters
        ----------
        token
            The attempt.
        rows
            Epochs, each with ``number`` (from 1), ``value`` and more for the record.
        last
            Whether the trial ends by itself with these.
        facts
            Of the whole trial, for the record, with the last rows.

        Returns
        -------
        bool
            Whether the trial is to go on.
        """
        live = self._live.get(token)
        if live is None:
            return False
        key, facts = live.assignment.key, facts or {}
        diverged = False
        for position, row in enumerate(rows):
            number, value = int(row["number"]), float(row["value"])
            live.seconds += float(row.get("seconds", 0.0))
            if not math.isfinite(value):
                diverged = True
                break
            live.values[number] = value
            self._record(self._recorder.epochs, key, [row])
            if number in live.reported:
                continue
            live.trial.report(value, number)
            live.reported.add(number)
            self._watch("epoch", key, row)
            ends = last and position == len(rows) - 1
            if not ends and live.study.should_prune(key.number):
                self._close(token, TrialState.PRUNED, {**facts, "reason": f"pruned after epoch {number}"})
                return False
        if diverged and live.assignment.stage == "search":
            self._close_diverged(token, facts)
            return False
        if last:
            if live.reported:
                reason = facts.get("reason") or facts.get("finished") or "max_epochs"
                self._close(token, TrialState.COMPLETE, {**facts, "reason": reason})
            else:
                self._close(token, TrialState.FAIL, {**facts, "reason": "nan" if diverged else "no epoch was finished"})
        return not last

    def _close_diverged(self, token: str, facts: dict[str, Any]) -> None:
        """NaN after a finite epoch says where not to search; NaN at once says that the configuration does not work."""
        state = TrialState.PRUNED if self._live[token].reported else TrialState.FAIL
        self._close(token, state, {**facts, "reason": "nan"})

    def failed(self, token: str, kind: FailureKind, message: str, facts: dict[str, Any] | None = None) -> bool:
        """An attempt ended badly.

        A lost node, a dead process (up to three times) and the first time the memory runs out are not the trial's fault: it is
        continued under its number. Everything else closes it as failed.

        Returns
        -------
        bool
            Whether the trial is tried again.
        """
        live = self._live.get(token)
        if live is None:
            return False
        counter, limit = {
            "worker_died": ("deaths", MAX_DEATHS),
            "node_lost": ("losses", MAX_LOSSES),
            "out_of_memory": ("ooms", 2),
        }.get(kind, ("", 0))
        if counter:
            times = int(live.trial.user_attrs.get(counter, 0)) + 1
            live.trial.set_user_attr(counter, times)
            if times < limit:
                self._put_back(token)
                return True
        self._close(token, TrialState.FAIL, {**(facts or {}), "reason": kind, "message": message})
        return False

    def put_back_all(self) -> None:
        """Take back every attempt in flight: its process is gone through no fault of the trial."""
        for token in list(self._live):
            self._put_back(token)

    def _put_back(self, token: str) -> None:
        live = self._live.pop(token)
        self._freed = live.assignment.shape
        self._again.append((live.study, live.assignment.number))

    def _close(self, token: str, state: TrialState, facts: dict[str, Any]) -> None:
        live = self._live[token]
        key, values = live.assignment.key, live.study.values(live.assignment.number)
        best = max(values, key=lambda at: (values[at], -at)) if values else None
        told = {
            "value": None if best is None else values[best],
            "best_epoch": best,
            "epochs": len(values),
            "seconds": live.seconds,
            "attempts": live.assignment.attempt,
            **facts,
        }
        self._record(self._recorder.closed, key, state.name, told)
        live.study.tell(key.number, state)
        del self._live[token]
        self._freed = live.assignment.shape
        self._watch("closed", key, state.name, told, self.counts(live.study))

    # ----- where it stands --------------------------------------------------------------------------------------------

    def counts(self, study: Study) -> Counts:
        """Where one study stands."""
        plan = study.plan
        seeds = plan.seeds if isinstance(plan, FinalPlan) else None
        return count(study.optuna, plan.stage, plan.model, plan.split_seed, plan.budget, seeds)

    def best_numbers(self) -> dict[str, int]:
        """Study name -> number of its best trial, of the searches that have one."""
        return {s.name: best.number for s in self.studies if isinstance(s, SearchStudy) and (best := s.best()) is not None}

    def is_closed(self, study_name: str, number: int) -> bool:
        """Whether a trial is over."""
        study = next(study for study in self.studies if study.name == study_name)
        return study.trials[number].state.is_finished()

    # ----- inside -----------------------------------------------------------------------------------------------------

    def _announce(self, study: Study, names: dict[str, dict[str, Any]]) -> None:
        """Say that a study is new where there were others before, and what changed."""
        if study.name in names:
            return
        earlier = [name for name in names if name.rsplit("/", 1)[0] == study.plan.lineage]
        if not earlier:
            return
        before, now = names[earlier[-1]].get("identity", {}), study.plan.identity
        changed = [what.replace("_", " ") for what in now if before.get(what) != now[what]]
        text = f"{study.plan.lineage}: a new study is started, because this changed: {', '.join(changed) or 'its identity'}."
        self._watch("notice", text)

    def _reconcile(self, study: Study, known: dict[str, dict[str, Any]]) -> None:
        """Tell Optuna what only the recorder knows, the recorder what only Optuna knows, and take up what is unfinished."""
        for frozen in study.trials:
            if frozen.state == TrialState.WAITING:
                if not study.wants(frozen):
                    self._leave_out(study, study.optuna.ask().number, None)
                continue
            number, key = frozen.number, study.key(frozen.number)
            record = known.get(str(key))
            if record is None and frozen.state.is_finished():
                trial = study.assign(study.take_up(number), int(frozen.user_attrs.get("attempts", 1)), study.plan.shape)
                self._record(self._recorder.opened, key, study.opening_facts(trial))
                record = {"state": "RUNNING", "steps": []}
            if frozen.state == TrialState.RUNNING:
                self._take_up(study, number, record)
                continue
            assert record is not None
            missing = [
                {"number": at, "value": value} for at, value in frozen.intermediate_values.items() if at not in record["steps"]
            ]
            if missing:
                self._record(self._recorder.epochs, key, missing)
            if record["state"] == "RUNNING":
                facts = {"value": frozen.value, "reason": "recorded when the sweep was continued"}
                self._record(self._recorder.closed, key, frozen.state.name, facts)

    def _take_up(self, study: Study, number: int, record: dict[str, Any] | None) -> None:
        """A trial that Optuna has running: close it as recorded, or as the pruner would have, or continue it."""
        values = study.values(number)
        if record is not None and record["state"] != "RUNNING":
            state = TrialState[record["state"]]
            # A complete trial without reported values cannot be told; it is run again.
            if state != TrialState.COMPLETE or values:
                study.tell(number, state)
                return
        if values and study.should_prune(number):
            reason = f"pruned after epoch {max(values)}"
            told = {
                "value": max(values.values()),
                "reason": reason,
                "attempts": study.trials[number].user_attrs.get("attempts", 1),
            }
            rows = [{"number": n, "value": v} for n, v in values.items()]
            self._record(self._recorder.epochs, study.key(number), rows)
            self._record(self._recorder.closed, study.key(number), TrialState.PRUNED.name, told)
            study.tell(number, TrialState.PRUNED)
            return
        if study.wants(study.trials[number]):
            self._again.append((study, number))
        else:
            self._leave_out(study, number, record)

    def _leave_out(self, study: Study, number: int, record: dict[str, Any] | None) -> None:
        """An unfinished run of a seed that the benchmark file no longer names: it is not run, and not left open either."""
        trial = study.take_up(number)
        trial.set_user_attr(LEFT_OUT, True)
        if record is None:
            assignment = study.assign(trial, int(trial.user_attrs.get("attempts", 1)), study.plan.shape)
            self._record(self._recorder.opened, study.key(number), study.opening_facts(assignment))
        self._record(self._recorder.closed, study.key(number), TrialState.FAIL.name, {"reason": "no longer asked for"})
        study.tell(number, TrialState.FAIL)

    def _record(self, write: Callable[..., None], *said: Any) -> None:
        persist(partial(write, *said), "The record of the runs (outbox)")

    def _watch(self, what: str, *said: Any) -> None:
        if self._observer is None:
            return
        try:
            getattr(self._observer, what)(*said)
        except Exception:
            # A broken table must not end hours of training; from here on nobody watches.
            self._observer = None
