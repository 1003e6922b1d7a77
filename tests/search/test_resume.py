"""The driver dies between any two writes, and the same command goes on."""

from __future__ import annotations

import os

import pytest
from search_fakes import MemoryRecorder, fake_models, plan, rows, space

from benchbed.search.ledger import Ledger
from benchbed.search.storage import SteadyJournal, open_storage


class Killed(BaseException):
    """As good as ``kill -9``: nothing catches it."""


class Clock:
    """Kills the driver before its n-th write, whichever storage it goes to."""

    def __init__(self, fatal: int) -> None:
        self.fatal, self.writes = fatal, 0

    def tick(self) -> None:
        self.writes += 1
        if self.writes == self.fatal:
            raise Killed


class MortalRecorder(MemoryRecorder):
    clock = Clock(0)

    def opened(self, key, facts):
        if str(key) not in self.runs:
            self.clock.tick()
        super().opened(key, facts)

    def epochs(self, key, epochs):
        self.clock.tick()
        super().epochs(key, epochs)

    def closed(self, key, state, facts):
        assert self.runs[str(key)]["state"] in ("RUNNING", state)
        self.clock.tick()
        super().closed(key, state, facts)


@pytest.fixture(autouse=True)
def _models(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # the machine does not die here, only the driver
    with fake_models():
        yield


def plans():
    finite = {"depth": {"choices": [2, 3], "source": "x"}, "kind": {"choices": ["plain", "odd"], "source": "x"}}
    return [
        plan(trials=4, pruner="successive_halving"),
        plan(space(parameters=finite), trials=9, split_seed=1),
        plan(space(parameters={"depth": {"low": 1, "high": 8, "source": "x"}}), trials=3, split_seed=2),
    ]


def drive(folder, recorder, checkpoints) -> Ledger:
    """A driver with two slots; a trial's epochs outlive it in ``checkpoints``, as its files would."""
    ledger = Ledger(plans(), open_storage(folder), recorder)
    live, tokens = {}, 0
    while True:
        while len(live) < 2 and (assignment := ledger.next(f"t{tokens}")) is not None:
            live[f"t{tokens}"] = (assignment, True)
            tokens += 1
        if not live:
            return ledger
        for token, (assignment, first) in list(live.items()):
            done = checkpoints.setdefault(str(assignment.key), [])
            value = assignment.parameters.get("rate", assignment.parameters.get("depth", 1) / 10)
            if len(done) < 3:
                done.append({"number": len(done) + 1, "value": value * (len(done) + 1) / 10, "seconds": 1.0})
            live[token] = (assignment, False)
            if not ledger.epochs(token, done if first else done[-1:], last=len(done) == 3):
                del live[token]


def picture(ledger: Ledger) -> list:
    return [
        [(t.number, t.state.name, t.params, t.value, list(t.intermediate_values)) for t in study.trials]
        for study in ledger.studies
    ]


def check(ledger: Ledger, recorder: MemoryRecorder) -> None:
    for study in ledger.studies:
        trials = study.trials
        assert len(trials) == study.plan.budget
        assert all(trial.state.is_finished() for trial in trials)
        if study.plan.space.size() is not None:
            assert len({str(trial.params) for trial in trials}) == len(trials)
        for trial in trials:
            steps = list(trial.intermediate_values)
            assert steps == list(range(1, len(steps) + 1))
            run = recorder.runs[str(study.key(trial.number))]
            assert run["steps"] == steps and run["state"] == trial.state.name
            if trial.state.name == "COMPLETE":
                assert run["value"] == trial.value == max(trial.intermediate_values.values())
    assert len(recorder.runs) == sum(len(study.trials) for study in ledger.studies)


@pytest.mark.parametrize("first", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_wherever_the_driver_dies_the_sweep_ends_the_same(tmp_path, monkeypatch, first):
    append = SteadyJournal.append_logs
    clock = Clock(0)
    monkeypatch.setattr(SteadyJournal, "append_logs", lambda self, logs: (clock.tick(), append(self, logs))[1])

    def start(recorder, fatal):
        clock.fatal, clock.writes = fatal, 0
        recorder.clock = clock

    whole = MortalRecorder()
    start(whole, 0)
    ledger = drive(tmp_path / "whole", whole, {})
    check(ledger, whole)
    expected, writes = picture(ledger), clock.writes
    assert writes > 100
    same = 0
    for fatal in range(first, writes + 1, 3):
        folder, recorder, checkpoints = tmp_path / str(fatal), MortalRecorder(), {}
        start(recorder, fatal)
        with pytest.raises(Killed):
            drive(folder, recorder, checkpoints)
        start(recorder, 0)
        ledger = drive(folder, recorder, checkpoints)
        check(ledger, recorder)
        same += picture(ledger) == expected
    # The order in which trials end may change with a restart, and what is drawn and pruned with it; mostly it does not.
    assert same > writes / 9


def test_a_driver_that_dies_again_and_again_still_ends(tmp_path, monkeypatch):
    append = SteadyJournal.append_logs
    clock = Clock(0)
    monkeypatch.setattr(SteadyJournal, "append_logs", lambda self, logs: (clock.tick(), append(self, logs))[1])
    recorder, checkpoints = MortalRecorder(), {}
    recorder.clock = clock
    for _ in range(200):
        clock.fatal, clock.writes = 13, 0
        try:
            ledger = drive(tmp_path, recorder, checkpoints)
            break
        except Killed:
            continue
    else:
        pytest.fail("the sweep does not get on")
    check(ledger, recorder)


def test_a_verdict_lost_with_the_driver_is_given_when_it_comes_back(tmp_path):
    recorder = MemoryRecorder()
    one = [plan(trials=2, pruner="successive_halving")]
    ledger = Ledger(one, open_storage(tmp_path), recorder)
    ledger.next("a")
    ledger.epochs("a", rows(0.9), last=True)
    ledger.next("b")
    # What a driver does that dies between the report and the verdict:
    recorder.epochs(ledger.studies[0].key(1), rows(0.1))
    ledger.studies[0].take_up(1).report(0.1, 1)
    ledger = Ledger(one, open_storage(tmp_path), recorder)
    assert [t.state.name for t in ledger.studies[0].trials] == ["COMPLETE", "PRUNED"]
    assert [run["state"] for run in recorder.runs.values()] == ["COMPLETE", "PRUNED"]
    assert ledger.finished


def test_a_recorder_that_knows_nothing_is_told_everything(tmp_path):
    drive(tmp_path, MemoryRecorder(), {})
    fresh = MemoryRecorder()
    ledger = Ledger(plans(), open_storage(tmp_path), fresh)
    check(ledger, fresh)


def test_running_trials_keep_their_numbers_and_come_first(tmp_path):
    recorder = MemoryRecorder()
    one = [plan(trials=3)]
    ledger = Ledger(one, open_storage(tmp_path), recorder)
    before = [ledger.next(token) for token in ("a", "b")]
    ledger.epochs("b", rows(0.2))
    ledger = Ledger(one, open_storage(tmp_path), recorder)
    after = [ledger.next(token) for token in ("c", "d", "e")]
    assert [(a.number, a.attempt) for a in after] == [(0, 2), (1, 2), (2, 1)]
    assert [a.parameters for a in after[:2]] == [a.parameters for a in before]
