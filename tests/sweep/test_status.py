from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "search"))

from search_fakes import MemoryRecorder, fake_models, plan, rows

from benchbed.search.counts import Counts
from benchbed.search.ledger import Ledger
from benchbed.search.storage import journal_path, open_storage
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.lease import Lease
from benchbed.sweep.stages import SweepOutcome
from benchbed.sweep.status import SweepStatus, read_status
from benchbed.workspace import Workspace

BENCHMARK = Benchmark.model_validate(
    {
        "name": "mine",
        "dataset": "bazaar",
        "split": {"kind": "leave_one_out"},
        "evaluation": {"seen_items": "exclude"},
        "models": ["ease"],
    }
)


def counts(**changes) -> Counts:
    return Counts(**({"study": "s", "stage": "search", "model": "ease", "split_seed": 1, "budget": 3} | changes))


def test_the_status_of_a_sweep_that_never_started(tmp_path):
    found = read_status(BENCHMARK, Workspace(tmp_path))
    assert found.summary() == "not started" and not found.finished and found.studies == ()
    assert json.loads(json.dumps(found.to_json()))["running"] is None


def test_the_status_of_a_running_sweep_is_read_without_touching_it(tmp_path):
    workspace = Workspace(tmp_path)
    folder = workspace.sweep("mine")
    with Lease(folder), fake_models():
        ledger = Ledger([plan(trials=4)], open_storage(folder), MemoryRecorder())
        for token, values, last in (("a", [0.2], True), ("b", [0.1, float("nan")], False), ("c", [0.4], False)):
            ledger.next(token)
            ledger.epochs(token, rows(*values), last=last)
        study = ledger.studies[0].name
        told = {"study": study, "stage": "search", "model": "fake", "split_seed": 42, "budget": 4}
        planned = {"study": "final/x", "stage": "final", "model": "fake", "split_seed": 42, "budget": 3}
        (folder / "sweep.json").write_text(json.dumps({"sweep": "mine-1", "studies": [told, planned]}))
        before = journal_path(folder).read_bytes()
        found = read_status(BENCHMARK, workspace)
        assert journal_path(folder).read_bytes() == before
    first, second = found.studies
    assert (first.complete, first.pruned, first.failed, first.running, first.spent) == (1, 1, 0, 1, 2)
    assert (first.best_number, first.best_value) == (0, 0.2)
    assert (second.spent, second.budget) == (0, 3)
    assert found.summary().startswith("run by ") and "2 of 7 trials" in found.summary()
    assert json.loads(json.dumps(found.to_json()))["studies"][0]["spent"] == 2
    assert "benchbed sweep mine continues it" in read_status(BENCHMARK, workspace).summary()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"counts": (counts(complete=3),)}, 0),
        ({"counts": (counts(complete=2, failed=1),)}, 1),
        ({"counts": (counts(complete=3),), "untested": ("ease",)}, 1),
        ({"counts": (counts(complete=1, failed=1),), "interrupted": True}, 3),
    ],
)
def test_exit_codes(changes, code):
    assert SweepOutcome("mine", "mine-1", **changes).exit_code == code


@pytest.mark.parametrize(
    ("studies", "finished", "said"),
    [
        ([counts(complete=2, failed=1)], False, "continues it"),
        ([counts(complete=3), counts(stage="final", budget=1, complete=1)], True, "finished, 4 trials"),
        (
            [counts(complete=3), counts(stage="final", budget=2, complete=1)],
            False,
            "benchbed sweep here/mine.yaml continues it",
        ),
        ([counts(complete=3), counts(model="b", complete=3), counts(stage="final", complete=3)], False, "continues it"),
        ([counts(complete=3), counts(model="b", failed=3), counts(stage="final", complete=3)], True, "finished, 9 trials"),
        ([counts(failed=3)], True, "none of them gave a result"),
        ([counts(complete=9), counts(model="b", complete=1), counts(stage="final", complete=3)], False, "continues it"),
    ],
)
def test_a_sweep_is_finished_when_what_was_found_is_tested(studies, finished, said):
    status = SweepStatus("mine", "mine-1", None, tuple(studies))
    assert status.finished is finished and said in status.summary("here/mine.yaml")


def test_the_summary_gives_the_recorded_reason():
    text = SweepOutcome("mine", "mine-1", untested=("gru4rec (nan)",)).summary()
    assert "Without a test result: gru4rec (nan)" in text and "error.txt" not in text
