"""The driver is killed, again and again, and the same command goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchbed.search.storage import read_storage

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

BUDGETS = {("search", "fake"): 4, ("search", "other"): 4, ("search", "counting"): 3, ("final", "fake"): 2,
           ("final", "other"): 2, ("final", "counting"): 1}  # fmt: skip


@contextmanager
def driving(folder: Path, *words: str):
    """A driver process, which is dead when the block ends."""
    command = [sys.executable, str(HERE / "driver.py"), str(folder / "ws"), *words]
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def studies(folder: Path):
    storage = read_storage(folder / "ws" / "sweeps" / "crash")
    return [] if storage is None else storage.get_all_studies(), storage


def trials(folder: Path) -> dict[str, list]:
    found, storage = studies(folder)
    return {study.study_name: storage.get_all_trials(study._study_id, deepcopy=False) for study in found}


def wait_until(folder: Path, process: subprocess.Popen, reached, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not reached(trials(folder)):
        log = (folder / "log.txt").read_text()
        assert process.poll() is None, f"the driver ended before the moment came: {log}"
        assert time.monotonic() < until, f"the moment never came: {log}"
        time.sleep(0.1)


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "ws/sweeps/crash/outbox.jsonl").read_text().splitlines()]


def check_complete(folder: Path) -> None:
    found = trials(folder)
    assert Counter(name.rpartition("/")[0] for name in found) == {
        f"{stage}/{model}/s{seed}": 1 for stage, model in BUDGETS for seed in (1,)
    }
    told = records(folder)
    opened = Counter(record["body"]["key"] for record in told if record["kind"] == "opened")
    assert set(opened.values()) == {1}
    steps: dict[str, list[int]] = {}
    for record in told:
        if record["kind"] == "epochs":
            steps.setdefault(record["body"]["key"], []).extend(epoch["number"] for epoch in record["body"]["epochs"])
    closed = {record["body"]["key"]: record["body"]["state"] for record in told if record["kind"] == "closed"}
    for name, there in found.items():
        stage, model, *_ = name.split("/")
        assert len(there) == BUDGETS[stage, model], name
        for trial in there:
            assert trial.state.is_finished() and trial.state.name != "FAIL"
            mine = list(trial.intermediate_values)
            key = f"{name}/{trial.number}"
            assert mine == list(range(1, len(mine) + 1)) == steps[key]
            assert closed[key] == trial.state.name
    assert len(opened) == sum(len(there) for there in found.values())
    for split in (folder / "ws/data/small/splits").iterdir():
        openings = (split / "openings.txt").read_text().splitlines()
        assert sorted(line.rsplit(" ", 1)[0] for line in openings) == [
            "counting 7", "fake 7", "fake 8", "other 7", "other 8",
        ]  # fmt: skip
    assert told[-1]["body"]["facts"]["finished"] is True


def some_epochs(found: dict[str, list]) -> bool:
    return sum(len(trial.intermediate_values) for there in found.values() for trial in there) >= 3


def half_way(found: dict[str, list]) -> bool:
    return sum(trial.state.is_finished() for there in found.values() for trial in there) > 5


def final_stage(found: dict[str, list]) -> bool:
    return any(name.startswith("final/") and there and there[0].intermediate_values for name, there in found.items())


@pytest.mark.timeout(600)
def test_a_driver_killed_at_three_moments_goes_on_as_if_nothing_had_been(tmp_path):
    from driver import lay_out

    lay_out(tmp_path)
    finished: dict[str, str] = {}
    for reached in (some_epochs, half_way, final_stage):
        with driving(tmp_path) as process:
            wait_until(tmp_path, process, reached)
            if reached is some_epochs:
                second = subprocess.run(
                    [sys.executable, str(HERE / "driver.py"), str(tmp_path / "ws")],
                    cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
                )  # fmt: skip
                assert second.returncode == 2 and f"(process {process.pid})" in second.stdout
            process.kill()
            process.wait()
        now = {f"{n}/{t.number}": str(t.datetime_complete) for n, there in trials(tmp_path).items() for t in there}
        assert {key: at for key, at in now.items() if key in finished} == finished
        finished = {key: at for key, at in now.items() if at != "None"}
    with driving(tmp_path) as process:
        assert process.wait(240) == 0, (tmp_path / "log.txt").read_text()
    check_complete(tmp_path)
    before = (tmp_path / "ws/sweeps/crash/search.journal").read_bytes()
    with driving(tmp_path) as process:
        assert process.wait(100) == 0
    assert (tmp_path / "ws/sweeps/crash/search.journal").read_bytes() == before


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_driver_in_order(tmp_path, number):
    from driver import lay_out

    lay_out(tmp_path)
    with driving(tmp_path) as process:
        wait_until(tmp_path, process, some_epochs)
        process.send_signal(number)
        assert process.wait(60) == 3
    assert "The same command continues" in (tmp_path / "log.txt").read_text()
    assert not (tmp_path / "ws/sweeps/crash/lease.json").exists()
    with driving(tmp_path) as process:
        assert process.wait(240) == 0, (tmp_path / "log.txt").read_text()
    check_complete(tmp_path)
