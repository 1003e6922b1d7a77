"""Time one of our models in a process of its own: `own_epoch.py MODEL SPLIT_FOLDER EPOCHS THREADS [PARAMETERS-AS-JSON]`.

Prints one JSON line last: `targets` of an epoch, `epochs` (seconds of training of each), `whole` (with validation), `cpu` (CPU
seconds of the same), `ranking` (seconds of each of three full rankings of all validation users, metrics included), `values`
(validation ndcg@10 after each epoch) and `peak_mb` (of the whole process).
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    name, folder, epochs, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    parameters = json.loads(sys.argv[5]) if len(sys.argv) > 5 else {}
    import torch

    torch.set_num_threads(threads)
    from benchbed.data.load import load_training_data
    from benchbed.evaluation.protocol import Protocol
    from benchbed.evaluation.ranking import Evaluator
    from benchbed.training.fit import Fit, FitSpec

    protocol = Protocol(metrics=("hit_rate", "ndcg"), cutoffs=(10,), select_by="ndcg@10", seen_items="keep")
    data = load_training_data(folder, protocol)
    spec = FitSpec(name, parameters, 1, epochs, None, None, protocol.model_dump(mode="json"))
    with tempfile.TemporaryDirectory() as scratch:
        fit = Fit(spec, data, folder=Path(scratch))
        cpu = []
        while fit.finished is None:
            used = time.process_time()
            epoch = fit.step()
            cpu.append(time.process_time() - used)
            print(f"  {name} epoch {epoch.number}: {epoch.train_seconds:.2f} s, ndcg@10 {epoch.value:.4f}", flush=True)
        fit.model.eval()
        evaluator, ranking = Evaluator(data.valid, data.n_items, protocol), []
        for _ in range(3):
            started = time.perf_counter()
            evaluator.evaluate(fit.model)
            ranking.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # As the batches count them, after everything was measured: not every way of batching takes every event of the split.
    targets = sum(batch.n_targets for batch in fit.model.batches(torch.Generator()))
    made = {
        "targets": targets,
        "epochs": [epoch.train_seconds for epoch in fit.history],
        "cpu": cpu,
        "whole": [epoch.seconds for epoch in fit.history],
        "values": [epoch.value for epoch in fit.history],
        "ranking": ranking,
        "peak_mb": round(peak),
    }
    print(json.dumps(made))


if __name__ == "__main__":
    main()
