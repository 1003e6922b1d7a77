"""A driver process for the tests of crashes: ``python driver.py WORKSPACE [TRIALS]``, in a folder with a benchmark in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
FOLDERS = [str(TESTS / "engine"), str(TESTS / "search")]
sys.path[:0] = FOLDERS
os.environ["PYTHONPATH"] = os.pathsep.join(FOLDERS)

BENCHMARK = """name: crash
dataset: small
split: {kind: leave_one_out, seeds: [1]}
evaluation: {metrics: [ndcg], cutoffs: [20], select_by: ndcg@20, seen_items: exclude}
models: [fake, other, counting]
baselines: none
search: {trials: 4, seconds_per_trial: 60, pruner: median}
final: {seeds: [7, 8]}
resources: {cpu: 1}
"""
CARD = """name: small
simulate: {name: bazaar, seed: 7, users: 60, items: 100, events: 1500}
tables:
  interactions:
    reader: csv
    files: [interactions.csv]
    columns: {user: user, item: item, timestamp: timestamp}
"""
SPACE = """model: NAME
max_epochs: 6
defaults: {warmth: 0.5}
parameters:
  rate: {low: 0.001, high: 1.0, log: true, source: test}
"""
COUNTING = "model: counting\nmax_epochs: 1\nparameters:\n  depth: {choices: [1, 2, 3], source: test}\n"


def lay_out(folder: Path) -> None:
    """Benchmark, card and search spaces, as a user would have them in the current folder."""
    for name, text in {
        "reports/crash/benchmark.yaml": BENCHMARK,
        "datasets/small.yaml": CARD,
        "search_spaces/fake.yaml": SPACE.replace("NAME", "fake"),
        "search_spaces/other.yaml": SPACE.replace("NAME", "other"),
        "search_spaces/counting.yaml": COUNTING,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def drive(workspace: Path, trials: int | None = None) -> int:
    """Run or continue the sweep; returns its exit code."""
    from search_fakes import fake_models

    from benchbed.errors import BenchbedError
    from benchbed.sweep.lookup import load_benchmark
    from benchbed.sweep.stages import run_sweep
    from benchbed.workspace import Workspace

    with fake_models():
        try:
            outcome = run_sweep(
                load_benchmark("crash"),
                Workspace.open(workspace),
                trials=trials,
                fit_factory="engine_fakes:FakeFit",
                vault="engine_fakes:open_fake_vault",
            )
        except BenchbedError as error:
            print(error)
            return error.exit_code
        print(outcome.summary())
        return outcome.exit_code


if __name__ == "__main__":
    sys.exit(drive(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None))
