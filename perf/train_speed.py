"""Claim: one epoch of our GRU4Rec takes at most 1/20 of RecBole's, and learns no worse than the prefix form.

MovieLens-100K, leave-one-out, every training target once an epoch, one thread, fp32, embedding 64, hidden 128.

    python perf/train_speed.py gru4rec --peer-python .perf-peer/bin/python     the peer and ours in turn
    python perf/train_speed.py gru4rec --quality 20                           validation after equal epochs, against prefixes

Both may be asked for in one call. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data" / "ml-100k"
THREADS = "1"


def load(raw: Path) -> Any:
    """Training data of the leave-one-out split."""
    from benchbed.data.card import load_card
    from benchbed.data.load import load_training_data
    from benchbed.data.prepare import prepare
    from benchbed.data.split.make import split_dataset
    from benchbed.data.split.spec import SplitSpec
    from benchbed.workspace import Workspace

    workspace = Workspace.open(tempfile.mkdtemp(prefix="benchbed-perf-"))
    split = split_dataset(prepare(load_card("ml-100k"), workspace, raw), SplitSpec(kind="leave_one_out"), 42)
    return load_training_data(split.folder, protocol())


def protocol() -> Any:
    from benchbed.evaluation.protocol import Protocol

    return Protocol(cutoffs=(10,), select_by="ndcg@10", seen_items="exclude")


def run(data: Any, epochs: int, parameters: dict[str, Any], seed: int) -> Any:
    """A finished training run."""
    from benchbed.training.fit import Fit, FitSpec

    spec = FitSpec("gru4rec", parameters, seed, epochs, None, None, protocol().model_dump(mode="json"))
    fit = Fit(spec, data, folder=Path(tempfile.mkdtemp(prefix="benchbed-perf-")))
    while fit.finished is None:
        epoch = fit.step()
        print(f"  {parameters} epoch {epoch.number}: {epoch.train_seconds:.2f} s, ndcg@10 {epoch.value:.4f}", flush=True)
    return fit


def speed(data: Any, peer: str, pairs: int) -> dict[str, Any]:
    """Ours and the peer in turn; the first epoch of each process is a warm-up."""
    ours, theirs, targets = [], [], set()
    for _ in range(pairs):
        command = [peer, str(HERE / "peers" / "recbole_epoch.py"), "GRU4Rec", "2", THREADS]
        with tempfile.TemporaryDirectory() as folder:  # RecBole writes logs where it stands
            said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout
        measured = json.loads(said.strip().splitlines()[-1])
        theirs.append(measured["epochs"][-1])
        targets.add(measured["targets"])
        fit = run(data, 4, {}, seed=1)
        ours.append(statistics.median(epoch.train_seconds for epoch in fit.history[1:]))
        targets.add(fit.facts["train_targets"])
        print(f"  ours {ours[-1]:.2f} s, RecBole {theirs[-1]:.2f} s", flush=True)
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    return {
        "targets": sorted(targets),
        "ours": round(statistics.median(ours), 3),
        "peer": round(statistics.median(theirs), 3),
        "ratio": round(ratio, 1),
        "claim": 20,
        "holds": ratio >= 20 and len(targets) == 1,
    }


def quality(data: Any, epochs: int, seeds: list[int]) -> dict[str, Any]:
    """Paired difference of validation ndcg@10 after equal epochs, users and seeds both counted as noise."""
    from benchbed.evaluation.metrics import metric_values
    from benchbed.evaluation.ranking import Evaluator

    evaluator = Evaluator(data.valid, data.n_items, protocol())
    per_user: dict[str, list[np.ndarray]] = {"windows": [], "prefixes": []}
    for seed in seeds:
        for batching, values in per_user.items():
            fit = run(data, epochs, {"batching": batching}, seed)
            fit.model.eval()
            values.append(metric_values(evaluator.rank(fit.model).ranks, ["ndcg@10"])["ndcg@10"])
    windows, prefixes = (np.stack(values) for values in per_user.values())
    difference = (windows - prefixes).mean(0)
    variance = difference.var(ddof=1) / len(difference)
    if len(seeds) > 1:
        variance += sum(values.mean(1).var(ddof=1) for values in (windows, prefixes)) / len(seeds)
    error = float(variance**0.5)
    return {
        "quality_epochs": epochs,
        "seeds": seeds,
        "windows_ndcg@10": round(float(windows.mean()), 4),
        "prefixes_ndcg@10": round(float(prefixes.mean()), 4),
        "difference": round(float(difference.mean()), 4),
        "standard_error": round(error, 4),
        "not_below": bool(difference.mean() >= -2 * error),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["gru4rec"])
    parser.add_argument("--peer-python", help="python of an environment made from perf/peers/recbole.txt")
    parser.add_argument("--pairs", type=int, default=3, help="how often the two are timed in turn")
    parser.add_argument("--quality", type=int, default=0, metavar="EPOCHS", help="compare with the prefix form after so many")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--raw", type=Path, default=DATA, help="folder with u.data, u.item and u.user")
    arguments = parser.parse_args()
    if not arguments.peer_python and not arguments.quality:
        parser.error("give --peer-python, --quality, or both")
    import torch

    torch.set_num_threads(int(THREADS))
    data = load(arguments.raw)
    made: dict[str, Any] = {"what": "gru4rec training epoch, ml-100k leave-one-out, 1 thread, fp32 (seconds)"}
    if arguments.peer_python:
        made |= speed(data, arguments.peer_python, arguments.pairs)
    if arguments.quality:
        made |= quality(data, arguments.quality, arguments.seeds)
    print(json.dumps(made))
    sys.exit(0)


if __name__ == "__main__":
    main()
