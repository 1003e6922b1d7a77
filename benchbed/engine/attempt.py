"""One attempt at one trial, in the process that trains it. Knows neither Ray, Optuna nor MLflow."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import math
import os
import shutil
import socket
import traceback
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from benchbed.data.dataset import TrainingData
from benchbed.evaluation.protocol import Protocol
from benchbed.search.assignment import Assignment
from benchbed.workspace import replacing

HUNG = "hung.txt"
"""In the folder of an attempt: the stacks of a process that was ended because it hung; empty otherwise."""


class TrialError(Exception):
    """What went wrong inside a trial, in words that survive the way to the driver."""

    def __init__(self, kind: str, message: str, trace: str) -> None:
        super().__init__(kind, message, trace)
        self.kind, self.message, self.trace = kind, message, trace

    @classmethod
    def of(cls, error: BaseException) -> TrialError:
        """Read an exception: out of memory, or an error."""
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        no_memory = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "out of memory" in str(error)
        return cls("out_of_memory" if no_memory else "error", text, "".join(traceback.format_exception(error)))


def named(reference: str) -> Any:
    """The object that ``module:attribute`` names.

    Examples
    --------
    >>> named("math:inf")
    inf
    """
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)


def trial_folder(trials: Path, study: str, number: int) -> Path:
    """Where everything about a trial lies: checkpoints in ``attempt-K``, test cases and errors beside them."""
    return trials / study / str(number)


def attempt_folder(folder: Path, attempt: int) -> Path:
    """Where an attempt keeps its checkpoints."""
    return folder / f"attempt-{attempt}"


class Attempt:
    """Trains one trial epoch by epoch, from where the attempt before it stopped.

    Every attempt writes to a folder of its own: an earlier attempt whose process is thought to be dead, and is not, cannot
    disturb it.

    Parameters
    ----------
    assignment
        What to train.
    trials
        Folder of all trials of the sweep, seen by every node.
    data
        Training events and validation cases.
    protocol
        The evaluation block, as JSON.
    device
        Such as ``cpu`` or ``cuda:0``.
    fit_factory, vault
        ``module:attribute`` of what trains and of what opens the vault. The module of what trains also has ``FitSpec`` and
        ``can_continue(folder)``.
    hang_after
        Seconds after which one step counts as hung and the process is ended; None never does.
    """

    def __init__(
        self,
        assignment: Assignment,
        trials: Path,
        data: TrainingData,
        *,
        protocol: dict[str, Any],
        device: str,
        fit_factory: str,
        vault: str,
        hang_after: float | None,
    ) -> None:
        self.assignment = assignment
        self.folder = trial_folder(trials, assignment.study, assignment.number)
        self._data, self._protocol, self._device = data, protocol, device
        self._fit_factory, self._vault, self._hang_after = fit_factory, vault, hang_after
        self._fit: Any = None

    def step(self) -> dict[str, Any]:
        """Do one epoch (and, at the end of a final run, the test).

        Returns
        -------
        dict
            ``rows``: the epochs that the driver may not know: all of them at the first step, later the new one. ``last``:
            whether the trial ends here. ``facts``: about the whole trial, with the last rows.

        Raises
        ------
        TrialError
            Whatever the model raises.
        """
        try:
            with self._watched():
                rows = self._train()
                last = self._fit.finished is not None
                facts = self._close() if last else {}
        except Exception as error:
            self._fit = None
            raise TrialError.of(error) from error
        return {"rows": rows, "last": last, "facts": facts}

    def _train(self) -> list[dict[str, Any]]:
        first = self._fit is None
        if first:
            self._fit = self._make_fit()
        if self._fit.finished is None:
            self._fit.step()
        return [epoch.to_json() for epoch in (self._fit.history if first else self._fit.history[-1:])]

    def _make_fit(self) -> Any:
        given = self.assignment
        folder = self._adopt()
        spec = import_module(self._fit_factory.partition(":")[0]).FitSpec(
            model=given.kind or given.model,
            parameters=given.parameters,
            seed=given.seed,
            max_epochs=given.max_epochs,
            patience=given.patience,
            seconds=given.seconds,
            protocol=self._protocol,
        )
        return named(self._fit_factory)(spec, self._data, device=self._device, folder=folder)

    def _adopt(self) -> Path:
        """The folder of this attempt, with what the newest attempt before it left that can be continued."""
        can_continue = import_module(self._fit_factory.partition(":")[0]).can_continue
        own = attempt_folder(self.folder, self.assignment.attempt)
        own.mkdir(parents=True, exist_ok=True)
        if can_continue(own):
            return own
        for earlier in range(self.assignment.attempt - 1, 0, -1):
            # Twice, for the process that wrote it may be alive and replace a file between two copies.
            for _ in range(2):
                _copy_run(attempt_folder(self.folder, earlier), own)
                if can_continue(own):
                    return own
        return own

    def _close(self) -> dict[str, Any]:
        facts: dict[str, Any] = {**self._fit.facts, "finished": self._fit.finished}
        if self.assignment.stage == "final" and any(math.isfinite(epoch.value) for epoch in self._fit.history):
            facts |= self._test()
        return facts

    def _test(self) -> dict[str, Any]:
        """Open the vault, rank, and keep the result; a result that is kept already is not made again."""
        given, cases_file, result_file = self.assignment, self.folder / "cases.parquet", self.folder / "test.json"
        if not (cases_file.exists() and result_file.exists()):
            protocol = Protocol.model_validate(self._protocol)
            by = {"host": socket.gethostname(), "pid": os.getpid(), "study": given.study, "attempt": given.attempt}
            cases = named(self._vault)(
                Path(given.split_folder),
                protocol,
                model=given.model,
                seed=given.seed,
                by=by,
                sweep=given.sweep,
                fingerprint=self._data.fingerprint,
            )
            result = self._fit.test(cases)
            result.write(cases_file)
            with replacing(result_file) as temporary:
                told = {"metrics": result.metrics, "facts": result.facts}
                temporary.write_text(json.dumps(told | ({"variety": result.variety} if result.variety else {})))
        kept = json.loads(result_file.read_text())
        variety = {"variety": kept["variety"]} if "variety" in kept else {}
        return {**kept["facts"], **variety, "test": kept["metrics"], "artifacts": {"cases": str(cases_file)}}

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """End the whole process, with its stacks on disk, when a step takes far too long: nothing else ends a hung one."""
        if self._hang_after is None:
            yield
            return
        folder = attempt_folder(self.folder, self.assignment.attempt)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / HUNG).open("w") as log:
            faulthandler.dump_traceback_later(self._hang_after, exit=True, file=log)
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
                (folder / HUNG).unlink(missing_ok=True)


def _copy_run(source: Path, own: Path) -> None:
    """Copy what an attempt left, except what is for people only."""
    left = [path for path in source.glob("*") if path.name != HUNG and not path.name.startswith(".")]
    with contextlib.suppress(FileNotFoundError):
        # What was written last comes first: should the process that wrote it be alive, it can only add what this attempt is
        # about to compute again.
        for path in sorted(left, key=lambda path: path.stat().st_mtime, reverse=True):
            if path.suffix != ".unreadable":
                with replacing(own / path.name) as temporary:
                    shutil.copyfile(path, temporary)


def hung_stacks(trials: Path, assignment: Assignment) -> str | None:
    """The stacks of an attempt that was ended because it hung, None when it was not."""
    folder = attempt_folder(trial_folder(trials, assignment.study, assignment.number), assignment.attempt)
    try:
        return (folder / HUNG).read_text() or None
    except OSError:
        return None


def tidy(trials: Path, study: str, number: int, *, keep_newest: bool) -> None:
    """Remove the weights of a trial that is over, all of them or all but those of its newest attempt."""
    folder = trial_folder(trials, study, number)
    attempts = sorted(folder.glob("attempt-*"), key=lambda path: int(path.name.partition("-")[2]))
    for path in attempts[:-1] if keep_newest else attempts:
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
