"""Runs what a ledger hands out, as one Tune experiment."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchbed.data.dataset import TrainingData
from benchbed.engine.connect import prepare_environment
from benchbed.engine.resources import capacity, check_fits, nodes
from benchbed.errors import SweepError
from benchbed.search.ledger import Ledger

RESTARTS = 4
"""Times that Tune may stop early without one trial finished in between."""


def run_ledger(
    ledger: Ledger,
    *,
    sweep_folder: Path,
    protocol: dict[str, Any],
    data: Mapping[int, TrainingData],
    halt: threading.Event,
    **options: Any,
) -> bool:
    """Run trials until the ledger has no more, with Ray connected already.

    Parameters
    ----------
    ledger
        Who decides.
    sweep_folder
        Absolute; on a cluster every node must see it.
    protocol
        The evaluation block, as JSON.
    data
        Split seed -> training data. Put into Ray's object store once.
    halt
        Set to stop; unfinished trials are continued by the next run.
    options
        More fields of :class:`benchbed.engine.trainable.Work`.

    Returns
    -------
    bool
        Whether everything is done; False when it was halted.

    Raises
    ------
    ResourceError
        No machine has what a trial asks for.
    SweepError
        The storage fails, or Tune stops again and again.
    """
    if ledger.finished:
        return True
    prepare_environment()
    import ray

    from benchbed.engine.bridge import Bridge, Halt
    from benchbed.engine.trainable import Work

    shapes = {study.plan.shape for study in ledger.studies}
    for shape in shapes:
        check_fits(shape, nodes())
    smallest = min(shapes, key=lambda shape: (shape.gpu, shape.cpu))
    trials = sweep_folder / "trials"
    references = {seed: ray.put(value) for seed, value in data.items()}
    work = Work(trials=trials, protocol=protocol, data=references, **options)
    bridge = Bridge(ledger, trials, lambda: capacity(smallest, nodes()), halt)
    scratch = sweep_folder / "tune"
    idle, problem = 0, None
    while not ledger.finished:
        closed = bridge.closed
        try:
            _fit(bridge, work, scratch)
        except Halt:
            if bridge.failure is not None:
                raise bridge.failure from None
            return False
        except Exception as error:
            # Tune broke down (for example because an idle actor died). The journal knows everything: begin a new experiment.
            problem = error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if bridge.failure is not None:
            raise bridge.failure
        ledger.put_back_all()
        idle = 0 if bridge.closed > closed else idle + 1
        if idle > RESTARTS:
            raise SweepError(f"Ray Tune stopped {idle} times without finishing a trial: {problem or 'no reason given'}.")
    return True


def _fit(bridge: Any, work: Any, scratch: Path) -> None:
    from ray import tune

    from benchbed.engine.bridge import LedgerScheduler, LedgerSearcher
    from benchbed.engine.trainable import TrialActor

    # Without a limit of its own Tune would keep only one trial waiting, and start actors one after the other.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(bridge.slots())
    trainable = tune.with_resources(tune.with_parameters(TrialActor, work=work), _resources)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=LedgerSearcher(bridge),
            scheduler=LedgerScheduler(bridge),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=f"run-{time.time_ns()}",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()


def _resources(config: dict[str, Any]) -> Any:
    from ray import tune

    shape = config["assignment"]["shape"]
    return tune.PlacementGroupFactory([{"CPU": shape["cpu"], **({"GPU": shape["gpu"]} if shape["gpu"] else {})}])


def _name(trial: Any) -> str:
    return str(trial.trial_id)
