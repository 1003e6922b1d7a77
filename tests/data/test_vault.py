from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from benchbed.data import vault
from benchbed.data.cases import Rules
from benchbed.data.load import load_training_data
from benchbed.data.prepare import prepare
from benchbed.data.split.make import PreparedSplit, split_dataset
from benchbed.data.split.spec import SplitSpec
from benchbed.data.vault import open_vault, read_openings
from benchbed.errors import DataError

from .conftest import make_card
from .test_prepare import random_log

RULES = Rules("exclude")


@pytest.fixture
def split_folder(prepared_log) -> Path:
    return split_dataset(prepared_log(random_log(0)), SplitSpec(kind="leave_one_out"), 0).folder


def opened(folder: Path, model: str = "ease", seed: int = 1, sweep: str = "s", fingerprint: str | None = None):
    made = PreparedSplit.open(folder).fingerprint if fingerprint is None else fingerprint
    return open_vault(folder, RULES, model=model, seed=seed, by={"host": "h", "pid": 1}, sweep=sweep, fingerprint=made)


def test_an_opening_is_on_record_before_the_test_is_read(split_folder, monkeypatch):
    def fails(folder: Path, part: str, **_: bool):
        assert (folder, part) == (split_folder, "test")
        assert [entry["model"] for entry in read_openings(split_folder)] == ["ease"]
        raise OSError("the disk fails here")

    monkeypatch.setattr(vault, "read_cases", fails)
    with pytest.raises(OSError, match="disk"):
        opened(split_folder)
    assert len(read_openings(split_folder)) == 1


def test_a_second_opening_for_the_same_run_is_marked(split_folder):
    for model, seed, sweep in (("ease", 1, "s"), ("ease", 2, "s"), ("ease", 1, "t"), ("ials", 1, "s"), ("ease", 1, "s")):
        opened(split_folder, model, seed, sweep)
    assert [entry["repeated"] for entry in read_openings(split_folder)] == [False, False, False, False, True]
    first = read_openings(split_folder)[0]
    assert set(first) == {"time", "sweep", "model", "seed", "by", "repeated"}
    assert first["by"] == {"host": "h", "pid": 1}


def test_a_line_cut_short_by_a_crash_hides_no_opening(split_folder):
    opened(split_folder)
    log = split_folder / "vault" / "openings.jsonl"
    log.write_text(log.read_text() + '{"time": "2026-')
    opened(split_folder, seed=2)
    opened(split_folder, seed=2)
    entries = read_openings(split_folder)
    assert [entry.get("repeated") for entry in entries] == [False, None, False, True]
    assert entries[1] == {"unreadable": '{"time": "2026-'}


def test_the_log_only_grows(split_folder):
    log = split_folder / "vault" / "openings.jsonl"
    before = ""
    for seed in range(3):
        opened(split_folder, seed=seed)
        assert log.read_text().startswith(before)
        before = log.read_text()
    assert [json.loads(line)["seed"] for line in before.splitlines()] == [0, 1, 2]


def _open_some(folder: Path, seed: int) -> int:
    return len(opened(folder, seed=seed % 3))


def test_openings_from_several_processes_are_all_kept(split_folder):
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        pool.starmap(_open_some, [(split_folder, n) for n in range(9)])
    entries = read_openings(split_folder)
    assert len(entries) == 9
    assert sum(entry["repeated"] for entry in entries) == 6


def test_unopened_and_absent_vaults(split_folder, tmp_path):
    assert read_openings(split_folder) == []
    with pytest.raises(DataError, match="No test cases"):
        opened(tmp_path, fingerprint="any")


def test_a_rebuild_of_the_same_data_forgets_no_opening(raw, workspace):
    (raw / "log.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in random_log(0)))
    for seed, limit in enumerate((0.01, 0.02, 0.03)):  # another limit prepares again, and gives the same rows
        prepared = prepare(make_card(max_rejected=limit), workspace, raw)
        folder = split_dataset(prepared, SplitSpec(kind="leave_one_out"), 0).folder
        opened(folder, seed=seed)
    assert [entry["seed"] for entry in read_openings(folder)] == [0, 1, 2]
    opened(folder, seed=0)
    assert read_openings(folder)[-1]["repeated"]


def test_the_vault_of_other_data_stays_shut_and_the_attempt_leaves_no_opening(raw, workspace):
    made, trained_on = [], []
    for rows in (random_log(0), random_log(1)):
        (raw / "log.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
        made.append(split_dataset(prepare(make_card(), workspace, raw), SplitSpec(kind="leave_one_out"), 0))
        trained_on.append(load_training_data(made[-1].folder, RULES).fingerprint)
    assert made[0].folder == made[1].folder
    with pytest.raises(DataError, match="not the one that ease was trained on"):
        opened(made[1].folder, fingerprint=trained_on[0])
    assert read_openings(made[1].folder) == []
    assert len(opened(made[1].folder, fingerprint=trained_on[1]))


def test_a_line_separator_within_a_text_ends_no_line_of_the_log(split_folder):
    for _ in range(2):
        opened(split_folder, sweep="a\u2028b\x85c")
    assert [(entry["sweep"], entry["repeated"]) for entry in read_openings(split_folder)] == [
        ("a\u2028b\x85c", False),
        ("a\u2028b\x85c", True),
    ]
