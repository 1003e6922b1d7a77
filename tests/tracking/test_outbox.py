import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchbed.errors import TrackingError
from benchbed.tracking.outbox import Outbox, Sent

ROOT = Path(__file__).resolve().parents[2]


def kinds(outbox):
    return [record.kind for record in outbox.read()]


def test_records_keep_order_number_and_content(tmp_path):
    outbox = Outbox(tmp_path, writable=True)
    told = [outbox.append("note", "s", {"facts": {"n": n, "nan": float("nan"), "word": "é\n"}}) for n in range(5)]
    again = list(Outbox(tmp_path, writable=False).read())
    assert [record.number for record in again] == [1, 2, 3, 4, 5]
    assert [(r.at, r.end, r.body["facts"]["n"], r.body["facts"]["word"]) for r in again] == [
        (r.at, r.end, r.body["facts"]["n"], "é\n") for r in told
    ]
    assert again[-1].end == outbox.size


@pytest.mark.parametrize("tail", [b'{"number": 3, "at', b"\0" * 40, b'{"number": 3}\n', b"\0\0\0\n", b"\xff\xfe"])
def test_a_torn_tail_is_cut_and_the_next_record_is_whole(tmp_path, tail):
    outbox = Outbox(tmp_path, writable=True)
    outbox.append("note", "s", {"a": 1})
    outbox.append("note", "s", {"a": 2})
    whole = outbox.size
    with outbox.path.open("ab") as log:
        log.write(tail)
    again = Outbox(tmp_path, writable=True)
    assert again.size == whole
    assert again.append("sweep", "s", {"a": 3}).number == 3
    assert kinds(again) == ["note", "note", "sweep"]


def test_reading_steps_over_a_torn_line_without_touching_it(tmp_path):
    outbox = Outbox(tmp_path, writable=True)
    outbox.append("note", "s", {})
    with outbox.path.open("ab") as log:
        log.write(b'{"number": 2')
    size = outbox.size
    assert kinds(Outbox(tmp_path, writable=False)) == ["note"]
    assert outbox.size == size


def test_damage_in_the_middle_is_told_and_nothing_is_cut(tmp_path):
    outbox = Outbox(tmp_path, writable=True)
    for _ in range(3):
        outbox.append("note", "s", {})
    lines = outbox.path.read_bytes().splitlines(keepends=True)
    outbox.path.write_bytes(lines[0] + b"garbage\n" + lines[2])
    with pytest.raises(TrackingError, match="cannot be read"):
        Outbox(tmp_path, writable=True)
    assert outbox.path.read_bytes().endswith(lines[2])


def test_what_was_appended_survives_kill_9(tmp_path):
    script = f"""
import os, sys
from pathlib import Path
from benchbed.tracking.outbox import Outbox
outbox = Outbox(Path({str(tmp_path)!r}), writable=True)
for n in range(100000):
    outbox.append("note", "s", {{"n": n, "filler": "x" * 3000}})
    print(n, flush=True)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 20:
            process.send_signal(signal.SIGKILL)
            break
    said = [int(line) for line in process.stdout if line.strip().isdigit()]
    process.wait()
    found = [record.body["n"] for record in Outbox(tmp_path, writable=True).read()]
    assert found == list(range(len(found))) and len(found) > max([20, *said])


def test_a_full_disk_takes_the_half_written_line_back(tmp_path, monkeypatch):
    outbox = Outbox(tmp_path, writable=True)
    outbox.append("note", "s", {})
    write = os.write

    def full(handle, data):
        write(handle, bytes(data[:7]))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        outbox.append("note", "s", {})
    monkeypatch.undo()
    outbox.append("sweep", "s", {})
    assert kinds(outbox) == ["note", "sweep"] and [r.number for r in outbox.read()] == [1, 2]


def test_the_position_survives_and_is_not_believed_beyond_the_log(tmp_path):
    outbox = Outbox(tmp_path, writable=True)
    first = outbox.append("note", "s", {})
    outbox.append("note", "s", {})
    outbox.mark_sent(Sent(first.end, "sqlite:///a"))
    assert Outbox(tmp_path, writable=False).sent == Sent(first.end, "sqlite:///a")
    assert outbox.count_unsent() == 1
    outbox.mark_sent(Sent(10**9, "sqlite:///a"))
    assert outbox.sent == Sent()
    (tmp_path / "outbox.sent.json").write_text("{torn")
    assert outbox.sent == Sent()


def test_numpy_values_and_paths_become_plain_json(tmp_path):
    import numpy as np

    outbox = Outbox(tmp_path, writable=True)
    record = outbox.append("note", "s", {"a": np.float32(0.5), "b": np.arange(3), "c": Path("/x"), "d": {2, 1}})
    assert record.body == {"a": 0.5, "b": [0, 1, 2], "c": "/x", "d": [1, 2]}
    assert json.loads(outbox.path.read_text())["body"] == record.body


def test_only_one_process_sends(tmp_path):
    one, two = Outbox(tmp_path, writable=True), Outbox(tmp_path, writable=False)
    with one.sending() as mine, two.sending() as theirs:
        assert mine and not theirs
    with two.sending() as theirs:
        assert theirs


def test_reading_only_does_not_append(tmp_path):
    with pytest.raises(TrackingError, match="opened for reading"):
        Outbox(tmp_path, writable=False).append("note", "s", {})
