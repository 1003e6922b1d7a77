"""Where a sweep stands, read without disturbing it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from benchbed.errors import counted
from benchbed.search.counts import Counts, read_counts
from benchbed.search.storage import read_storage
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.lease import Holder, read_holder
from benchbed.workspace import Workspace


@dataclass(frozen=True)
class SweepStatus:
    """Where a sweep stands.

    Attributes
    ----------
    benchmark, sweep
        Name of the benchmark and identity of the sweep, empty when it was never started.
    holder
        Who runs it now, None when nobody does.
    studies
        Budget, states of trials and best value of each study, searches first.
    """

    benchmark: str
    sweep: str
    holder: Holder | None
    studies: tuple[Counts, ...]

    @property
    def finished(self) -> bool:
        """Whether both stages came to their end: every budget is spent, and what a search found has its final runs."""
        tested = {(study.model, study.split_seed) for study in self.studies if study.stage == "final"}
        found = {(study.model, study.split_seed) for study in self.studies if study.stage == "search" and study.complete}
        return bool(self.studies) and found <= tested and not self._open

    def summary(self, called: str = "") -> str:
        """One line for people; ``called`` is what the user called the benchmark (a path, perhaps)."""
        if not self.studies:
            return "not started" if self.holder is None else f"being started by {self.holder.name}"
        if self.holder is not None:
            return f"run by {self.holder.name}: {self._spent} of {counted(self._budget, 'trial')} done"
        if self.finished:
            complete = any(study.stage == "final" and study.complete for study in self.studies)
            return f"finished, {counted(self._spent, 'trial')}" + (
                "" if complete else "; none of them gave a result that could be tested"
            )
        name = called or self.benchmark
        return f"not running: {self._spent} of {counted(self._budget, 'trial')} done; benchbed sweep {name} continues it"

    @property
    def _spent(self) -> int:
        return sum(study.spent for study in self.studies)

    @property
    def _budget(self) -> int:
        return sum(study.budget for study in self.studies)

    @property
    def _open(self) -> bool:
        """Whether a study has budget left: another one may hold more trials than are asked for now."""
        return any(study.spent < study.budget for study in self.studies)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "benchmark": self.benchmark,
            "sweep": self.sweep,
            "finished": self.finished,
            "running": None if self.holder is None else asdict(self.holder),
            "studies": [{**asdict(study), "spent": study.spent} for study in self.studies],
        }


def read_status(benchmark: Benchmark, workspace: Workspace) -> SweepStatus:
    """Where the sweep of a benchmark stands in a workspace."""
    folder = workspace.sweep(benchmark.name)
    holder = read_holder(folder)
    alive = holder if holder is not None and holder.alive() else None
    storage = read_storage(folder)
    try:
        told = json.loads((folder / "sweep.json").read_text())
    except (OSError, ValueError):
        told = {"sweep": "", "studies": []}
    studies = () if storage is None else tuple(read_counts(storage, told["studies"]))
    return SweepStatus(benchmark.name, told["sweep"], alive, studies)
