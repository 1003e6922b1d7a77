"""The bridge with a real Ray and a training run that misbehaves on request."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from search_fakes import MemoryRecorder, fake_models, plan, space

from benchbed.engine.run import run_ledger
from benchbed.errors import ResourceError
from benchbed.search.assignment import Shape
from benchbed.search.ledger import Ledger
from benchbed.search.plans import FinalPlan
from benchbed.search.storage import open_storage


@pytest.fixture(autouse=True)
def _models():
    with fake_models():
        yield


def behaving(word: str, seed: int, trials: int = 1, warmth: float = 0.0, **changes):
    made = space(defaults={"behaviour": word, "warmth": warmth})
    return plan(made, split_seed=seed, trials=trials, **changes)


def run(folder, plans, recorder=None, halt=None, **options):
    recorder = recorder or MemoryRecorder()
    ledger = Ledger(plans, open_storage(folder), recorder)
    done = run_ledger(
        ledger,
        sweep_folder=folder,
        protocol={"seen_items": "exclude"},
        data={plan.split_seed: SimpleNamespace(fingerprint="of the training data") for plan in plans},
        halt=halt or threading.Event(),
        fit_factory="engine_fakes:FakeFit",
        vault="engine_fakes:open_fake_vault",
        **options,
    )
    return ledger, recorder, done


def states(ledger: Ledger) -> dict[int, list[str]]:
    return {study.plan.split_seed: [trial.state.name for trial in study.trials] for study in ledger.studies}


def test_every_way_a_trial_can_end_is_recorded_right(ray_cluster, tmp_path):
    words = {1: "", 2: "die:2", 3: "nan:3", 4: "nan:1", 5: "error:2", 6: "memory:2", 7: "hang:2", 8: "refuse"}
    plans = [behaving(word, seed, seconds=1.0) for seed, word in words.items()]
    plans += [behaving("", 20, trials=7, pruner="successive_halving"), behaving("", 21, trials=4)]
    final = FinalPlan(
        model="fake", split_seed=30, split_id="split", protocol="p", variant="plain", max_epochs=2, patience=1,
        parameters={"rate": 0.5}, seeds=(7, 8), split_folder=str(tmp_path), sweep="sweep",
    )  # fmt: skip
    ledger, recorder, done = run(tmp_path, [*plans, final], hang_multiple=1.0, hang_floor=1.5)
    assert done and ledger.finished
    assert {seed: ended for seed, (ended, *_) in states(ledger).items() if seed < 20} == {
        1: "COMPLETE", 2: "COMPLETE", 3: "PRUNED", 4: "FAIL", 5: "FAIL", 6: "COMPLETE", 7: "FAIL", 8: "FAIL",
    }  # fmt: skip
    assert len(states(ledger)[20]) == 7 and "PRUNED" in states(ledger)[20] and "FAIL" not in states(ledger)[20]
    assert states(ledger)[21] == ["COMPLETE"] * 4
    closings = {run["facts"]["split_seed"]: run["closing"] for run in recorder.runs.values()}
    assert closings[2]["attempts"] == closings[6]["attempts"] == 2
    assert closings[7]["reason"] == "timeout"
    assert closings[5]["message"] == "ValueError: the model is wrong"
    for study in ledger.studies:
        for trial in study.trials:
            steps = list(trial.intermediate_values)
            assert steps == list(range(1, len(steps) + 1)) == recorder.runs[str(study.key(trial.number))]["steps"]
            if trial.state.name == "COMPLETE":
                assert trial.value == max(trial.intermediate_values.values())
    # Final runs opened the vault once each, and nobody else did.
    assert sorted((tmp_path / "openings.txt").read_text().splitlines()) == ["fake 7 sweep", "fake 8 sweep"]
    assert [run["closing"]["test"] for run in recorder.runs.values() if run["facts"]["stage"] == "final"] == [
        {"ndcg@20": 0.5}
    ] * 2
    # The reason lies beside the trial; weights are kept of the best search trial of each study and of final runs alone.
    errors = sorted(path.parts[-4] for path in tmp_path.glob("trials/search/fake/*/*/*/error.txt"))
    assert errors == ["s5", "s7", "s8"]
    kept = {(path.parts[-4], int(path.parts[-2])) for path in tmp_path.glob("trials/search/fake/*/*/*/attempt-*")}
    best = {(f"s{s.plan.split_seed}", b.number) for s in ledger.studies if s.plan.stage == "search" and (b := s.best())}
    assert kept == best
    assert len(list(tmp_path.glob("trials/final/fake/*/*/*/attempt-*"))) == 2
    assert not (tmp_path / "tune").exists()


def test_actors_are_reused(ray_cluster, tmp_path):
    ledger, _, _ = run(tmp_path, [behaving("", 1, trials=8), behaving("", 2, trials=8)])
    lines = [path.read_text().split()[0] for path in tmp_path.glob("trials/**/processes.txt")]
    assert len(lines) == 16 and ledger.finished
    assert len(set(lines)) <= 4


def test_a_halted_run_is_continued_under_the_same_numbers(ray_cluster, tmp_path):
    halt, recorder = threading.Event(), MemoryRecorder()
    plans = [behaving("", 1, trials=4, warmth=1.0)]

    class HaltInTheMiddle:
        def __getattr__(self, name):
            return lambda *said: halt.set() if name == "epoch" and said[1]["number"] == 4 else None

    ledger = Ledger(plans, open_storage(tmp_path), recorder, HaltInTheMiddle())
    options = {"fit_factory": "engine_fakes:FakeFit"}
    began = time.monotonic()
    assert run_ledger(ledger, sweep_folder=tmp_path, protocol={}, data={1: [1]}, halt=halt, **options) is False
    assert time.monotonic() - began < 30
    assert "RUNNING" in states(ledger)[1]
    running = states(ledger)[1].count("RUNNING")
    ledger, _, done = run(tmp_path, plans, recorder)
    assert done and states(ledger)[1] == ["COMPLETE"] * 4
    assert sum(trial.user_attrs["attempts"] == 2 for trial in ledger.studies[0].trials) == running
    starts = [int(line.split()[1]) for p in tmp_path.glob("trials/**/processes.txt") for line in p.read_text().splitlines()]
    assert max(starts) >= 3  # at least one of them went on from its checkpoint


def test_what_no_machine_has_is_refused_before_the_start(ray_cluster, tmp_path):
    with pytest.raises(ResourceError, match=r"there is: .* CPU"):
        run(tmp_path, [behaving("", 1, shape=Shape(4096, 0))])


def test_a_storage_that_fails_stops_the_run_and_loses_nothing(ray_cluster, tmp_path):
    class Refusing(MemoryRecorder):
        left = 5

        def epochs(self, key, epochs):
            self.left -= 1
            if self.left == 0:
                raise RuntimeError("the record is gone")
            super().epochs(key, epochs)

    recorder = Refusing()
    plans = [behaving("", 1, trials=3)]
    with pytest.raises(RuntimeError, match="the record is gone"):
        run(tmp_path, plans, recorder)
    ledger, _, done = run(tmp_path, plans, recorder)
    assert done and states(ledger)[1] == ["COMPLETE"] * 3


def test_a_breakdown_of_tune_costs_an_attempt_and_nothing_else(ray_cluster, tmp_path, monkeypatch):
    from benchbed.engine import run as module

    real, calls = module._fit, []

    def breaks_down_once(bridge, work, scratch):
        calls.append(bridge.ledger.in_flight)
        if len(calls) == 1:
            bridge.suggest("token")
            raise KeyError("an idle actor died")
        real(bridge, work, scratch)

    monkeypatch.setattr(module, "_fit", breaks_down_once)
    ledger, recorder, done = run(tmp_path, [behaving("", 1, trials=2)])
    assert done and calls == [0, 0] and states(ledger)[1] == ["COMPLETE"] * 2
    assert [trial.user_attrs["attempts"] for trial in ledger.studies[0].trials] == [2, 1]
    assert len(recorder.runs) == 2


def test_a_tune_that_never_gets_anywhere_ends_the_sweep(ray_cluster, tmp_path, monkeypatch):
    from benchbed.engine import run as module
    from benchbed.errors import SweepError

    monkeypatch.setattr(module, "_fit", lambda bridge, work, scratch: bridge.suggest("token"))
    with pytest.raises(SweepError, match="without finishing a trial"):
        run(tmp_path, [behaving("", 1)])
