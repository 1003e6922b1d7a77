"""The ceiling: above every model on a shop whose truth is known, and refused where there is no truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchbed.data.card import load_card
from benchbed.data.dataset import Cases, Ragged, TrainingData
from benchbed.data.histories import Histories
from benchbed.data.load import load_training_data
from benchbed.data.prepare import prepare
from benchbed.data.simulate import read_truth
from benchbed.data.split.make import split_dataset
from benchbed.data.split.spec import SplitSpec
from benchbed.data.vault import open_vault
from benchbed.errors import ConfigError, ModelError
from benchbed.evaluation.metrics import metric_values
from benchbed.evaluation.protocol import Protocol
from benchbed.evaluation.ranking import Evaluator
from benchbed.models.markov import Markov, MarkovConfig
from benchbed.models.oracle import Oracle, OracleConfig
from benchbed.models.popularity import Popularity, PopularityConfig
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.preflight import preflight
from benchbed.workspace import Workspace

PROTOCOL = Protocol(seen_items="exclude")
SHOP = {"name": "bazaar", "seed": 3, "users": 300, "items": 100, "events": 6000, "categories": 8}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def split(workspace: Workspace) -> Path:
    card = load_card("bazaar").model_copy(update={"simulate": SHOP})
    spec = SplitSpec(kind="user_disjoint", ratios=(1, 1, 1), ties="file")
    return split_dataset(prepare(card, workspace), spec, 42).folder


@pytest.fixture(scope="module")
def data(split: Path) -> TrainingData:
    return load_training_data(split, PROTOCOL)


def test_no_model_is_above_the_ceiling(split: Path, data: TrainingData) -> None:
    cases = open_vault(split, PROTOCOL, model="x", seed=0, by="test", sweep="s", fingerprint=data.fingerprint)
    evaluator = Evaluator(cases, data.n_items, PROTOCOL)
    models = [Oracle(OracleConfig(), data), Markov(MarkovConfig(order=3), data), Popularity(PopularityConfig(), data)]
    for model in models:
        model.fit()
    oracle, *others = (metric_values(evaluator.rank(model).ranks, ["recall@10", "ndcg@20"]) for model in models)
    for column, ceiling in oracle.items():
        for other in others:
            gain = ceiling - other[column]
            assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))


def test_the_ceiling_is_calibrated(data: TrainingData) -> None:
    """The hits that the probabilities promise are the hits that come: a ceiling from another state or step would miss."""
    oracle, valid = Oracle(OracleConfig(continuations=2000), data), data.valid
    scores = oracle.scores(Histories.of(valid.users, valid.histories))
    probability, items = scores.topk(10, dim=1)
    wanted = torch.zeros_like(scores)
    wanted[torch.as_tensor(valid.targets.row_of_value), torch.as_tensor(valid.targets.values)] = 1.0
    surprise = (wanted.gather(1, items) - probability).sum(1)
    assert abs(float(surprise.mean())) < 3 * float(surprise.std()) / len(surprise) ** 0.5
    assert float(probability.sum(1).mean()) > 1  # it promises something


def test_scores_are_the_shares_of_futures_that_hold_the_item(data: TrainingData) -> None:
    """Users with one target: the scores of a case sum to one, but for items nobody trained on and repeats."""
    single = Oracle(OracleConfig(events=1), data)
    whole = Oracle(OracleConfig(), data)
    block = Histories.of(data.valid.users, data.valid.histories)
    scores = single.scores(block)[:, 1:]
    assert scores.min() >= 0
    assert 0.97 < float(scores.sum(1).mean()) <= 1.0001
    targets = float(np.mean(data.valid.targets.lengths))
    assert abs(float(whole.scores(block)[:, 1:].sum(1).mean()) - targets) < 0.1 * targets
    seen = torch.zeros_like(scores, dtype=torch.bool)
    known = block.items > 0
    seen[block.rows[known], block.items[known] - 1] = True
    assert float(scores[seen].max()) == 0


def test_every_setting_matters_and_the_same_give_the_same(data: TrainingData) -> None:
    block = Histories.of(data.valid.users[:5], data.valid.histories.take(np.arange(5)))
    first = Oracle(OracleConfig(), data).scores(block)
    assert torch.equal(first, Oracle(OracleConfig(), data).scores(block))
    for changed in ({"seed": 1}, {"events": 1}, {"continuations": 501}):
        assert not torch.equal(first, Oracle(OracleConfig(**changed), data).scores(block))  # type: ignore[arg-type]
    some = torch.tensor([4, 2, 9])
    assert torch.equal(first[:, some], Oracle(OracleConfig(), data).scores(block, some))


@pytest.fixture(scope="module")
def launches(workspace: Workspace) -> Path:
    shop = SHOP | {"users": 1200, "events": 12_000, "launches": 0.15}
    card = load_card("bazaar-launches").model_copy(update={"simulate": shop})
    spec = SplitSpec(kind="temporal", test_days=17.5, ties="file")
    return split_dataset(prepare(card, workspace), spec, 42).folder


CATALOGUE = Protocol(seen_items="exclude", candidates="catalogue")


@pytest.mark.parametrize("part", ["valid", "test"])
def test_the_ceiling_is_calibrated_in_every_stretch_of_time(launches: Path, part: str) -> None:
    """Also for items that were launched since, and for the stretch alone: validation targets end where the test begins."""
    data = load_training_data(launches, CATALOGUE)
    cases = data.valid
    if part == "test":
        cases = open_vault(launches, CATALOGUE, model="x", seed=0, by="test", sweep="s", fingerprint=data.fingerprint)
    assert data.planted is not None and len(data.planted.edges) == 2
    scores = Oracle(OracleConfig(continuations=1000), data).scores(Histories.of(cases.users, cases.histories))
    wanted = torch.zeros_like(scores)
    wanted[torch.as_tensor(cases.targets.row_of_value), torch.as_tensor(cases.targets.values)] = 1.0
    late = np.isin(data.item_ids, read_truth(data.planted.truth).shop.ids[read_truth(data.planted.truth).shop.launch > 0])
    assert late.sum() == 15
    top = torch.zeros_like(scores).scatter_(1, scores.topk(10, dim=1).indices, 1.0)
    for which in (top, torch.ones_like(scores), torch.as_tensor(late).expand_as(scores)):
        surprise = ((wanted - scores) * which).sum(1)
        assert abs(float(surprise.mean())) < 3 * float(surprise.std()) / len(surprise) ** 0.5
    assert float(wanted[:, late].sum() / wanted.sum()) > (0.05 if part == "valid" else 0.2)


def test_no_model_is_above_the_ceiling_of_launches(launches: Path) -> None:
    data = load_training_data(launches, CATALOGUE)
    cases = open_vault(launches, CATALOGUE, model="x", seed=0, by="test", sweep="s", fingerprint=data.fingerprint)
    evaluator = Evaluator(cases, data.n_items, CATALOGUE)
    found = []
    for model in (Oracle(OracleConfig(), data), Markov(MarkovConfig(order=3), data)):
        model.fit()
        found.append(metric_values(evaluator.rank(model).ranks, ["recall@10", "ndcg@20"]))
    for column, ceiling in found[0].items():
        gain = ceiling - found[1][column]
        assert gain.mean() > 3 * gain.std() / np.sqrt(len(gain))


def test_what_is_not_the_beginning_of_a_log_is_refused(data: TrainingData) -> None:
    oracle, valid = Oracle(OracleConfig(), data), data.valid
    turned = Cases(valid.users, Ragged.of([valid.histories[r][::-1].tolist() for r in range(len(valid))]), valid.targets)
    with pytest.raises(ModelError, match="ties: file"):
        oracle.scores(Histories.of(turned.users, turned.histories))
    with pytest.raises(ModelError, match="not the beginning"):
        oracle.scores(Histories.of(valid.users[:1], Ragged.of([[]])))
    assert oracle.scores(Histories.of(valid.users[:0], Ragged.of([]))).shape == (0, data.n_items + 1)


def test_a_moved_workspace_and_a_foreign_truth(data: TrainingData, workspace: Workspace) -> None:
    assert data.planted is not None
    assert data.planted.truth.parent == workspace.raw
    assert len(read_truth(data.planted.truth).shop) == 100
    foreign = replace(data, item_ids=("", *(f"x{n}" for n in range(data.n_items))))
    with pytest.raises(ModelError, match="belongs to another log"):
        Oracle(OracleConfig(), foreign)


def test_ordinary_data_have_no_ceiling(ring: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="oracle needs planted truth"):
        Oracle(OracleConfig(), ring)
    asked = Benchmark(
        name="try",
        dataset="ml-100k",
        split=SplitSpec(kind="leave_one_out"),
        evaluation=PROTOCOL,
        models=("oracle",),
        baselines="none",
    )
    with pytest.raises(ConfigError, match="oracle needs planted truth, and the dataset 'ml-100k' has none"):
        preflight(asked, Workspace(tmp_path))
