"""The outbox: what happened in a sweep, on disk before anybody else is told.

Records are lines of JSON in ``outbox.jsonl``. A record is appended with flush and fsync, so that what was appended survives a
``kill -9``; the line that was being written at that moment is cut when the outbox is opened again. Beside it,
``outbox.sent.json`` says how far the tracking store has been told. It is written after the store has answered, so a crash in
between sends records twice: whoever sends them must be idempotent.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from benchbed.errors import TrackingError
from benchbed.workspace import replacing


@dataclass(frozen=True)
class Record:
    """One line of the outbox.

    Attributes
    ----------
    number
        Its own key: counts from 1 without gaps.
    at
        When it was recorded, milliseconds since 1970. Sent again, a record keeps it.
    kind
        ``sweep``, ``opened``, ``epochs``, ``closed`` or ``note``.
    sweep
        Identity of the sweep it belongs to.
    body
        The rest, by kind.
    end
        Offset in bytes just behind the line.
    """

    number: int
    at: int
    kind: str
    sweep: str
    body: dict[str, Any]
    end: int


@dataclass(frozen=True)
class Sent:
    """How far a tracking store has been told: everything before ``offset`` (bytes), to the store at ``uri``."""

    offset: int = 0
    uri: str = ""


class Outbox:
    """An append-only log with the position of its reader.

    Parameters
    ----------
    folder
        The folder of the sweep; created when absent.
    writable
        Whether records will be appended. Opening for writing cuts a torn last line; opening for reading only steps over it.

    Raises
    ------
    TrackingError
        A whole line in the middle of the file is not a record.

    Examples
    --------
    >>> import tempfile
    >>> box = Outbox(Path(tempfile.mkdtemp()), writable=True)
    >>> box.append("note", "s1", {"finished": True}).number
    1
    >>> [record.kind for record in box.read()]
    ['note']
    """

    def __init__(self, folder: Path, *, writable: bool) -> None:
        self.path = folder / "outbox.jsonl"
        self._sent_path = folder / "outbox.sent.json"
        self._lock_path = folder / "outbox.lock"
        self._guard = Lock()
        self._writable = writable
        if writable:
            folder.mkdir(parents=True, exist_ok=True)
            _cut_torn_tail(self.path)
        self._last = max((record.number for record in self.read()), default=0)
        self._identity = ""

    @property
    def identity(self) -> str:
        """A mark of this log, made from its first record; empty while it has none. Another workspace's log has another one."""
        if not self._identity and self.path.exists():
            with self.path.open("rb") as log:
                first = log.readline()
            if first.endswith(b"\n"):
                self._identity = hashlib.sha256(first).hexdigest()[:16]
        return self._identity

    @property
    def size(self) -> int:
        """Bytes of the log, 0 when there is none."""
        return self.path.stat().st_size if self.path.exists() else 0

    def append(self, kind: str, sweep: str, body: dict[str, Any]) -> Record:
        """Write one record; when this returns, it is on the disk.

        Raises
        ------
        TrackingError
            The outbox was opened for reading.
        OSError
            The disk refuses (the half-written line is taken back).
        """
        if not self._writable:
            raise TrackingError(f"The outbox '{self.path}' was opened for reading.")
        with self._guard:
            number, at = self._last + 1, time.time_ns() // 1_000_000
            record = {"number": number, "at": at, "kind": kind, "sweep": sweep, "body": body}
            line = json.dumps(record, ensure_ascii=False, default=_plain).encode() + b"\n"
            log = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                start = os.lseek(log, 0, os.SEEK_END)
                try:
                    _write_whole(log, line)
                    os.fsync(log)
                except OSError:
                    os.ftruncate(log, start)
                    raise
            finally:
                os.close(log)
            self._last = number
            return Record(number, at, kind, sweep, json.loads(line)["body"], start + len(line))

    def read(self, start: int = 0) -> Iterator[Record]:
        """The whole records from an offset on, in order; an unfinished last line is left out."""
        if not self.path.exists():
            return
        with self.path.open("rb") as log:
            log.seek(start)
            end = start
            for line in log:
                end += len(line)
                if not line.endswith(b"\n"):
                    return
                record = _parse(line, end)
                if record is None:
                    raise TrackingError(
                        f"The record that ends at byte {end} of '{self.path}' cannot be read.",
                        advice="The file was changed by something else. Restore it, or move it away to start a new log.",
                    )
                yield record

    @property
    def sent(self) -> Sent:
        """How far the store has been told; nothing when the file is absent, unreadable or beyond the log."""
        try:
            stored = json.loads(self._sent_path.read_text())
            sent = Sent(int(stored["offset"]), str(stored["uri"]))
        except (OSError, ValueError, KeyError, TypeError):
            return Sent()
        return sent if sent.offset <= self.size else Sent()

    def mark_sent(self, sent: Sent) -> None:
        """Remember how far the store has been told."""
        with replacing(self._sent_path) as temporary:
            temporary.write_text(json.dumps({"offset": sent.offset, "uri": sent.uri}))

    def count_unsent(self) -> int:
        """Number of records that the store has not been told."""
        return sum(1 for _ in self.read(self.sent.offset))

    @contextmanager
    def sending(self) -> Iterator[bool]:
        """Hold the right to send, over all processes of this machine; gives False when another process holds it."""
        self._lock_path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock_path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)


def _plain(value: Any) -> Any:
    """Numbers and arrays of numpy, paths and the like, as JSON can hold them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"a record cannot hold {type(value).__name__}")


def _write_whole(log: int, line: bytes) -> None:
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(log, rest) :]


def _parse(line: bytes, end: int) -> Record | None:
    try:
        whole = json.loads(line)
        return Record(int(whole["number"]), int(whole["at"]), str(whole["kind"]), str(whole["sweep"]), dict(whole["body"]), end)
    except (ValueError, KeyError, TypeError):
        return None


def _cut_torn_tail(path: Path) -> None:
    """Cut what a crash left behind the last whole record: a line without its end, or blocks of zeros after a power cut."""
    if not path.exists():
        return
    with path.open("r+b") as log:
        keep = end = 0
        for line in log:
            end += len(line)
            if line.endswith(b"\n") and _parse(line, end) is not None:
                keep = end
        if keep < end:
            log.truncate(keep)
            os.fsync(log.fileno())
