"""A sweep from its first to its last stage: prepare, split, search, final."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbed.data.load import load_training_data
from benchbed.data.prepare import prepare
from benchbed.data.vault import read_openings
from benchbed.engine.connect import cluster, halting_on_signals
from benchbed.engine.resources import automatic_shape, check_fits, check_shared, nodes, roomier
from benchbed.engine.run import run_ledger
from benchbed.errors import counted
from benchbed.search.ledger import Counts, Ledger, Observer
from benchbed.search.plans import FinalPlan, Plan, SearchPlan, Shape
from benchbed.search.storage import open_storage
from benchbed.search.studies import SearchStudy
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.lease import Lease
from benchbed.sweep.planning import Material, final_plan, search_plans, sweep_facts
from benchbed.sweep.preflight import Checked, preflight
from benchbed.sweep.progress import is_done
from benchbed.sweep.rehearsal import gather, rehearse
from benchbed.workspace import Workspace, replacing

if TYPE_CHECKING:
    from benchbed.tracking.tracker import Tracker

LAST_WORDS = 60.0
"""Seconds that the record may take to reach the tracking store at the end."""


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep ended.

    Attributes
    ----------
    benchmark, sweep
        Name of the benchmark and identity of the sweep.
    counts
        Where every study stands, searches first.
    untested
        Models whose search gave no complete trial, or whose final runs gave no result, with split seed and recorded reason.
    interrupted
        Whether it was stopped before its end; the same command continues it.
    unsent
        Whether some of the record has not reached the tracking store; the next start or report sends it.
    refused
        What the tracking store refused for good, with its reason; it stays in the sweep's own record.
    """

    benchmark: str
    sweep: str
    counts: tuple[Counts, ...] = ()
    untested: tuple[str, ...] = ()
    interrupted: bool = False
    unsent: str | None = None
    refused: tuple[str, ...] = ()

    @property
    def failed_trials(self) -> int:
        """Trials of both stages that failed."""
        return sum(count.failed for count in self.counts)

    @property
    def exit_code(self) -> int:
        """0 done, 1 finished with failed trials or models, 3 interrupted."""
        if self.interrupted:
            return 3
        return 1 if self.failed_trials or self.untested else 0

    def summary(self, called: str = "") -> str:
        """What happened, for people; ``called`` is what the user called the benchmark (a path, perhaps)."""
        name = called or self.benchmark
        spent, budget = (sum(getattr(count, name) for count in self.counts) for name in ("spent", "budget"))
        lines = []
        if self.interrupted:
            lines.append(f"Stopped at {spent} of {counted(budget, 'trial')}. The same command continues: benchbed sweep {name}")
        else:
            pruned = sum(count.pruned for count in self.counts)
            lines.append(f"Finished: {counted(spent, 'trial')}, {pruned} of them pruned, {self.failed_trials} failed.")
            lines.append(f"The leaderboard: benchbed report {name}")
        if self.untested:
            lines.append(f"Without a test result: {', '.join(self.untested)}.")
        if self.unsent:
            lines.append(f"Part of the record has not reached the tracking store ({self.unsent}); `benchbed report` sends it.")
        if self.refused:
            more = f", and {len(self.refused) - 1} more" if len(self.refused) > 1 else ""
            lines.append(f"The tracking store refused part of the record, which it will never show: {self.refused[0]}{more}.")
        return "\n".join(lines)


@dataclass
class _Drive:
    """One run of the driver over one sweep."""

    material: Material
    folder: Path
    storage: Any
    tracker: Tracker
    halt: threading.Event
    observer: Observer | None
    lease: Lease
    options: dict[str, Any]
    counts: dict[str, Counts] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def run(self, plans: Sequence[Plan], *, look: bool) -> tuple[Ledger, bool]:
        """Run all trials of some plans, or only look; returns the ledger and whether everything is done."""
        ledger = Ledger(plans, self.storage, self.tracker, self.observer)
        self.note(ledger)
        if look or ledger.finished:
            return ledger, ledger.finished
        seeds = {plan.split_seed for plan in plans}
        evaluation = self.material.benchmark.evaluation
        data = {
            seed: load_training_data(split.folder, evaluation) for seed, split in self.material.splits.items() if seed in seeds
        }
        try:
            done = run_ledger(
                ledger,
                sweep_folder=self.folder,
                protocol=evaluation.model_dump(mode="json"),
                data=data,
                halt=self.halt,
                **self.options,
            )
        finally:
            self.note(ledger)
        self.lease.check()
        return ledger, done

    def note(self, ledger: Ledger) -> None:
        """Remember where the studies of a ledger stand, and which they are."""
        self.counts |= {study.name: ledger.counts(study) for study in ledger.studies}
        with replacing(self.folder / "sweep.json") as temporary:
            studies = [
                {name: getattr(c, name) for name in ("study", "stage", "model", "split_seed", "budget", "seeds")}
                for c in self.counts.values()
            ]
            temporary.write_text(json.dumps({"sweep": self.material.sweep, "studies": studies}, indent=1))

    def tell_finals(self, plans: Sequence[FinalPlan]) -> None:
        """Tell the record which final studies count, once."""
        names = [plan.study_name for plan in plans]
        if new := [name for name in names if name not in self.told]:
            self.told += new
            self.tracker.note({"studies": {name.rpartition("/")[0]: [name] for name in new}})

    def vault_openings(self) -> dict[str, list[dict[str, Any]]]:
        """Who opened the vault of each split, for the record."""
        return {split.split_id: read_openings(split.folder) for split in self.material.splits.values()}


