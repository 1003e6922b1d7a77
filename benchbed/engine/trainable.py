"""The actor that trains: reused from trial to trial, one epoch a call."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from benchbed.engine.attempt import Attempt, TrialError, named
from benchbed.search.assignment import Assignment, Shape


@dataclass(frozen=True)
class Work:
    """What all trials of a stage share. The data themselves stay in Ray's object store.

    Attributes
    ----------
    trials
        Folder of all trials.
    protocol
        The evaluation block, as JSON.
    data
        Split seed -> reference to its ``TrainingData``.
    fit_factory, vault
        ``module:attribute``.
    hang_multiple, hang_floor
        A step counts as hung after ``hang_multiple`` times the cap of a trial, at least ``hang_floor`` seconds.
    """

    trials: Path
    protocol: dict[str, Any]
    data: dict[int, Any]
    fit_factory: str = "benchbed.training.fit:Fit"
    vault: str = "benchbed.data.vault:open_vault"
    hang_multiple: float = 3.0
    hang_floor: float = 60.0

    def hang_after(self, seconds: float | None) -> float | None:
        """Seconds until a step of a trial with such a cap counts as hung."""
        return None if seconds is None else max(self.hang_floor, self.hang_multiple * seconds)


class TrialActor(tune.Trainable):
    """Trains the trials it is given, one after the other.

    A trial never returns ``done``, since such a result does not reach the scheduler: it returns ``last``, and the scheduler
    answers STOP. Results are text, for Tune flattens dictionaries. Nothing is built in ``setup``: an error in there would look
    like the death of the process.
    """

    def setup(self, config: dict[str, Any], work: Work | None = None) -> None:
        """Take the first trial."""
        assert work is not None
        self._work = work
        self._data: dict[int, Any] = {}
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self._assignment = Assignment.from_json(new_config["assignment"])
        self._attempt: Attempt | None = None
        return True

    def step(self) -> dict[str, Any]:
        """One epoch. An error of the model is a result too; on a GPU it ends the process, which may have lost its device."""
        try:
            if self._attempt is None:
                self._attempt = self._begin()
            report = self._attempt.step()
        except Exception as error:
            self._attempt = None
            failure = error if isinstance(error, TrialError) else TrialError.of(error)
            if self._assignment.shape.gpu > 0:
                raise failure from None
            report = {"rows": [], "last": True, "failure": [failure.kind, failure.message, failure.trace]}
        if report["last"]:
            self._attempt = None
        return {"report": json.dumps(report)}

    def _begin(self) -> Attempt:
        given, work = self._assignment, self._work
        if given.split_seed not in self._data:
            self._data[given.split_seed] = ray.get(work.data[given.split_seed])
        named(work.fit_factory)
        return Attempt(
            given,
            work.trials,
            self._data[given.split_seed],
            protocol=work.protocol,
            device=granted_device(given.shape),
            fit_factory=work.fit_factory,
            vault=work.vault,
            hang_after=work.hang_after(given.seconds),
        )


def granted_device(shape: Shape) -> str:
    """The device that was granted, and the limits that go with it.

    Never what torch can see: an actor that asked for no GPU sees all of them.

    Raises
    ------
    RuntimeError
        A GPU was asked for and none was given.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(max(1, int(shape.cpu)))
    if shape.gpu <= 0:
        return "cpu"
    if not ray.get_gpu_ids():
        raise RuntimeError("a GPU was asked for and Ray granted none")
    if torch is not None:
        torch.cuda.set_per_process_memory_fraction(min(1.0, shape.gpu), 0)
    return "cuda:0"
