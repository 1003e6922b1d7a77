from __future__ import annotations

import errno
import os
import time

import optuna
import pytest

from benchbed.errors import SweepError
from benchbed.search.storage import journal_path, open_storage, persist, read_storage


def study_in(folder) -> optuna.Study:
    return optuna.create_study(study_name="s", storage=open_storage(folder), direction="maximize", load_if_exists=True)


@pytest.mark.parametrize("torn", [b'{"op_code":4,"worker', b"\0" * 70_000, b"}"])
def test_half_a_line_costs_nothing_but_itself(tmp_path, torn):
    study = study_in(tmp_path)
    study.tell(study.ask(), 1.0)
    with journal_path(tmp_path).open("ab") as file:
        file.write(torn)
    again = study_in(tmp_path)
    again.tell(again.ask(), 2.0)
    assert [t.value for t in study_in(tmp_path).trials] == [1.0, 2.0]


def test_a_lock_left_by_a_dead_driver_does_not_hold_up_the_next(tmp_path):
    study_in(tmp_path)
    os.symlink(journal_path(tmp_path), f"{journal_path(tmp_path)}.lock")
    started = time.monotonic()
    study_in(tmp_path).ask()
    assert time.monotonic() - started < 5


def test_reading_changes_nothing_and_sees_a_running_sweep(tmp_path):
    assert read_storage(tmp_path) is None
    study = study_in(tmp_path)
    study.ask()
    with journal_path(tmp_path).open("ab") as file:
        file.write(b'{"half')
    before = journal_path(tmp_path).read_bytes()
    seen = optuna.load_study(study_name="s", storage=read_storage(tmp_path))
    assert len(seen.trials) == 1
    assert journal_path(tmp_path).read_bytes() == before


def test_a_full_disk_is_waited_for(tmp_path, monkeypatch):
    study = study_in(tmp_path)
    real, failures = os.fsync, [1, 1]

    def full(handle):
        if failures:
            failures.pop()
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    study.tell(study.ask(), 1.0)
    assert not failures
    assert [t.value for t in study_in(tmp_path).trials] == [1.0]


def test_a_disk_that_stays_full_ends_the_sweep_with_advice():
    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(SweepError, match="goes on where it stopped"):
        persist(full, "The record", patience=0.2)