def run_sweep(
    benchmark: Benchmark,
    workspace: Workspace,
    *,
    models: list[str] | None = None,
    trials: int | None = None,
    address: str | None = None,
    observer: Observer | None = None,
    **options: Any,
) -> SweepOutcome:
    """Run a benchmark, or continue it: what is in the workspace already is not done again.

    Parameters
    ----------
    benchmark
        The question.
    workspace
        Where everything lies. On a cluster every node must see it.
    models
        Only these.
    trials
        Search trials of each model, in place of the file's number.
    address
        Of a Ray cluster; None for this machine.
    observer
        Watches the trials.
    options
        For :func:`benchbed.engine.run.run_ledger`.

    Raises
    ------
    ConfigError
        With everything that is wrong with data, models or search spaces.
    ModelError
        A model cannot hold the catalogue.
    SweepError
        Another driver runs this sweep, or the storage fails.
    ResourceError
        There is no such cluster, or it does not have what a trial asks for.
    TrackingError
        MLflow does not understand the address of the store.
    """
    from benchbed.tracking.store import check_store, store_uri

    if trials is not None:
        benchmark = benchmark.model_copy(update={"search": benchmark.search.model_copy(update={"trials": trials})})
    checked = preflight(benchmark, workspace, models)
    check_store(store_uri(workspace))
    folder = workspace.sweep(benchmark.name)
    halt = threading.Event()
    try:
        with Lease(folder, when_lost=halt.set) as lease:
            material = _prepare(benchmark, checked, workspace, models)
            return _drive(material, workspace, address, halt, observer, lease, options)
    except KeyboardInterrupt:
        return SweepOutcome(benchmark.name, "", interrupted=True)


def _prepare(benchmark: Benchmark, checked: Checked, workspace: Workspace, chosen: Sequence[str] | None = None) -> Material:
    return gather(benchmark, checked, prepare(checked.card, workspace), chosen)


def _drive(
    material: Material,
    workspace: Workspace,
    address: str | None,
    halt: threading.Event,
    observer: Observer | None,
    lease: Lease,
    options: dict[str, Any],
) -> SweepOutcome:
    from benchbed.tracking.tracker import Tracker

    folder = workspace.sweep(material.benchmark.name)
    plans = search_plans(material, Shape(), Shape())
    with contextlib.ExitStack() as connection:
        # What is done needs no Ray; and what no machine can give is refused before anything is recorded.
        if not is_done(material, folder, _chosen(material, plans)):
            rehearse(material, material.checked.chosen)
            connection.enter_context(cluster(address))
            plans = search_plans(material, *_shapes(material.benchmark))
            check_shared(folder)
            connection.enter_context(halting_on_signals(halt))
        tracker = Tracker(folder, workspace, None)
        tracker.start(sweep_facts(material, plans))
        drive = _Drive(material, folder, open_storage(folder), tracker, halt, observer, lease, options)
        everything = set(material.checked.models) == set(material.checked.chosen)
        done, finished, untested = False, False, list[str]()
        try:
            # What was left by an earlier run is put in order, also of models that are not chosen now.
            finished, _ = _both_stages(drive, plans, look=True)
            done, untested = _both_stages(drive, _chosen(material, plans), look=True)
            if not done:
                done, untested = _both_stages(drive, _chosen(material, plans), look=False)
                finished = done and (everything or _both_stages(drive, plans, look=True)[0])
        finally:
            # Trials of a sweep that was stopped may go on, and open the vault, until Ray is shut down; what is done is on
            # record before, for Ray has been seen to end the whole process there.
            if not done:
                connection.close()
            if lease.lost_to is None:
                tracker.note({"finished": finished, "openings": drive.vault_openings()})
            sent = tracker.close(LAST_WORDS)
            connection.close()
    return SweepOutcome(
        material.benchmark.name,
        material.sweep,
        tuple(count for count in drive.counts.values() if count.model in material.checked.chosen),
        tuple(untested),
        interrupted=not done,
        unsent=None if sent else (tracker.trouble or "it is slow"),
        refused=tuple(tracker.refused),
    )


def _chosen(material: Material, plans: list[SearchPlan]) -> list[SearchPlan]:
    return [plan for plan in plans if plan.model in material.checked.chosen]


def _both_stages(drive: _Drive, plans: list[SearchPlan], *, look: bool) -> tuple[bool, list[str]]:
    """Search, then test, or only look; returns whether everything is done and what has no test result."""
    ledger, done = drive.run(plans, look=look)
    if not done:
        return False, []
    several = len(drive.material.splits) > 1
    finals: list[FinalPlan] = []
    untested: list[str] = []

    def name(plan: Plan) -> str:
        said = [f"split seed {plan.split_seed}"] if several else []
        said += drive.tracker.reasons(plan.study_name)[:1]
        return plan.model + (f" ({'; '.join(said)})" if said else "")

    for study in ledger.studies:
        assert isinstance(study, SearchStudy)
        best = study.best()
        if best is None:
            untested.append(name(study.plan))
        else:
            finals.append(final_plan(drive.material, study.plan, best))
    drive.tell_finals(finals)
    ledger, done = drive.run(finals, look=look)
    if done:
        untested += [name(final.plan) for final in ledger.studies if ledger.counts(final).complete == 0]
    return done, untested


def _shapes(benchmark: Benchmark) -> tuple[Shape, Shape]:
    """Resources of a trial, and of the retry after the memory ran out; refused here if no machine has them."""
    machines = nodes()
    asked = benchmark.resources
    shape = automatic_shape(machines) if isinstance(asked, str) else Shape(asked.cpu, asked.gpu)
    check_fits(shape, machines)
    return shape, roomier(shape, machines)


__all__ = ["Observer", "SweepOutcome", "run_sweep"]
