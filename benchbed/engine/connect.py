"""Ray: started here for one sweep, or joined where it runs."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

from benchbed.errors import NotStarted, ResourceError

DEFAULTS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Nothing of Tune's own snapshot is ever read: the journal is the truth.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray writes a paragraph about every process that dies; the ledger says what happened to its trial.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "worker died or was killed|killed due to",
}
"""Environment of Ray and Tune; what the user has set stays."""


def prepare_environment() -> None:
    """Set the defaults. Before Ray is imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"ray\..*")


@contextlib.contextmanager
def cluster(address: str | None = None) -> Iterator[None]:
    """A connection to Ray, for as long as the block lasts; one that exists already is used and left as it is.

    Parameters
    ----------
    address
        None starts Ray on this machine; ``auto`` joins the cluster of this machine, ``HOST:PORT`` a named one.

    Raises
    ------
    ResourceError
        There is no cluster at the address, or it is a Ray Client address.
    NotStarted
        Ray's processes are not up in time.
    """
    if address is not None and address.startswith("ray://"):
        raise ResourceError(
            f"'{address}' is a Ray Client address: the sweep would run on the head node, without this machine's files.",
            advice="Run `benchbed sweep` on a node of the cluster with --address auto.",
        )
    if address is not None and address != "auto":
        _check_reachable(address)
    prepare_environment()
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL, "configure_logging": True}
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ResourceError(
            f"There is no Ray cluster at '{address or 'local'}': {first}",
            advice="Start one with `ray start --head`, or leave --address out to run on this machine.",
        ) from error
    except Exception as error:
        if type(error) is not Exception:  # what Ray raises when its processes are not up in time
            raise
        raise NotStarted(
            f"Ray did not start: {str(error).strip().splitlines()[0] if str(error).strip() else 'it does not say why'}",
            advice="A machine with too much other work, or too little memory, does that. The same command tries again.",
        ) from error
    try:
        yield
    finally:
        _shut_down()


def _shut_down() -> None:
    """Leave Ray, with nothing of it left to be freed meanwhile.

    Ray ends the whole process, without a word from Python, when a handle is freed while it shuts down. Tune leaves handles in
    cycles of objects, and the collector may come upon these at any moment in any thread: so they are freed before, and it rests
    until all is over.
    """
    import ray

    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        if was_on:
            gc.enable()


def _check_reachable(address: str) -> None:
    """Ray would try for many minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ResourceError(
            f"'{address}' is no address of a Ray cluster.", advice="Write auto, or HOST:PORT (port 6379 mostly)."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=15).close()
    except OSError as error:
        raise ResourceError(
            f"Nothing answers at '{address}': {error}.",
            advice="Is the head node up (`ray status` there), and does a firewall let this machine through?",
        ) from error


@contextlib.contextmanager
def halting_on_signals(halt: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set an event; a second one ends the process at once, with exit code 3.

    To be entered after the connection is made, for Ray puts a SIGTERM handler of its own in place. Outside of the main thread
    nothing can be caught, and nothing is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    asked = threading.Event()  # halt may be set by others

    def on_signal(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            _end_at_once()
        asked.set()
        halt.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _end_at_once() -> NoReturn:
    """End without a word to anybody: what is on the disk is what the next start goes on from."""
    if sys.stdout.isatty():
        os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # a live table hides the cursor
    with contextlib.suppress(Exception):
        import ray

        node = ray._private.worker._global_node
        if node is not None and node.is_head():
            # A Ray that was started for this sweep would outlive it.
            node.kill_all_processes(check_alive=False, allow_graceful=False)
    os._exit(3)
