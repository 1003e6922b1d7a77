"""The lease of a sweep: one driver at a time."""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from benchbed.errors import SweepError
from benchbed.workspace import replacing

RENEWAL = 10.0
"""Seconds between two renewals."""
EXPIRY = 60.0
"""Seconds without renewal after which another driver takes over."""
LOCK = ".lease.lock"


@dataclass(frozen=True)
class Holder:
    """Who holds a lease.

    Attributes
    ----------
    owner
        The user's name.
    host, pid, born
        The process, and when the machine started it (numbers of processes are used again).
    token
        Its own mark.
    since, renewed
        Seconds since 1970.
    """

    owner: str
    host: str
    pid: int
    born: str
    token: str
    since: float
    renewed: float

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.owner} on {self.host.partition(' ')[0]} (process {self.pid})"

    def alive(self) -> bool:
        """Whether the holder still counts: renewed lately, and not known to be gone from this machine."""
        if time.time() - self.renewed > EXPIRY:
            return False
        return self.host != _this_host() or _born(self.pid) == self.born


class Lease:
    """The right to drive a sweep, held as a small file that is renewed every ten seconds.

    Parameters
    ----------
    folder
        Of the sweep.
    when_lost
        Called when another driver has taken over, which happens when this one did not renew for a minute.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with Lease(folder):
    ...     read_holder(folder).pid == os.getpid()
    True
    >>> read_holder(folder) is None
    True
    """

    def __init__(self, folder: Path, when_lost: Callable[[], None] = lambda: None) -> None:
        self._folder, self._when_lost = folder, when_lost
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.lost_to: Holder | None = None

    def __enter__(self) -> Lease:
        """Take the lease.

        Raises
        ------
        SweepError
            Somebody else holds it.
        """
        with _locked(self._folder):
            holder = read_holder(self._folder)
            if holder is not None and holder.alive():
                raise SweepError(
                    f"This sweep is being run by {holder.name}, since {_clock(holder.since)}.",
                    advice=f"Wait for it, watch it with `benchbed status`, or end that process. Folder: {self._folder}",
                )
            now = time.time()
            self._write(Holder(_user(), _this_host(), os.getpid(), _born(os.getpid()), self._token, now, now))
        self._thread = threading.Thread(target=self._renew, name="benchbed-lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(OSError), _locked(self._folder):
            holder = read_holder(self._folder)
            if holder is not None and holder.token == self._token:
                (self._folder / "lease.json").unlink()
            if [path.name for path in self._folder.iterdir()] == [LOCK]:
                # Nothing came of it: a sweep that was refused leaves no folder.
                (self._folder / LOCK).unlink()
                self._folder.rmdir()

    def check(self) -> None:
        """Make sure that the lease is still held.

        Raises
        ------
        SweepError
            It was lost.
        """
        if self.lost_to is not None:
            raise SweepError(
                f"This sweep was taken over by {self.lost_to.name}: this process had not renewed its lease for a minute.",
                advice="Nothing is lost. Let the other one go on.",
            )

    def _renew(self) -> None:
        while not self._stop.wait(RENEWAL):
            with contextlib.suppress(OSError), _locked(self._folder):
                holder = read_holder(self._folder)
                if holder is None or holder.token == self._token:
                    mine = holder or Holder(_user(), _this_host(), os.getpid(), _born(os.getpid()), self._token, time.time(), 0)
                    self._write(Holder(**{**asdict(mine), "renewed": time.time()}))
                    continue
                self.lost_to = holder
                break
        if self.lost_to is not None:
            self._when_lost()

    def _write(self, holder: Holder) -> None:
        with replacing(self._folder / "lease.json") as temporary:
            temporary.write_text(json.dumps(asdict(holder)))


def read_holder(folder: Path) -> Holder | None:
    """Who holds the lease of a sweep, alive or not; None when nobody does."""
    try:
        return Holder(**json.loads((folder / "lease.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock that guards the lease file; the system frees it when the process dies."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = (folder / LOCK).open("a")
        except FileNotFoundError:
            continue  # removed just now, by a driver that was refused
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                same = os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat())
            except FileNotFoundError:
                same = False
            if not same:
                continue
            yield
            return


def _this_host() -> str:
    """The machine, and the numbering of processes on it: containers may share a name."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()


def _born(pid: int) -> str:
    """When a process was started, as text; empty when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "unknown"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
