"""From a raw log to a leaderboard, by the commands alone."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.cli.shell import benchbed

BENCHMARK = """
name: walk
dataset: walk
split: {kind: leave_one_out, seeds: [1]}
evaluation: {metrics: [recall, ndcg], cutoffs: [5, 10], select_by: ndcg@10, seen_items: keep}
models: [gru4rec]
search: {trials: 3, seconds_per_trial: 60, max_epochs: 2, seed: 5}
final: {seeds: [1, 2], patience: 1, max_epochs: 2}
"""
CARD = """
name: walk
tables:
  interactions: {reader: csv, files: [walk.log], separator: "::", header: false, columns: {user: 0, item: 1, timestamp: 2}}
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log, a card and a benchmark file, prepared, swept and reported."""
    folder = tmp_path_factory.mktemp("walk")
    rng = np.random.default_rng(0)
    lines = []
    for user in range(120):
        steps = np.where(rng.random(20) < 0.85, 1, rng.integers(1, 30, 20))
        for when, item in enumerate((rng.integers(30) + np.cumsum(steps)) % 30):
            lines.append(f"u{user}::i{item}::{1000 * user + when}")
    (folder / "walk.log").write_text("\n".join(lines))
    (folder / "datasets").mkdir()
    (folder / "datasets/walk.yaml").write_text(CARD)
    (folder / "walk.yaml").write_text(BENCHMARK)
    for command in (("prepare", "walk", "--raw", "."), ("sweep", "walk.yaml"), ("report", "walk.yaml")):
        said = benchbed(*command, cwd=folder)
        assert said.returncode == 0, said.stderr + said.stdout
    return folder


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "reports/walk/leaderboard.csv").open(newline="") as file:
        return {row["model"]: row for row in csv.DictReader(file)}


def test_every_model_has_exactly_its_budget(swept: Path) -> None:
    studies = json.loads(benchbed("status", "walk.yaml", "--json", cwd=swept).stdout)["studies"]
    spent = {(study["stage"], study["model"]): (study["spent"], study["running"]) for study in studies}
    expected = {("search", name): (3, 0) for name in ("gru4rec", "markov", "item_knn", "ease", "ials")} | {
        ("search", "popularity"): (1, 0)
    }
    expected |= {("final", name): (1, 0) for name in ("popularity", "markov", "item_knn", "ease")} | {
        ("final", name): (2, 0) for name in ("gru4rec", "ials")
    }
    assert spent == expected


def test_the_table_is_plain_numbers_and_the_chain_wins_a_walk(swept: Path) -> None:
    found = rows(swept)
    assert set(found) == {"gru4rec", "popularity", "markov", "item_knn", "ease", "ials"}
    first = (swept / "reports/walk/leaderboard.csv").read_text().splitlines()[0]
    assert first.startswith("rank,model,variant,user_mode,recall@5,recall@5_std,")
    assert float(found["markov"]["ndcg@10"]) > 0.5 > float(found["popularity"]["ndcg@10"])
    assert found["markov"]["rank"] == "1"


def test_the_page_stands_alone_and_names_each_opening_of_the_vault(swept: Path) -> None:
    page = (swept / "reports/walk/leaderboard.html").read_text()
    assert not re.search(r"""<link(?![^>]*href="data:)|@import|\bsrc\s*=\s*["']?(?!data:)|url\(\s*["']?(?:https?:)?//""", page)
    openings = (next(swept.glob(".benchbed/data/walk/splits/*/vault/openings.jsonl"))).read_text().splitlines()
    assert len(openings) == 8
    assert not any(json.loads(line).get("repeated") for line in openings)


def test_mlflow_holds_one_run_a_trial(swept: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{swept}/.benchbed/mlflow.db")
    experiment = client.get_experiment_by_name("walk")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    kinds = [run.data.tags["benchbed.kind"] for run in runs]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"model": 6, "trial": 16, "final": 8}
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    keys = [run.data.tags["benchbed.key"] for run in runs if "benchbed.key" in run.data.tags]
    assert len(keys) == len(set(keys)) == 30


def test_the_same_command_again_runs_nothing(swept: Path) -> None:
    journal = {path: path.stat().st_size for path in swept.glob(".benchbed/data/walk/splits/*/vault/openings.jsonl")}
    said = benchbed("sweep", "walk.yaml", cwd=swept)
    assert said.returncode == 0, said.stderr
    assert "COMPLETE" not in said.stderr
    assert journal == {path: path.stat().st_size for path in journal}


def test_more_trials_continue_the_studies(swept: Path) -> None:
    said = benchbed("sweep", "walk.yaml", "--trials", "4", "--models", "ease", cwd=swept)
    assert said.returncode == 0, said.stderr
    ended = [line for line in said.stderr.splitlines() if "search" in line and "ease #" in line]
    assert len(ended) == 1 and "ease #3" in ended[0] and "[4/4]" in ended[0]
