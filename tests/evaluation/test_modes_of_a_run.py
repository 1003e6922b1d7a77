"""From a log through split, training, validation and the vault to the table of a final run, in both labelled modes."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from benchbed.data.card import Card
from benchbed.data.cases import Rules
from benchbed.data.dataset import Ragged
from benchbed.data.histories import Histories
from benchbed.data.load import case_counts, load_training_data
from benchbed.data.prepare import prepare
from benchbed.data.split.make import split_dataset
from benchbed.data.split.spec import SplitSpec
from benchbed.data.vault import open_vault
from benchbed.evaluation.listed import placements
from benchbed.evaluation.metrics import metric_values
from benchbed.evaluation.protocol import Protocol
from benchbed.evaluation.ranking import Evaluator
from benchbed.training.fit import Fit, FitSpec
from benchbed.training.result import TestResult
from benchbed.workspace import Workspace

LOG = {"files": ["log.tsv"], "separator": "\t", "header": False, "columns": {"user": 0, "item": 1, "timestamp": 2}}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Users who like one half of the items each."""
    folder = tmp_path_factory.mktemp("modes")
    rng = np.random.default_rng(0)
    rows = []
    for user in range(60):
        items = rng.permutation(np.arange(user % 2, 60, 2))[: int(rng.integers(6, 20))]
        rows += [f"u{user}\ti{item}\t{time}\n" for time, item in enumerate(items)]
    (folder / "log.tsv").write_text("".join(rows))
    card = Card.model_validate({"name": "halves", "tables": {"interactions": {"reader": "csv", **LOG}}})
    return prepare(card, Workspace.open(folder / "workspace"), folder)


def run_of(dataset: Any, split: dict[str, Any], said: Protocol, model: str, folder: Path) -> tuple[Fit, TestResult]:
    made = split_dataset(dataset, SplitSpec.model_validate(split), 42)
    data = load_training_data(made.folder, said)
    spec = FitSpec(model, {}, 1, 2, None, None, said.model_dump(mode="json"))
    fit = Fit(spec, data, folder=folder)
    while fit.finished is None:
        fit.step()
    cases = open_vault(made.folder, said, model=model, seed=1, by="test", sweep="s", fingerprint=data.fingerprint)
    return fit, fit.test(cases)


def test_a_run_is_chosen_and_tested_among_drawn_negatives(dataset: Any, tmp_path: Path) -> None:
    said = Protocol(mode="sampled", negatives=15, seen_items="exclude", cutoffs=(3,), select_by="ndcg@3")
    fit, result = run_of(dataset, {"kind": "leave_one_out"}, said, "item_knn", tmp_path)
    assert fit.best is not None and set(fit.best.metrics) == set(result.metrics) == set(said.columns)
    table = result.table
    assert set(table.column("n_negatives").to_pylist()) == {15} and "top_items" not in table.column_names
    assert (result.facts["negatives"], "coverage" in result.facts) == (15 * len(table), False)
    assert (result.facts["fewest_negatives"], result.facts["cases_with_fewer_negatives"]) == (15, 0)
    ranks = table.column("target_ranks").combine_chunks()
    given = Ragged(ranks.values.to_numpy().astype(np.int64), ranks.offsets.to_numpy().astype(np.int64))
    assert result.metrics["ndcg@3"] == pytest.approx(metric_values(given, ["ndcg@3"])["ndcg@3"].mean())
    assert given.values.max() <= 16


class Constant:
    """Scores without any information."""

    name = "constant"

    def scores(self, histories: Histories, items: torch.Tensor | None = None) -> torch.Tensor:
        raise AssertionError("a full ranking was asked for")

    def pair_scores(self, histories: Histories, owner: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return torch.full((len(items),), 0.25)


def test_cases_with_fewer_negatives_than_asked_for_are_counted(dataset: Any, tmp_path: Path) -> None:
    """60 items: who has more than 8 of them cannot get 52 others."""
    said = Protocol(mode="sampled", negatives=52, seen_items="exclude", cutoffs=(3,), select_by="ndcg@3")
    _, result = run_of(dataset, {"kind": "leave_one_out"}, said, "popularity", tmp_path)
    lengths = np.array(result.table.column("n_negatives").to_pylist())
    assert result.facts["fewest_negatives"] == lengths.min() < 52
    assert 0 < result.facts["cases_with_fewer_negatives"] == (lengths < 52).sum() < len(lengths)


@pytest.mark.fidelity("T3")
def test_a_model_that_knows_nothing_gets_one_half_under_all_rules_that_are_accepted(dataset: Any) -> None:
    """Rows of items without training events are of one label more often: by themselves they must not make an area."""
    made = split_dataset(dataset, SplitSpec(kind="click_through", ratios=(1, 2, 2)), 3)
    counts = case_counts(made.folder, Rules("keep", mode="click_through"))["valid"]
    assert counts.negatives and counts.unknown_negatives
    assert abs(counts.unknown_targets / counts.targets - counts.unknown_negatives / counts.negatives) > 0.02
    accepted = []
    for candidates, unknown in product((None, "vocabulary", "catalogue"), (None, "miss", "drop")):
        keys = {"candidates": candidates, "unknown_targets": unknown}
        block = {"mode": "click_through"} | {name: value for name, value in keys.items() if value is not None}
        try:
            said = Protocol.model_validate(block)
        except ValidationError as error:
            assert "would not score like chance" in str(error) and candidates == "vocabulary"
            continue
        accepted.append((candidates, unknown))
        data = load_training_data(made.folder, said)
        assert Evaluator(data.valid, data.n_items, said).evaluate(Constant())["auc"] == pytest.approx(0.5, abs=1e-12)
    assert len(accepted) == 7 and (None, None) in accepted


@pytest.mark.parametrize("model", ["item_knn", "ials"])
def test_a_run_is_chosen_and_tested_by_labelled_rows(dataset: Any, tmp_path: Path, model: str) -> None:
    said = Protocol(mode="click_through")
    fit, result = run_of(dataset, {"kind": "click_through"}, said, model, tmp_path)
    assert fit.best is not None and set(fit.best.metrics) == {"auc"} == set(result.metrics)
    table = result.table
    assert table.column("accuracy").null_count == len(table) == result.facts["rows"]
    labels, scores = (table.column(name).to_numpy() for name in ("label", "score"))
    placement, auc = placements(labels, scores)
    assert table.column("placement").to_numpy() == pytest.approx(placement)
    assert result.metrics["auc"] == pytest.approx(auc.mean()) == pytest.approx(placement[labels == 1].mean())
    assert result.metrics["auc"] > 0.6
    assert fit.data.labelled is not None
