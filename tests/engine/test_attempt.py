from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchbed.engine.attempt import Attempt, TrialError, attempt_folder, hung_stacks, tidy, trial_folder
from benchbed.search.assignment import Assignment, Shape


def assignment(**changes) -> Assignment:
    values = {
        "study": "search/fake/s1/abc",
        "number": 3,
        "attempt": 1,
        "stage": "search",
        "model": "fake",
        "split_seed": 1,
        "parameters": {"rate": 0.5},
        "seed": 0,
        "max_epochs": 3,
        "patience": None,
        "seconds": None,
        "shape": Shape(),
    }
    return Assignment(**(values | changes))


def attempt(folder: Path, given: Assignment, hang_after: float | None = None) -> Attempt:
    return Attempt(
        given,
        folder,
        data=SimpleNamespace(fingerprint="of the training data"),
        protocol={"seen_items": "exclude"},
        device="cpu",
        fit_factory="engine_fakes:FakeFit",
        vault="engine_fakes:open_fake_vault",
        hang_after=hang_after,
    )


def numbers(report: dict) -> list[int]:
    return [row["number"] for row in report["rows"]]


def test_an_assignment_survives_the_way_to_the_actor():
    given = assignment(shape=Shape(2, 0.5))
    assert Assignment.from_json(json.loads(json.dumps(given.to_json()))) == given


def test_one_epoch_a_step_until_the_last(tmp_path):
    running = attempt(tmp_path, assignment())
    reports = [running.step() for _ in range(3)]
    assert [numbers(r) for r in reports] == [[1], [2], [3]]
    assert [r["last"] for r in reports] == [False, False, True]
    assert reports[-1]["facts"] == {"parameters": 7, "peak_memory_mb": 1.0, "finished": "max_epochs"}


def test_the_next_attempt_continues_in_a_folder_of_its_own_and_sends_the_whole_history(tmp_path):
    first = attempt(tmp_path, assignment())
    first.step(), first.step()
    second = attempt(tmp_path, assignment(attempt=2))
    report = second.step()
    assert numbers(report) == [1, 2, 3] and report["last"]
    folder = trial_folder(tmp_path, "search/fake/s1/abc", 3)
    kept = {k: len(json.loads((attempt_folder(folder, k) / "state.json").read_text())["history"]) for k in (1, 2)}
    assert kept == {1: 2, 2: 3}


def test_an_attempt_that_left_nothing_readable_is_passed_over(tmp_path):
    first = attempt(tmp_path, assignment(max_epochs=4))
    first.step(), first.step()
    attempt(tmp_path, assignment(attempt=2, max_epochs=4)).step()
    folder = trial_folder(tmp_path, "search/fake/s1/abc", 3)
    (attempt_folder(folder, 2) / "state.json").write_text('{"hist')
    report = attempt(tmp_path, assignment(attempt=4, max_epochs=4)).step()
    assert numbers(report) == [1, 2, 3] and not report["last"]
    assert (folder / "processes.txt").read_text().split()[1::2] == ["0", "2", "2"]


def test_an_attempt_whose_trial_had_finished_only_reports(tmp_path):
    first = attempt(tmp_path, assignment())
    for _ in range(3):
        first.step()
    report = attempt(tmp_path, assignment(attempt=4)).step()
    assert numbers(report) == [1, 2, 3] and report["last"]


@pytest.mark.parametrize(("word", "kind"), [("error", "error"), ("refuse", "error"), ("memory", "out_of_memory")])
def test_what_the_model_raises_comes_back_in_words(tmp_path, word, kind):
    running = attempt(tmp_path, assignment(parameters={"behaviour": word}))
    with pytest.raises(TrialError) as caught:
        running.step()
    assert caught.value.kind == kind
    assert "engine_fakes.py" in caught.value.trace


def test_only_a_final_run_opens_the_vault_and_a_kept_result_is_not_made_again(tmp_path):
    vault = tmp_path / "split"
    vault.mkdir()
    search = attempt(tmp_path, assignment(max_epochs=1)).step()
    assert "test" not in search["facts"]
    given = assignment(study="final/fake/s1/abc", stage="final", max_epochs=1, split_folder=str(vault), sweep="s", seed=5)
    for number in (1, 2):
        report = attempt(tmp_path, Assignment.from_json({**given.to_json(), "attempt": number})).step()
        assert report["facts"]["test"] == {"ndcg@20": 0.5}
        assert report["facts"]["variety"]["curve"][0]["diversity@20"] == 0.5
        assert Path(report["facts"]["artifacts"]["cases"]).read_text() == "cases"
    assert (vault / "openings.txt").read_text() == "fake 5 s\n"


def test_a_final_run_that_diverges_is_tested_only_where_it_has_a_best_epoch(tmp_path):
    base = {"stage": "final", "split_folder": str(tmp_path), "sweep": "s"}
    late = attempt(tmp_path, assignment(study="final/a", parameters={"behaviour": "nan:2"}, **base))
    late.step()
    assert "test" in late.step()["facts"]
    early = attempt(tmp_path, assignment(study="final/b", parameters={"behaviour": "nan:1"}, **base)).step()
    assert early["last"] and "test" not in early["facts"]


def test_a_hung_step_ends_its_process_and_leaves_the_stacks(tmp_path):
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\nfrom test_attempt import assignment, attempt\n"
        "attempt(Path(sys.argv[1]), assignment(parameters={'behaviour': 'hang'}), hang_after=1.0).step()\n"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), here], timeout=60, check=False)
    assert done.returncode == 1
    stacks = hung_stacks(tmp_path, assignment())
    assert stacks is not None and "engine_fakes.py" in stacks
    attempt(tmp_path, assignment(number=4), hang_after=60).step()
    assert hung_stacks(tmp_path, assignment(number=4)) is None


def test_tidy_removes_weights_and_keeps_what_people_read(tmp_path):
    folder = trial_folder(tmp_path, "search/fake/s1/abc", 3)
    for number in (1, 2, 10):
        attempt_folder(folder, number).mkdir(parents=True)
    (folder / "error.txt").touch()
    tidy(tmp_path, "search/fake/s1/abc", 3, keep_newest=True)
    assert sorted(os.listdir(folder)) == ["attempt-10", "error.txt"]
    tidy(tmp_path, "search/fake/s1/abc", 3, keep_newest=False)
    assert os.listdir(folder) == ["error.txt"]


def test_a_trial_process_loads_neither_mlflow_nor_optuna(tmp_path):
    code = (
        "import sys, benchbed.engine.trainable, benchbed.engine.attempt\n"
        "print([name for name in ('mlflow', 'optuna') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
