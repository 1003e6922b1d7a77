"""Optuna's storage of a sweep: one journal file that survives ``kill -9`` and a full disk."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from benchbed.errors import SweepError

T = TypeVar("T")

PATIENCE = 120.0
"""Seconds that a write is tried again before the sweep stops."""


def persist(write: Callable[[], T], what: str, *, patience: float = PATIENCE) -> T:
    """Do a write, again and again while the disk refuses.

    Raises
    ------
    SweepError
        It still refuses after ``patience`` seconds. Nothing that was recorded is lost.
    """
    wait, until = 0.1, time.monotonic() + patience
    while True:
        try:
            return write()
        except OSError as error:
            if time.monotonic() + wait > until:
                raise SweepError(
                    f"{what} cannot be written: {error}.",
                    advice="Make room or mend the disk, then give the same command again: the sweep goes on where it stopped.",
                ) from error
            time.sleep(wait)
            wait = min(2 * wait, 10.0)


class SteadyJournal(JournalFileBackend):
    """Optuna's journal file, appended to by one driver, whole lines only.

    A driver that dies while it writes leaves half a line. Readers step over it, but the next line would be glued to it, and
    both would be lost. Here every append first cuts what has no end of line, and takes back its own half when the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._steady_lock = JournalFileSymlinkLock(str(self._path))
        super().__init__(str(self._path), lock_obj=self._steady_lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records; when this returns they are on the disk."""
        data = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        persist(lambda: self._append(data), f"The record of the search ('{self._path}')")

    def _append(self, data: bytes) -> None:
        self._steady_lock.acquire()
        try:
            with open(self._path, "r+b", buffering=0) as file:
                end = _cut_torn_tail(file)
                file.seek(end)
                try:
                    written = 0
                    while written < len(data):
                        written += file.write(data[written:])
                    os.fsync(file.fileno())
                except OSError:
                    with contextlib.suppress(OSError):
                        file.truncate(end)
                    raise
        finally:
            self._steady_lock.release()


def _cut_torn_tail(file: Any) -> int:
    """Cut everything behind the last end of line; returns where the file ends now."""
    end: int = file.seek(0, os.SEEK_END)
    keep, block = end, 1 << 16
    while keep > 0:
        start = max(0, keep - block)
        file.seek(start)
        newline = file.read(keep - start).rfind(b"\n")
        if newline >= 0:
            keep = start + newline + 1
            break
        keep = start
    if keep < end:
        file.truncate(keep)
    return keep


def journal_path(sweep_folder: Path) -> Path:
    """Where the journal of a sweep lies."""
    return sweep_folder / "search.journal"


def open_storage(sweep_folder: Path) -> optuna.storages.BaseStorage:
    """Open the storage of a sweep for writing; the caller holds the sweep's lease, so a lock that is left over is dead."""
    path = journal_path(sweep_folder).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}.lock")
    return optuna.storages.JournalStorage(SteadyJournal(path))


def read_storage(sweep_folder: Path) -> optuna.storages.BaseStorage | None:
    """Open the storage of a sweep for reading, also while the sweep runs; None when there is none yet."""
    path = journal_path(sweep_folder).absolute()
    if not path.is_file():
        return None
    return optuna.storages.JournalStorage(JournalFileBackend(str(path)))
