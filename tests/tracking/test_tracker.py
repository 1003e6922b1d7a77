import math
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from made_up_sweep import Key, MadeUpSweep, Model, home_with_store

from benchbed.errors import TrackingError
from benchbed.tracking.outbox import Outbox, Sent
from benchbed.tracking.reading import read_cases, read_sweep, send_outstanding, store_uri, sweeps_of
from benchbed.tracking.sender import Sender
from benchbed.tracking.store import check_store
from benchbed.tracking.tracker import Tracker
from benchbed.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
SMALL = [Model("gru4rec", trials=3, failed_trials=1), Model("ease", trials=2, baseline=True, counting=True)]


@pytest.fixture
def store_home(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return home_with_store(tmp_path / "home")


def small(**changes):
    return MadeUpSweep(list(SMALL), epochs=3, users=20, seeds=(1, 2), **changes)


def played(workspace, sweep, folder, uri=None):
    tracker = Tracker(workspace.sweep(sweep.name), workspace, uri)
    sweep.play(tracker, folder)
    return tracker


def runs_of(workspace, name="made-up"):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(store_uri(workspace))
    return list(client.search_runs([client.get_experiment_by_name(name).experiment_id], max_results=1000))


def contents(workspace, name="made-up"):
    """Everything in the store by key, without what MLflow makes up itself."""
    from mlflow.tracking import MlflowClient

    client, found = MlflowClient(store_uri(workspace)), {}
    for run in runs_of(workspace, name):
        key = run.data.tags["benchbed.key"]
        assert key not in found, f"two runs for {key}"
        tags = {k: v for k, v in run.data.tags.items() if k.startswith("benchbed.")}
        points = {
            m: sorted((p.step, p.timestamp, repr(p.value)) for p in client.get_metric_history(run.info.run_id, m))
            for m in run.data.metrics
        }
        found[key] = (run.info.status, tags, run.data.params, points)
    return found


def test_what_was_told_is_what_is_read(store_home, tmp_path):
    sweep = MadeUpSweep([Model("gru4rec", trials=6, failed_trials=1), Model("mkr", trials=4)], users=20, seeds=(1, 2), epochs=6)
    told = {}
    for call, *arguments in sweep.steps(tmp_path):
        if call in ("opened", "epochs", "closed"):
            key, *rest = arguments
            one = told.setdefault(f"{key.study}/{key.number}", {"epochs": []})
            if call == "opened":
                one["opened"] = rest[0]
            elif call == "epochs":
                one["epochs"] += rest[0]
            else:
                one["state"], one["closed"] = rest
    tracker = played(store_home, sweep, tmp_path)
    assert tracker.close(120) and tracker.refused == []
    record = read_sweep(store_uri(store_home), "made-up")
    assert record.finished and record.facts == sweep.facts() and record.benchmark == sweep.facts()["benchmark"]
    runs = {run.key: run for run in (*record.trials, *record.finals)}
    assert runs.keys() == told.keys()
    for key, one in told.items():
        run = runs[key]
        assert run.opened == one["opened"] and run.closed == one["closed"] and run.state == one["state"]
        assert [(e.number, e.value, e.seconds) for e in run.epochs] == [
            (e["number"], e["value"], e["seconds"]) for e in one["epochs"]
        ]
        assert run.test == pytest.approx(one["closed"].get("test", {}), abs=0)
        assert run.stage == one["opened"]["stage"] and run.parameters == one["opened"]["parameters"]
    final = record.finals[0]
    assert list(read_cases(record.uri, final, ["user", "ndcg@20"]).columns) == ["user", "ndcg@20"]
    assert read_cases(record.uri, final)["ndcg@20"].mean() == pytest.approx(final.test["ndcg@20"])
    assert len(record.notes["openings"]["user_disjoint-42"]) == len(record.finals)


def test_statuses_say_what_happened_and_nothing_is_left_running(store_home, tmp_path):
    models = [Model("gru4rec", trials=9, failed_trials=1), Model("mkr", trials=2, failed_seed=1)]
    sweep = MadeUpSweep(models, epochs=5, users=20, seeds=(1,), finished=False)
    tracker = played(store_home, sweep, tmp_path)
    tracker.opened(Key("search/gru4rec/s42/1f2e3d", 99), {"stage": "search", "model": "gru4rec"})
    tracker.note({"finished": True})
    assert tracker.close(120)
    seen = Counter(
        (r.data.tags["benchbed.kind"], r.data.tags.get("benchbed.state"), r.info.status) for r in runs_of(store_home)
    )
    assert set(seen) == {
        ("trial", "COMPLETE", "FINISHED"),
        ("trial", "PRUNED", "KILLED"),
        ("trial", "FAIL", "FAILED"),
        ("trial", None, "KILLED"),
        ("final", "COMPLETE", "FINISHED"),
        ("final", "FAIL", "FAILED"),
        ("model", None, "FINISHED"),
        ("model", None, "FAILED"),
    }
    by_key = {r.data.tags["benchbed.key"]: r for r in runs_of(store_home)}
    assert by_key["sweep s1/mkr"].info.status == "FAILED"
    failed = next(r for r in by_key.values() if r.info.status == "FAILED" and r.data.tags["benchbed.kind"] == "trial")
    assert failed.data.tags["benchbed.reason"] == "nan at the first epoch"
    for run in by_key.values():
        if run.data.tags["benchbed.kind"] != "model":
            parent = by_key[f"sweep s1/{run.data.tags['benchbed.model']}"]
            assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    trial = next(r for r in by_key.values() if r.data.tags["benchbed.kind"] == "trial" and r.info.status == "FINISHED")
    assert set(trial.data.params) == {"dim", "lr"} and "valid_ndcg_at_20" in trial.data.metrics


def test_an_interrupted_sweep_goes_on_in_the_same_runs(store_home, tmp_path):
    sweep = small()
    steps = list(sweep.steps(tmp_path))
    cut = next(i for i, step in enumerate(steps) if step[0] == "epochs") + 1
    first = Tracker(store_home.sweep("made-up"), store_home)
    for call, *arguments in steps[:cut]:
        getattr(first, call)(*arguments)
    assert first.close(60)
    open_runs = {r.data.tags["benchbed.key"]: r.info.run_id for r in runs_of(store_home)}
    assert {r.info.status for r in runs_of(store_home)} == {"RUNNING"}
    second = Tracker(store_home.sweep("made-up"), store_home)
    assert second.known() == first.known()
    for call, *arguments in steps:  # all of it again: what is known is ignored
        getattr(second, call)(*arguments)
    assert second.close(60)
    after = {r.data.tags["benchbed.key"]: r for r in runs_of(store_home)}
    assert {key: after[key].info.run_id for key in open_runs} == open_runs
    assert "RUNNING" not in {run.info.status for run in after.values()}
    trial = read_sweep(store_uri(store_home), "made-up").trials[0]
    assert [epoch.number for epoch in trial.epochs] == list(range(1, len(trial.epochs) + 1))


def test_a_finished_sweep_can_be_continued_and_finished_again(store_home, tmp_path):
    sweep = small()
    assert played(store_home, sweep, tmp_path).close(60)
    more = Tracker(store_home.sweep("made-up"), store_home)
    more.start(sweep.facts())
    key = Key("search/gru4rec/s42/1f2e3d", 3)
    more.opened(key, {"stage": "search", "model": "gru4rec", "split_seed": 42})
    assert more.close(60)
    assert not read_sweep(store_uri(store_home), "made-up").finished
    last = Tracker(store_home.sweep("made-up"), store_home)
    last.start(sweep.facts())
    last.closed(key, "COMPLETE", {"value": 0.5})
    last.note({"finished": True})
    assert last.close(60)
    record = read_sweep(store_uri(store_home), "made-up")
    assert record.finished and record.trials[-1].value == 0.5
    assert {r.info.status for r in runs_of(store_home)} == {"FINISHED", "FAILED"}


@pytest.mark.parametrize("forget", ["everything", "half"])
def test_sending_again_after_a_crash_changes_nothing(store_home, tmp_path, forget):
    sweep = small()
    assert played(store_home, sweep, tmp_path).close(60)
    before = contents(store_home)
    outbox = Outbox(store_home.sweep("made-up"), writable=False)
    ends = [record.end for record in outbox.read()]
    outbox.mark_sent(Sent(0 if forget == "everything" else ends[len(ends) // 2], store_uri(store_home)))
    assert send_outstanding(store_home.sweep("made-up"), store_home) == 0
    assert contents(store_home) == before


def test_a_crash_anywhere_in_a_batch_makes_no_second_run(store_home, tmp_path, monkeypatch):
    tracker = Tracker(store_home.sweep("made-up"), store_home, "http://127.0.0.1:9")
    small().play(tracker, tmp_path)
    tracker.close(0.01)
    outbox = Outbox(store_home.sweep("made-up"), writable=False)
    from mlflow.tracking import MlflowClient

    crash_at = {"create_run": 4, "log_batch": 2, "set_terminated": 3, "log_artifact": 5}
    left = dict(crash_at)
    for name in crash_at:
        original = getattr(MlflowClient, name)

        def dying(self, *arguments, _name=name, _original=original, **named):
            done = _original(self, *arguments, **named)
            left[_name] -= 1
            if left[_name] == 0:
                raise RuntimeError("the line went dead after the store had written")
            return done

        monkeypatch.setattr(MlflowClient, name, dying)
    crashes = 0
    for _ in range(20):
        try:
            while Sender(outbox, store_home, store_uri(store_home)).send(7):
                pass
            break
        except RuntimeError:
            crashes += 1
    assert crashes == len(crash_at)
    monkeypatch.undo()
    dirty = contents(store_home)
    clean_home = Workspace.open(tmp_path / "clean")
    Path(clean_home.sweep("made-up")).mkdir(parents=True)
    (clean_home.sweep("made-up") / "outbox.jsonl").write_bytes(outbox.path.read_bytes())
    assert send_outstanding(clean_home.sweep("made-up"), clean_home) == 0
    assert contents(clean_home) == dirty


def test_a_server_that_is_away_costs_nothing_and_is_told_later(store_home, tmp_path):
    began = time.monotonic()
    tracker = played(store_home, small(), tmp_path, "http://127.0.0.1:9")
    told = time.monotonic() - began
    assert not tracker.close(5)
    assert told < 3 and time.monotonic() - began < 20
    assert tracker.unsent > 10 and tracker.trouble == "http://127.0.0.1:9 does not answer"
    assert send_outstanding(store_home.sweep("made-up"), store_home) == 0
    assert read_sweep(store_uri(store_home), "made-up").finished


def test_a_store_that_was_lost_is_filled_again(store_home, tmp_path):
    assert played(store_home, small(), tmp_path).close(60)
    before = contents(store_home)
    for path in store_home.root.glob("mlflow.db*"):
        path.unlink()
    assert send_outstanding(store_home.sweep("made-up"), store_home) == 0
    assert contents(store_home) == before


def test_another_store_receives_the_whole_history(store_home, tmp_path, monkeypatch):
    assert played(store_home, small(), tmp_path).close(60)
    other = f"sqlite:///{home_with_store(tmp_path / 'other').mlflow_database}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    assert store_uri(store_home) == other
    assert send_outstanding(store_home.sweep("made-up"), store_home) == 0
    assert len(read_sweep(other, "made-up").trials) == len(
        read_sweep(f"sqlite:///{store_home.mlflow_database}", "made-up").trials
    )


def test_a_run_deleted_in_the_ui_stays_deleted_and_stops_nobody(store_home, tmp_path):
    from mlflow.tracking import MlflowClient

    assert played(store_home, small(), tmp_path).close(60)
    victim = runs_of(store_home)[0]
    MlflowClient(store_uri(store_home)).delete_run(victim.info.run_id)
    outbox = Outbox(store_home.sweep("made-up"), writable=False)
    outbox.mark_sent(Sent(0, store_uri(store_home)))
    assert send_outstanding(store_home.sweep("made-up"), store_home) == 0
    assert victim.data.tags["benchbed.key"] not in contents(store_home)


def test_nan_and_infinite_values_come_back_as_they_were(store_home, tmp_path):
    tracker = Tracker(store_home.sweep("made-up"), store_home)
    tracker.start(small().facts())
    key = Key("search/gru4rec/s42/1f2e3d", 0)
    tracker.opened(key, {"stage": "final", "model": "gru4rec", "seed": 1})
    values = [0.5, math.nan, math.inf, -math.inf]
    tracker.epochs(key, [{"number": n + 1, "value": v, "loss": math.nan} for n, v in enumerate(values)])
    tracker.closed(key, "COMPLETE", {"value": 0.5, "test": {"ndcg@20": math.nan, "recall@20": 0.25}})
    assert tracker.close(60)
    run = read_sweep(store_uri(store_home), "made-up").finals[0]
    assert [repr(epoch.value) for epoch in run.epochs] == [repr(v) for v in values]
    assert math.isnan(run.test["ndcg@20"]) and run.test["recall@20"] == 0.25


def test_known_is_what_the_ledger_needs_to_reconcile(store_home, tmp_path):
    tracker = Tracker(store_home.sweep("made-up"), store_home, "http://127.0.0.1:9")
    tracker.start(small().facts())
    one, two = Key("search/a/s42/ff", 0), Key("search/a/s42/ff", 1)
    for _ in range(2):
        tracker.opened(one, {"stage": "search", "model": "gru4rec"})
        tracker.epochs(one, [{"number": 1, "value": 0.1}, {"number": 2, "value": 0.2}])
        tracker.epochs(one, [{"number": 2, "value": 0.2}, {"number": 3, "value": 0.3}])
        tracker.closed(one, "PRUNED", {"value": 0.3})
    tracker.opened(two, {"stage": "search", "model": "gru4rec"})
    expected = {
        "search/a/s42/ff/0": {"state": "PRUNED", "value": 0.3, "steps": [1, 2, 3]},
        "search/a/s42/ff/1": {"state": "RUNNING", "value": None, "steps": []},
    }
    tracker.close(0.01)
    assert tracker.known() == expected
    assert Tracker(store_home.sweep("made-up"), store_home).known() == expected
    kinds = Counter(record.kind for record in Outbox(store_home.sweep("made-up"), writable=False).read())
    assert kinds == {"sweep": 1, "opened": 2, "epochs": 2, "closed": 1}


def test_long_facts_become_files(store_home, tmp_path):
    tracker = Tracker(store_home.sweep("made-up"), store_home)
    tracker.start(small().facts())
    key = Key("search/gru4rec/s42/1f2e3d", 0)
    facts = {"stage": "search", "model": "gru4rec", "parameters": {"layers": {"sizes": list(range(3000))}}}
    tracker.opened(key, facts)
    tracker.closed(key, "FAIL", {"reason": "x" * 20000})
    assert tracker.close(60) and tracker.refused == []
    run = read_sweep(store_uri(store_home), "made-up").trials[0]
    assert run.opened == facts and run.closed == {"reason": "x" * 20000}


def test_nothing_is_recorded_before_the_start(store_home):
    with pytest.raises(TrackingError, match="not started"):
        Tracker(store_home.sweep("made-up"), store_home).note({})


def test_the_console_stays_quiet_from_the_first_use_of_a_store_on(tmp_path):
    workspace = Workspace.open(tmp_path / "fresh")
    script = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from pathlib import Path
from made_up_sweep import MadeUpSweep, Model
from benchbed.tracking.store import check_store
from benchbed.tracking.tracker import Tracker
from benchbed.workspace import Workspace
home = Workspace.open({str(workspace.root)!r})
tracker = Tracker(home.sweep("made-up"), home)
MadeUpSweep([Model("ease", trials=1, counting=True)], users=10, seeds=(1,)).play(tracker, Path({str(tmp_path)!r}))
assert tracker.close(60)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with sqlite3.connect(workspace.mlflow_database) as store:
        assert store.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_sweeps_are_kept_apart_and_the_newest_is_read(store_home, tmp_path):
    assert played(store_home, small(sweep="old", protocol_fingerprint="aa" * 32), tmp_path).close(60)
    changed = small(sweep="new", protocol_fingerprint="bb" * 32)
    tracker = Tracker(store_home.sweep("made-up"), store_home)
    for call, *arguments in changed.steps(tmp_path):
        if call in ("opened", "epochs", "closed"):
            arguments[0] = Key(arguments[0].study + "-new", arguments[0].number)
        getattr(tracker, call)(*arguments)
    assert tracker.close(60)
    assert sweeps_of(store_uri(store_home), "made-up") == ["old", "new"]
    record = read_sweep(store_uri(store_home), "made-up")
    assert record.sweep == "new" and record.others == ("old",)
    assert all(run.study.endswith("-new") for run in (*record.trials, *record.finals))
    old = read_sweep(store_uri(store_home), "made-up", "old")
    assert not any(run.study.endswith("-new") for run in (*old.trials, *old.finals)) and len(old.trials) == len(record.trials)


def test_of_two_studies_of_one_model_the_newest_or_the_named_one_counts(store_home, tmp_path):
    tracker = played(store_home, small(finished=False), tmp_path)
    for number in range(2):
        key = Key("search/gru4rec/s42/another", number)
        tracker.opened(key, {"stage": "search", "model": "gru4rec", "split_seed": 42})
        tracker.closed(key, "COMPLETE", {"value": 0.9})
    assert tracker.close(60)
    studies = {run.study for run in read_sweep(store_uri(store_home), "made-up").trials if run.model == "gru4rec"}
    assert studies == {"search/gru4rec/s42/another"}
    again = Tracker(store_home.sweep("made-up"), store_home)
    again.start(small().facts())
    again.note({"studies": {"gru4rec": ["search/gru4rec/s42/1f2e3d"]}})
    assert again.close(60)
    record = read_sweep(store_uri(store_home), "made-up")
    assert {run.study for run in record.trials if run.model == "gru4rec"} == {"search/gru4rec/s42/1f2e3d"}
    assert any(run.model == "ease" for run in record.trials) and any(run.model == "gru4rec" for run in record.finals)


def test_two_workspaces_ask_the_same_question_of_one_store(store_home, tmp_path):
    uri = store_uri(store_home)
    for name, rate in (("first", 0.1), ("second", 0.2)):
        home = Workspace.open(tmp_path / name)
        tracker = Tracker(home.sweep("made-up"), home, uri)
        tracker.start(MadeUpSweep([Model("ease", trials=1)]).facts())
        key = Key("search/ease/s42/1f2e3d", 1)
        tracker.opened(key, {"stage": "search", "model": "ease", "split_seed": 42, "seed": 0, "parameters": {"rate": rate}})
        tracker.epochs(key, [{"number": 1, "value": rate}])
        tracker.closed(key, "COMPLETE", {"value": rate})
        assert tracker.close(60), tracker.trouble
        (run,) = read_sweep(uri, "made-up").trials
        assert (run.value, run.parameters, len(run.epochs)) == (rate, {"rate": rate}, 1)


def test_what_is_not_there_is_told_with_advice(store_home, tmp_path):
    with pytest.raises(TrackingError, match="no store"):
        read_sweep(store_uri(Workspace.open(tmp_path / "nothing")), "made-up")
    assert played(store_home, small(), tmp_path).close(60)
    with pytest.raises(TrackingError, match=r"no results of a benchmark 'made-upp'[\s\S]*Did you mean 'made-up'"):
        read_sweep(store_uri(store_home), "made-upp")
    with pytest.raises(TrackingError, match=r"no sweep 'x'[\s\S]*Known: s1"):
        read_sweep(store_uri(store_home), "made-up", "x")
    with pytest.raises(TrackingError, match="cannot be read"):
        read_sweep("http://127.0.0.1:9", "made-up")
    assert send_outstanding(store_home.sweep("none"), store_home) == 0


@pytest.mark.parametrize("uri", ["http://127.0.0.1:1", "postgresql+psycopg2://nobody@127.0.0.1:1/none", "databricks"])
def test_a_store_that_is_only_away_is_no_mistake(uri):
    check_store(uri)


@pytest.mark.parametrize("where", ["gathered", "at once"])
def test_a_record_that_is_refused_for_good_is_named_and_holds_up_no_other(store_home, tmp_path, monkeypatch, where):
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
    from mlflow.tracking import MlflowClient

    real, end = MlflowClient.log_batch, MlflowClient.set_terminated

    def log_batch(self, run_id, metrics=(), params=(), tags=(), **more):
        if where == "gathered" and any(metric.step == 2 and metric.key == "loss" for metric in metrics):
            raise MlflowException("no such value", error_code=INVALID_PARAMETER_VALUE)
        return real(self, run_id, metrics, params, tags, **more)

    def set_terminated(self, run_id, status=None, end_time=None):
        if where == "at once" and status == "FAILED":
            raise MlflowException("no such value", error_code=INVALID_PARAMETER_VALUE)
        return end(self, run_id, status, end_time)

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    monkeypatch.setattr(MlflowClient, "set_terminated", set_terminated)
    tracker = Tracker(store_home.sweep("made-up"), store_home)
    tracker.start(small().facts())
    for number in (0, 1):
        key = Key("search/gru4rec/s42/1f", number)
        tracker.opened(key, {"stage": "search", "model": "gru4rec", "parameters": {"dim": 8}})
        for step in (1, 2, 3) if number == 0 else (1,):
            tracker.epochs(key, [{"number": step, "value": 0.5, "metrics": {}, "loss": 1.0}])
        tracker.closed(key, "FAIL" if number == 0 else "COMPLETE", {"value": 0.5, "reason": "max_epochs"})
    assert tracker.close(60) and tracker.unsent == 0
    assert len(tracker.refused) == 1 and "no such value" in tracker.refused[0]
    assert ("(epochs)" if where == "gathered" else "(closed)") in tracker.refused[0]
    runs = {run.data.tags["benchbed.key"]: run for run in runs_of(store_home)}
    assert runs["search/gru4rec/s42/1f/1"].info.status == "FINISHED"
    assert runs["search/gru4rec/s42/1f/0"].data.metrics["loss"] == 1.0


def test_reasons_of_a_study_are_those_of_failed_trials_first(store_home):
    tracker = Tracker(store_home.sweep("made-up"), store_home, "http://127.0.0.1:1")
    tracker.start(small().facts())
    ends = [("FAIL", "nan", None), ("FAIL", "nan", None), ("FAIL", "error", "ValueError: x"), ("PRUNED", "pruned", None)]
    for number, (state, reason, message) in enumerate(ends):
        tracker.opened(Key("search/a/s1/f", number), {"model": "a"})
        tracker.closed(Key("search/a/s1/f", number), state, {"reason": reason, "message": message})
    assert tracker.reasons("search/a/s1/f") == ["nan", "error: ValueError: x"] and tracker.reasons("search/a/s1") == []
    tracker.close(0.1)
