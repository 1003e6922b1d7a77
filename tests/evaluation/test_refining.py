"""Rankings from coarse scores: as far as the largest cutoff they are those of exact scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Cases, Ragged
from benchbed.data.histories import Histories
from benchbed.evaluation import ranking, refining
from benchbed.evaluation.metrics import metric_values
from benchbed.evaluation.protocol import Protocol
from benchbed.evaluation.ranking import Evaluator, NanScores, RankedCases
from tests.evaluation.test_ranking import Given

PROTOCOL = Protocol(cutoffs=(1, 5, 10), select_by="ndcg@10", seen_items="exclude")


class Coarse(Given):
    """Given scores, and scores near them."""

    scores_coarsely = True

    def __init__(self, exact: np.ndarray, coarse: np.ndarray) -> None:
        super().__init__(exact)
        self.rough, self.asked = torch.as_tensor(coarse, dtype=torch.float32), 0

    def coarse_scores(self, histories: Histories) -> Coarse:
        self.users = histories.users
        return self

    def coarse(self, start: int, stop: int) -> torch.Tensor:
        return self.rough[self.users[start:stop]]

    def exact(self, start: int, stop: int) -> torch.Tensor:
        return self.table[self.users[start:stop]]

    def pairs(self, owner: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        self.asked += len(owner)
        return self.table[self.users[owner], items]


def world(seed: int, cases: int = 40, items: int = 400) -> tuple[np.ndarray, Cases]:
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(items) + 1 for _ in range(cases)]
    scores = rng.normal(size=(cases, items + 1))
    targets = [order[5 : 6 + int(rng.integers(4))] for order in orders]
    for row, each in enumerate(targets):
        scores[row, each] += 2.0  # many in the first places
    return scores, Cases(np.arange(cases), Ragged.of([order[:5] for order in orders]), Ragged.of(targets))


def values(ranked: RankedCases) -> dict[str, list[float]]:
    return {name: each.tolist() for name, each in metric_values(ranked.ranks, PROTOCOL.columns, None).items()}


@pytest.mark.parametrize("block", [401 * 7, 2**22])
def test_every_metric_and_list_is_that_of_exact_scores(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "BLOCK_NUMBERS", block)
    alone = []
    for seed in range(10):
        scores, cases = world(seed)
        model = Coarse(scores, scores + np.random.default_rng(seed + 99).uniform(-0.05, 0.05, scores.shape))
        evaluator = Evaluator(cases, 400, PROTOCOL)
        exact, coarse = evaluator.rank(model, top=10), evaluator.rank(model, top=10, coarse=True)
        assert values(exact) == values(coarse)
        assert exact.top_items is not None and coarse.top_items is not None
        assert exact.top_items.tolist() == coarse.top_items.tolist()
        assert np.array_equal(exact.top_scores, coarse.top_scores)
        assert 0 < model.asked < 0.2 * scores.size, "few scores are made anew"
        alone.append(values(evaluator.rank(Given(model.rough.numpy()))) == values(exact))
    assert not any(alone), "coarse scores alone would have done"


def test_the_margin_follows_the_error_that_is_seen() -> None:
    """An item of the exact head whose coarse score lies below the coarse head by two errors is found."""
    exact = np.full((1, 41), -9.0)
    exact[0, 1:5] = [1.0, 1.2, 0.99, 0.5]
    coarse = exact.copy()
    coarse[0, 1:4] = [1.1, 1.3, 0.9]
    cases = Cases(np.array([0]), Ragged.of([[40]]), Ragged.of([[3]]))
    exact[0, 1] = 0.98  # the coarse head holds items 2 and 1, the exact one 2 and 3
    protocol = Protocol(cutoffs=(2,), select_by="ndcg@2", seen_items="exclude")
    model = Coarse(exact, coarse)
    assert Evaluator(cases, 40, protocol).rank(model, coarse=True).ranks.values.tolist() == [2]


def test_one_row_tells_of_an_item_that_is_far_off_in_all() -> None:
    """The best item of everybody seems to be the worst, to all but the few rows that are looked at in full."""
    scores, cases = world(2)
    scores[:, 7] = 9.0
    coarse = scores + 1e-3
    coarse[:, 7] = -50.0
    model, evaluator = Coarse(scores, coarse), Evaluator(cases, 400, PROTOCOL)
    for _ in range(20):  # whichever the rows are
        assert values(evaluator.rank(model, coarse=True)) == values(evaluator.rank(model))


def test_many_scores_that_matter_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that tells nothing apart scores like chance, coarse or not; nobody asks it pair by pair."""
    scores, cases = world(3)
    model = Coarse(np.ones_like(scores), np.ones_like(scores))
    evaluator = Evaluator(cases, 400, PROTOCOL)
    exact, coarse = evaluator.rank(model), evaluator.rank(model, coarse=True)
    assert exact.ranks.values.tolist() == coarse.ranks.values.tolist() and coarse.constant == exact.constant == len(cases)
    assert model.asked == 0
    monkeypatch.setattr(refining, "WORTH", 2.0)
    assert evaluator.rank(model, coarse=True).ranks.values.tolist() == exact.ranks.values.tolist()
    assert model.asked > 0.9 * (scores.size - len(cases) * 6)


def test_nan_behind_finite_coarse_scores_is_an_error() -> None:
    scores, cases = world(1)
    broken = scores.copy()
    broken[:, int(scores[0].argmax())] = np.nan
    with pytest.raises(NanScores):
        Evaluator(cases, 400, PROTOCOL).rank(Coarse(broken, scores), coarse=True)
