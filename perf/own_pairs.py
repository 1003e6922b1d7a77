"""Time one of our models with user vectors in a process of its own: `own_pairs.py MODEL SPLIT_FOLDER EPOCHS THREADS JSON`.

Prints one JSON line last: `targets` of an epoch (and `triples`), `users` and `items` that are ranked, `epochs` and `cpu`
(seconds of training of each, wall and CPU), `ranking` and `ranking_cpu` (of each of three full rankings of all validation users
by their trained rows, metrics included), for ConvNCF `coarse_cpu` (the same with `scoring: bf16`) and `coarse_changed` (users
with other metrics), `peak_mb` (of the process up to here), and what our own protocol adds: `fold_in`
(seconds, wall and CPU, of `fold_in_users` users with the model's own number of steps) and `peak_mb_with_fold_in`.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

FOLDED = 96
"""Users whose fold-in is timed."""


def _coarse(evaluator: Any, model: Any) -> dict[str, Any]:
    """Seconds of three rankings that begin in bf16, and users whose metrics differ."""
    from benchbed.evaluation.scoring import CoarseScorer
    from benchbed.training.precision import changed_cases

    if not isinstance(model, CoarseScorer):
        return {}
    exact, seconds = evaluator.rank(model), []
    for _ in range(3):
        used = time.process_time()
        coarse = evaluator.rank(model, coarse=True)
        seconds.append(time.process_time() - used)
    return {"coarse_cpu": seconds, "coarse_changed": changed_cases(evaluator, exact, coarse)}


def main() -> None:
    name, folder, epochs, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    parameters = json.loads(sys.argv[5])
    import torch

    torch.set_num_threads(threads)
    from pair_speed import PROTOCOL, load

    from benchbed.data.histories import Histories
    from benchbed.evaluation.ranking import Evaluator
    from benchbed.models.mkr_data import TripleBatch
    from benchbed.training.fit import Fit, FitSpec

    data = load(folder)
    spec = FitSpec(name, parameters, 1, epochs, None, None, PROTOCOL.model_dump(mode="json"))
    one_case = replace(data, valid=data.valid.take(np.zeros(1, np.int64)))  # validation is timed below, not within epochs
    with tempfile.TemporaryDirectory() as scratch:
        fit = Fit(spec, one_case, folder=Path(scratch))
        cpu = []
        while fit.finished is None:
            used = time.process_time()
            epoch = fit.step()
            cpu.append(time.process_time() - used)
            print(f"  {name} epoch {epoch.number}: {epoch.train_seconds:.2f} s, loss {epoch.loss:.4f}", flush=True)
    model = fit.model.eval()
    evaluator, ranking, ranking_cpu = Evaluator(data.valid, data.n_items, PROTOCOL), [], []
    steps, model.fold_in_steps = model.fold_in_steps, 0
    for _ in range(3):
        started, used = time.perf_counter(), time.process_time()
        evaluator.evaluate(model)
        ranking.append(time.perf_counter() - started)
        ranking_cpu.append(time.process_time() - used)
    coarse = _coarse(evaluator, model)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    model.fold_in_steps = steps
    rows = np.linspace(0, len(data.valid) - 1, min(FOLDED, len(data.valid)), dtype=np.int64)
    some = data.valid.take(rows)
    started, used = time.perf_counter(), time.process_time()
    model.fold_in(Histories.of(some.users, some.histories))
    fold_in = [time.perf_counter() - started, time.process_time() - used]
    batches = list(model.batches(torch.Generator()))
    made = {
        "targets": sum(batch.n_targets for batch in batches),
        "triples": sum(len(batch.places) for batch in batches if isinstance(batch, TripleBatch)),
        "users": len(data.valid),
        "items": data.n_items,
        "epochs": [epoch.train_seconds for epoch in fit.history],
        "cpu": cpu,
        "ranking": ranking,
        "ranking_cpu": ranking_cpu,
        **coarse,
        "peak_mb": round(peak),
        "fold_in": fold_in,
        "fold_in_users": len(some),
        "fold_in_events": int(some.histories.lengths.sum()),
        "fold_in_steps": steps,
        "peak_mb_with_fold_in": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(made))


if __name__ == "__main__":
    main()
