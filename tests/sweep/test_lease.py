from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from benchbed.errors import SweepError
from benchbed.sweep import lease as module
from benchbed.sweep.lease import EXPIRY, Holder, Lease, read_holder


def leave(folder, **changes) -> None:
    """A lease that somebody left behind."""
    now = time.time()
    mine = Holder("ann", module._this_host(), os.getpid(), module._born(os.getpid()), "hers", now, now)
    (folder / "lease.json").write_text(json.dumps(asdict(replace(mine, **changes))))


def test_a_second_driver_is_refused_with_the_owners_name(tmp_path):
    leave(tmp_path, owner="ann", host="far-away")
    with pytest.raises(SweepError, match=rf"run by ann on far-away \(process {os.getpid()}\)"), Lease(tmp_path):
        pass
    assert read_holder(tmp_path).token == "hers"


def test_the_same_process_cannot_hold_it_twice(tmp_path):
    with Lease(tmp_path), pytest.raises(SweepError), Lease(tmp_path):
        pass


@pytest.mark.parametrize(
    "changes",
    [{"host": "far-away", "renewed": time.time() - EXPIRY - 1}, {"pid": 2**22 + 1}, {"born": "another start"}],
    ids=["a minute old", "the process is gone", "its number belongs to another process"],
)
def test_a_dead_holder_is_taken_over_from(tmp_path, changes):
    leave(tmp_path, **changes)
    with Lease(tmp_path):
        assert read_holder(tmp_path).token != "hers"
    assert read_holder(tmp_path) is None


def test_a_killed_process_frees_it_at_once(tmp_path):
    code = "import sys, pathlib, time\nfrom benchbed.sweep.lease import Lease\n"
    code += "with Lease(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(100)\n"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SweepError), Lease(tmp_path):
            pass
        holder.kill()
    with Lease(tmp_path):
        pass


def test_it_is_renewed_and_its_loss_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RENEWAL", 0.05)
    lost = []
    with Lease(tmp_path, when_lost=lambda: lost.append(True)) as mine:
        first = read_holder(tmp_path).renewed
        time.sleep(0.3)
        assert read_holder(tmp_path).renewed > first
        mine.check()
        leave(tmp_path)
        time.sleep(0.3)
        assert lost == [True]
        with pytest.raises(SweepError, match="taken over by ann"):
            mine.check()
    assert read_holder(tmp_path).token == "hers"


def test_a_damaged_lease_file_holds_nobody_up(tmp_path):
    (tmp_path / "lease.json").write_text("{")
    with Lease(tmp_path):
        assert read_holder(tmp_path).pid == os.getpid()
