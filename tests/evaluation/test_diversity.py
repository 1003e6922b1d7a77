"""Re-ranked lists of real evaluations: pools, ranks of targets, what the result of a final run says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from benchbed.data.dataset import Cases, Features, Ragged, TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ModelError
from benchbed.evaluation import diversity, ranking
from benchbed.evaluation.aggregation import ItemCategories
from benchbed.evaluation.diversity import Variety
from benchbed.evaluation.metrics import metric_values
from benchbed.evaluation.protocol import Protocol
from benchbed.evaluation.ranking import Evaluator, Proposer, RankedCases
from benchbed.models.registry import model_class
from benchbed.training.fit import Fit, FitSpec
from benchbed.training.result import TestResult, chosen_weight, make_result, make_variety

ITEMS, CASES = 60, 40


class TwoInterests:
    """Scores are the larger of two inner products; the first n of each interest are proposed."""

    name = "two interests"

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(3)
        self.users = torch.randn(CASES, 2, 4, generator=random)
        self.vectors = torch.randn(ITEMS + 1, 4, generator=random)

    def each(self, histories: Histories) -> torch.Tensor:
        return self.users[histories.users] @ self.vectors.T

    def scores(self, histories: Histories, items: torch.Tensor | None = None) -> torch.Tensor:
        return self.each(histories).amax(1)


class Proposing(TwoInterests):
    def candidates(self, histories: Histories, n: int, *, exclude_seen: bool = False) -> torch.Tensor:
        products = self.each(histories)
        products[:, :, 0] = -torch.inf
        if exclude_seen:
            products[histories.rows, :, histories.items] = -torch.inf
        return products.topk(n, dim=2).indices.flatten(1)


def world() -> tuple[Cases, Features]:
    random = np.random.default_rng(5)
    histories, targets = [], []
    for _ in range(CASES):
        order = (random.permutation(ITEMS) + 1).tolist()
        histories.append(order[:5])
        targets.append([*order[5 : 5 + int(random.integers(1, 6))], *([0] if random.random() < 0.3 else [])])
    kinds = Features("kind", Ragged.of([[], *([int(n)] for n in random.integers(1, 4, ITEMS))]), ("a", "b", "c"))
    return Cases(np.arange(CASES), Ragged.of(histories), Ragged.of(targets)), kinds


def protocol(**block: Any) -> Protocol:
    keys = {"metrics": ["recall", "ndcg"], "cutoffs": [5, 10], "select_by": "ndcg@10", "seen_items": "exclude"}
    return Protocol.model_validate({**keys, "diversity": {"feature": "kind", "cutoff": 10, **block}})


def ranked(model: TwoInterests, said: Protocol, top: int = 30, weight: float = 0) -> tuple[RankedCases, Variety]:
    cases, kinds = world()
    assert said.diversity is not None
    variety = Variety(said.diversity, ItemCategories.of(kinds), cases, weight)
    return Evaluator(cases, ITEMS, said).rank(model, top=top, variety=variety), variety


@pytest.mark.fidelity("A1")
@pytest.mark.parametrize("model", [TwoInterests(), Proposing()])
@pytest.mark.parametrize("block", [1, 7 * 61, 2**22])
def test_without_weight_lists_and_accuracy_are_the_models_own(
    model: TwoInterests, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "BLOCK_NUMBERS", block)
    monkeypatch.setattr(diversity, "BLOCK_NUMBERS", max(1, block // 9))
    found, variety = ranked(model, protocol(lambdas=[0, 0.5]))
    assert found.top_items is not None
    assert variety.applied.tolist() == found.top_items[:, :10].tolist()
    plain = np.where(found.ranks.values <= 10, found.ranks.values, 0)
    assert variety.reranked(0).ranks.values.tolist() == plain.tolist()
    assert variety.reranked(0).diversity == pytest.approx(variety.own_diversity)
    assert variety.reranked(0.5).diversity.mean() > variety.own_diversity.mean() + 0.01


@pytest.mark.parametrize("seen", ["exclude", "keep"])
def test_the_pool_is_the_union_of_what_every_interest_likes_best(seen: str) -> None:
    model, (cases, _) = Proposing(), world()
    evaluator = Evaluator(cases, ITEMS, protocol().model_copy(update={"seen_items": seen}))
    histories = evaluator.histories.block(0, CASES)
    scores = evaluator._candidate_scores(model.name, model.scores(histories), histories)
    pool, values = evaluator._pool(model, histories, scores, evaluator._head(scores, 30), 6)
    products = model.each(histories)
    for case in range(CASES):
        banned = {0, *(cases.histories[case].tolist() if seen == "exclude" else [])}
        wanted = set()
        for interest in products[case]:
            order = [item for item in interest.argsort(descending=True).tolist() if item not in banned]
            wanted |= set(order[:6])
        listed = [item for item in pool[case].tolist() if item]
        assert set(listed) == wanted and len(listed) == len(wanted)
        assert values[case, : len(listed)].diff().le(0).all()
        assert values[case, : len(listed)].tolist() == scores[case, listed].tolist()


def test_comirec_proposes_and_plain_models_do_not() -> None:
    assert issubclass(model_class("comirec_sa"), Proposer) and not issubclass(model_class("ease"), Proposer)


def test_a_model_without_proposals_is_re_ranked_within_its_first_items() -> None:
    said = protocol(lambdas=[1e6])
    _, variety = ranked(TwoInterests(), said, top=12, weight=1e6)
    found, _ = ranked(TwoInterests(), said, top=12)
    assert found.top_items is not None
    for case in range(CASES):
        assert set(variety.applied[case].tolist()) <= set(found.top_items[case].tolist())


def result_of(said: Protocol, weight: float = 0) -> tuple[TestResult, RankedCases, Variety]:
    cases, kinds = world()
    found, variety = ranked(TwoInterests(), said, weight=weight)
    data: Any = TrainingData("x", ITEMS, np.zeros(1), (), None, cases, {"kind": kinds})  # type: ignore[arg-type]
    return make_result(cases, found, said, data, seconds=1.0, variety=variety), found, variety


def test_the_result_says_accuracy_and_diversity_along_lambda() -> None:
    said = protocol(lambdas=[0, 0.2, 1e6])
    result, found, variety = result_of(said)
    assert set(result.metrics) == {"recall@5", "recall@10", "ndcg@5", "ndcg@10", "diversity@10"}
    assert result.variety is not None and result.variety["cutoff"] == 10 and result.variety["feature"] == "kind"
    curve = result.variety["curve"]
    assert [point["lambda"] for point in curve] == [0, 0.2, 1e6]
    for column in ("recall@10", "ndcg@10", "diversity@10"):
        assert curve[0][column] == pytest.approx(result.metrics[column])
    assert curve[2]["diversity@10"] > curve[0]["diversity@10"]
    assert result.table.column("diversity@10").to_numpy() == pytest.approx(variety.own_diversity)
    whole = metric_values(found.ranks, ["ndcg@10"])["ndcg@10"].mean()
    assert result.metrics["ndcg@10"] == pytest.approx(whole)


def test_a_weight_decides_the_rows_and_leaves_lists_and_ranks_as_they_were() -> None:
    plain, found, _ = result_of(protocol(lambdas=[0, 0.5]))
    applied, _, _ = result_of(protocol(lambdas=[0, 0.5]), weight=0.5)
    assert applied.variety is not None and plain.variety is not None
    assert applied.variety["curve"] == plain.variety["curve"]
    for column in ("recall@10", "ndcg@10", "diversity@10"):
        assert applied.metrics[column] == pytest.approx(plain.variety["curve"][1][column])
    assert applied.metrics["diversity@10"] > plain.metrics["diversity@10"]
    assert applied.table.column("target_ranks").to_pylist() == [found.ranks[case].tolist() for case in range(CASES)]
    assert applied.table.column("top_items").equals(plain.table.column("top_items"))


def test_a_final_run_measures_variety_with_the_features_of_the_data(ring: TrainingData, tmp_path: Path) -> None:
    kinds = Features("kind", Ragged.of([[], *([n % 5 + 1] for n in range(ring.n_items))]), tuple("abcde"))
    data = replace(ring, item_features={"kind": kinds})
    block = protocol(lambdas=[0, 0.5]).model_dump(mode="json")
    spec = FitSpec("popularity", {}, seed=1, max_epochs=1, patience=None, seconds=None, protocol=block)
    fit = Fit(spec, data, folder=tmp_path)
    fit.step()
    result = fit.test(data.valid)
    assert 0 < result.metrics["diversity@10"] <= 1 and result.variety is not None
    assert "diversity@10" not in fit.history[0].metrics  # validation stays as it was


def test_a_feature_that_is_not_there_is_named(ring: TrainingData) -> None:
    data = replace(ring, item_features={"kinds": Features("kinds", Ragged.of([[]]), ())})
    with pytest.raises(ModelError, match="'kind'") as caught:
        make_variety(ring.valid, protocol(), data, torch.device("cpu"))
    assert "kinds" in str(caught.value)


def test_the_weight_of_the_rows_is_the_largest_that_keeps_enough_on_validation() -> None:
    weights = [0, 0.05, 0.1, 0.2, 0.5, 1, 1e6]
    for keep in (0.6, 0.9, 0.99, 1.0):
        said = protocol(lambdas=weights, apply="validation", keep=keep)
        result, found, variety = result_of(said)
        assert result.variety is not None
        curve = {point["lambda"]: point["ndcg@10"] for point in result.variety["curve"]}
        enough = [weight for weight in weights if curve[weight] >= keep * result.metrics["ndcg@10"]]
        assert chosen_weight(variety, found, said, None) == max(enough)
    assert min(curve.values()) < curve[0], "so that a rule was needed"


def test_a_final_run_chooses_its_weight_on_validation_and_never_on_test(ring: TrainingData, tmp_path: Path) -> None:
    kinds = Features("kind", Ragged.of([[], *([n % 5 + 1] for n in range(ring.n_items))]), tuple("abcde"))
    data = replace(ring, item_features={"kind": kinds})
    block = protocol(lambdas=[0, 0.01, 1e6], apply="validation", keep=1.0).model_dump(mode="json")
    spec = FitSpec("markov", {}, seed=1, max_epochs=1, patience=None, seconds=None, protocol=block)
    fit = Fit(spec, data, folder=tmp_path)
    fit.step()
    wrong = replace(data.valid, targets=Ragged(data.valid.targets.values[::-1].copy(), data.valid.targets.offsets))
    weights = [fit.test(cases).variety["weight"] for cases in (data.valid, wrong)]  # type: ignore[index]  # there is one
    assert weights[0] == weights[1] < 1e6


@pytest.mark.parametrize(("keys", "says"), [({"apply": 0.5}, "chosen on validation"), ({"keep": 0.9}, "apply: validation")])
def test_a_weight_by_hand_is_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        protocol(**keys)
