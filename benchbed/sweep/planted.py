"""A benchmark over several simulated shops, and the verdict on what was claimed of them beforehand.

::

    python -m benchbed.sweep.planted reports/bazaar-interests/benchmark.yaml --simulator-seeds 1 2 3 4 5 --workspace DIR

Beside the benchmark lies ``claims.yaml``. Every simulator seed is a dataset of its own, by the benchmark's card with its seed
replaced, and a sweep of its own, with all that a sweep has: searches, final runs, vault, record. The same command continues.
``planted.md``, ``planted.json`` and ``planted.svg`` go beside the benchmark, anew after every shop.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from benchbed.config import Document, check, read_document
from benchbed.data.card import find_card, load_card
from benchbed.data.load import load_training_data
from benchbed.data.simulate import Truth, read_truth
from benchbed.data.split.make import PreparedSplit
from benchbed.engine.connect import cluster
from benchbed.errors import BenchbedError, ConfigError, Interrupted, Problem, SweepError, nearest
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.lookup import find_benchmark, load_benchmark
from benchbed.sweep.planted_claims import Claims, Shop
from benchbed.sweep.planted_page import write_planted
from benchbed.sweep.planted_targets import column_of, late_targets, partial_values
from benchbed.sweep.preflight import all_models
from benchbed.sweep.stages import run_sweep
from benchbed.tracking.reading import RunRecord, SweepRecord, read_cases, read_sweep, send_outstanding, store_uri
from benchbed.workspace import Workspace, replacing

DECLARED = "claims.yaml"


def load_claims(path: Path, benchmark: Benchmark) -> Claims:
    """The claims that lie beside a benchmark.

    Raises
    ------
    ConfigError
        With every mistake of the file; rows and columns must be those of the benchmark.
    """
    if not path.is_file():
        raise ConfigError([Problem("there is no such file: what is expected is declared before anything runs", str(path))])

    def fits(document: Document, claims: Claims | None) -> list[Problem]:
        if claims is None:
            return []
        wrong = []
        for said, known in (
            (claims.rows, all_models(benchmark)),
            ({claims.metric, *claims.also}, benchmark.evaluation.columns),
        ):
            wrong += [
                Problem(f"the benchmark has no '{name}'", document.source, suggestion=nearest(name, known))
                for name in sorted(said - set(known))
            ]
        launches = (load_card(benchmark.dataset).simulate or {}).get("launches")
        if claims.parts and not (launches and benchmark.split.kind == "temporal" and benchmark.evaluation.targets == "rest"):
            message = "claims about launched targets want a shop with launches, a temporal split and `targets: rest`"
            wrong.append(Problem(message, document.source))
        return wrong

    claims, problems = check(read_document(path), Claims, more=fits)
    if claims is None:
        raise ConfigError(problems)
    return claims


def shop_benchmark(benchmark: Benchmark, seed: int, workspace: Workspace) -> Benchmark:
    """The benchmark on the shop of another simulator seed; its card is written to the workspace.

    Raises
    ------
    ConfigError
        The benchmark's data are not simulated, or its protocol has no ceiling.
    """
    card = load_card(benchmark.dataset)
    if card.simulate is None:
        raise ConfigError([Problem(f"the dataset '{card.name}' is not simulated, so nothing is planted in it", key="dataset")])
    if benchmark.evaluation.seen_items != "exclude" or len(benchmark.split.seeds) != 1:
        message = "the ceiling is that of `seen_items: exclude`, and every shop has one split seed"
        raise ConfigError([Problem(message, key="evaluation.seen_items")])
    values: dict[str, Any] = dict(read_document(find_card(benchmark.dataset)).values)
    values |= {"name": f"{card.name}-{seed}", "simulate": {**card.simulate, "seed": seed}}
    path = workspace.root / "planted" / f"{card.name}-{seed}.yaml"
    with replacing(path) as temporary:
        temporary.write_text(yaml.safe_dump(values, sort_keys=False))
    changed = benchmark.model_copy(update={"name": f"{benchmark.name}-{seed}", "dataset": str(path)})
    return changed if benchmark.folder is None else changed.at(benchmark.folder)


def run_shop(benchmark: Benchmark, claims: Claims, seed: int, workspace: Workspace, **options: Any) -> Shop:
    """Run, or continue, the sweep of one simulator seed, and read what it gave.

    Raises
    ------
    Interrupted
        It was stopped from outside.
    SweepError
        A row has no test result, or there are too few test users.
    """
    asked = shop_benchmark(benchmark, seed, workspace)
    outcome = run_sweep(asked, workspace, **options)
    if outcome.interrupted:
        raise Interrupted(f"The sweep of simulator seed {seed} was interrupted.", advice="The same command continues it.")
    send_outstanding(workspace.sweep(asked.name), workspace)
    uri = store_uri(workspace)
    record = read_sweep(uri, asked.name, outcome.sweep)
    columns = (claims.metric, *claims.also)
    ranks: dict[str, list[Any]] = {}
    wanted = ["user", *columns, *(["target_ranks"] if claims.parts else [])]
    values: dict[str, dict[str, Any]] = {column: {} for column in columns}
    about: dict[str, dict[str, Any]] = {}
    users: np.ndarray | None = None
    for row in (name for name in all_models(benchmark) if name in record.facts["models"]):
        runs = _tested(record, row, claims.metric)
        frames = [frame for run in runs if (frame := read_cases(uri, run, wanted)) is not None]
        if not frames:
            raise SweepError(
                f"{row} has no test result at simulator seed {seed}: {'; '.join(outcome.untested) or 'see its trials'}.",
                advice=f"Look at the errors below {workspace.sweep(asked.name) / 'trials'}.",
            )
        if users is None:
            users = frames[0]["user"].to_numpy()
        if not all(np.array_equal(frame["user"].to_numpy(), users) for frame in frames):
            raise SweepError(f"{row} was tested on other users than the rows before it, at simulator seed {seed}.")
        for column in columns:
            values[column][row] = np.stack([frame[column].to_numpy(dtype=float) for frame in frames])
        if claims.parts:
            ranks[row] = [frame["target_ranks"].tolist() for frame in frames]
        about[row] = _about(record, row, runs)
    assert users is not None
    if len(users) < claims.test_users:
        raise SweepError(f"Simulator seed {seed} has {len(users)} test users; the claims ask for {claims.test_users}.")
    folder = workspace.dataset(load_card(asked.dataset).name)
    split = PreparedSplit.open(folder / "splits" / record.facts["splits"][0]["split_id"])
    truth, numbers = planted_users(split, asked, users)
    if claims.parts:
        late = late_targets(truth, numbers, split.manifest["edges"]["test"])
        for part in claims.parts:
            values[column_of(claims.metric, part)] = {
                row: np.stack([partial_values(seed_ranks, late, claims.metric, part) for seed_ranks in each])
                for row, each in ranks.items()
            }
    commit = str((record.facts.get("git") or {}).get("commit", ""))
    return Shop(seed, planted_interests(truth, numbers), values, about, commit)


def planted_users(split: PreparedSplit, benchmark: Benchmark, users: np.ndarray) -> tuple[Truth, np.ndarray]:
    """The truth of a shop, and the numbers that users of the dataset have in it."""
    planted = load_training_data(split.folder, benchmark.evaluation).planted
    assert planted is not None
    truth = read_truth(planted.truth)
    table = pq.read_table(planted.users, columns=["index", "id"])
    name = dict(zip(table["index"].to_pylist(), table["id"].to_pylist(), strict=True))
    return truth, np.array([truth.users[name[user]] for user in users.tolist()], dtype=np.int64)


def planted_interests(truth: Truth, users: np.ndarray) -> np.ndarray:
    """How many categories each user likes; the number never changes, though the categories do."""
    number: np.ndarray = (truth.events["interests"][truth.first[users]] >= 0).sum(axis=1)
    return number


def _tested(record: SweepRecord, row: str, column: str) -> list[RunRecord]:
    """Final runs of a row with a test result, in order of their seeds."""
    asked = set(record.benchmark["final"]["seeds"])
    runs = [run for run in record.finals if run.model == row and run.seed in asked]
    return sorted((run for run in runs if math.isfinite(run.test.get(column, math.nan))), key=lambda run: run.seed or 0)


def _about(record: SweepRecord, row: str, runs: Sequence[RunRecord]) -> dict[str, Any]:
    """What a reader needs to judge a row: configuration, budget spent, seeds without a result, epochs."""
    told = record.facts["models"][row]
    trials = [run for run in record.trials if run.model == row]
    planned = 1 if told["trained_by"] == "counting" else len(record.benchmark["final"]["seeds"])
    space = told["space"]
    searched = {
        *space["parameters"],
        *(key for joint in space["joint"].values() for key in next(iter(joint["choices"].values()))),
    }
    return {
        "variant": runs[0].variant,
        "tuned": {key: value for key, value in runs[0].parameters.items() if key in searched},
        "trials": {state: sum(run.state == state for run in trials) for state in ("COMPLETE", "PRUNED", "FAIL")},
        "search_seconds": round(sum(run.seconds for run in trials), 1),
        "final_seconds": round(sum(run.seconds for run in runs), 1),
        "seeds_missing": planned - len(runs),
        "best_epochs": [int(run.closed.get("best_epoch") or 0) for run in runs],
        "epochs": [len(run.epochs) for run in runs],
    }


def run_planted(path: Path, seeds: Sequence[int], workspace: Workspace, out: Path | None = None, **options: Any) -> list[Shop]:
    """Run a benchmark on the shops of several simulator seeds; writes the report after each.

    Parameters
    ----------
    path
        The benchmark file, with ``claims.yaml`` beside it.
    seeds
        Of the simulator.
    workspace
        Where everything lies.
    out
        Folder of the report; None takes that of the benchmark.
    options
        For :func:`benchbed.sweep.stages.run_sweep`.

    Raises
    ------
    BenchbedError
        Whatever stops a sweep; the same call continues.
    """
    benchmark = load_benchmark(path)
    claims = load_claims(path.parent / DECLARED, benchmark)
    shops: list[Shop] = []
    with cluster():  # one Ray for all: a process that starts a second one may be ended by what is left of the first
        for seed in seeds:
            shops.append(run_shop(benchmark, claims, seed, workspace, **options))
            write_planted(out or path.parent, benchmark, claims, shops)
            print(f"{benchmark.name}: simulator seed {seed} is through ({len(shops)} of {len(seeds)})", flush=True)
    return shops


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchbed.sweep.planted", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("benchmark", help="a benchmark file with claims.yaml beside it, or its name")
    parser.add_argument("--simulator-seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], metavar="SEED")
    parser.add_argument("--workspace", default=None, help="default: $BENCHBED_HOME, else ./.benchbed")
    parser.add_argument("--out", type=Path, default=None, help="folder of the report (default: that of the benchmark)")
    given = parser.parse_args(words)
    try:
        path = find_benchmark(given.benchmark)
        run_planted(path, given.simulator_seeds, Workspace.open(given.workspace), given.out)
    except BenchbedError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
