"""Ranks are those of a brute-force sort; ties, masks and NaN are as the protocol says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Cases, Ragged
from benchbed.data.histories import Histories
from benchbed.errors import ModelError
from benchbed.evaluation import ranking
from benchbed.evaluation.protocol import Protocol
from benchbed.evaluation.ranking import Evaluator


class Given:
    """A model with given scores, one row a user (users count from 0)."""

    name = "given"

    def __init__(self, scores: np.ndarray) -> None:
        self.table = torch.as_tensor(scores, dtype=torch.float32)

    def scores(self, histories: Histories, items: torch.Tensor | None = None) -> torch.Tensor:
        block = self.table[histories.users]
        return block if items is None else block[:, items]


def world(seed: int, cases: int = 30, items: int = 25, levels: int = 4) -> tuple[np.ndarray, Cases]:
    """Scores with many ties, histories with repeats and unknown items, several targets."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels, size=(cases, items + 1)).astype(float)
    histories, targets = [], []
    for _ in range(cases):
        order = rng.permutation(items) + 1
        cut = int(rng.integers(0, 8))
        histories.append([*order[:cut], *order[: min(cut, 2)], 0])
        targets.append([*order[cut : cut + int(rng.integers(1, 6))], *([0] if rng.random() < 0.3 else [])])
    return scores, Cases(np.arange(cases), Ragged.of(histories), Ragged.of(targets))


def by_sorting(evaluator: Evaluator, scores: np.ndarray, case: int) -> list[int]:
    """The whole list of one case, sorted by score, then by the place of the tie permutation."""
    place = evaluator.tie_place.numpy()
    items = np.arange(1, scores.shape[1])
    if evaluator.protocol.seen_items == "exclude":
        items = np.setdiff1d(items, evaluator.cases.histories[case])
    return sorted(items.tolist(), key=lambda item: (-scores[case, item], place[item]))


@pytest.mark.parametrize("seen", ["exclude", "keep"])
@pytest.mark.parametrize("block", [1, 26 * 7, 2**22])
@pytest.mark.fidelity("G22", "G23")
def test_ranks_and_lists_equal_a_full_sort(seen: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "BLOCK_NUMBERS", block)
    scores, cases = world(5)
    evaluator = Evaluator(cases, 25, Protocol(seen_items=seen))  # type: ignore[arg-type]
    ranked = evaluator.rank(Given(scores), top=12)
    for case in range(len(cases)):
        order = by_sorting(evaluator, scores, case)
        expected = [order.index(target) + 1 if target in order else 0 for target in cases.targets[case].tolist()]
        assert ranked.ranks[case].tolist() == expected
        assert ranked.top_items is not None
        assert ranked.top_items[case].tolist() == order[:12]


def test_lists_shorter_than_asked_are_padded() -> None:
    cases = Cases(np.array([0]), Ragged.of([[1, 2, 3]]), Ragged.of([[4]]))
    ranked = Evaluator(cases, 5, Protocol(seen_items="exclude")).rank(Given(np.ones((1, 6))), top=5)
    assert ranked.top_items is not None and ranked.top_scores is not None
    assert sorted(ranked.top_items[0].tolist()) == [0, 0, 0, 4, 5]
    assert int(np.isnan(ranked.top_scores[0]).sum()) == 3


@pytest.mark.fidelity("T3")
def test_a_constant_model_scores_like_chance() -> None:
    items, cases = 200, 4000
    rng = np.random.default_rng(0)
    targets = [[int(target)] for target in rng.integers(1, items + 1, cases)]
    world = Cases(np.zeros(cases, np.int64), Ragged.of([[]] * cases), Ragged.of(targets))
    protocol = Protocol(metrics=("hit_rate",), cutoffs=(20,), select_by="hit_rate@20", seen_items="keep")
    evaluator = Evaluator(world, items, protocol)
    ranked = evaluator.rank(Given(np.zeros((1, items + 1))))
    assert ranked.constant == cases
    chance = 20 / items
    found = evaluator.evaluate(Given(np.zeros((1, items + 1))))["hit_rate@20"]
    assert found == pytest.approx(chance, abs=4 * (chance / cases) ** 0.5)


def test_the_protocol_seed_orders_ties() -> None:
    _, cases = world(1)
    flat = Given(np.zeros((30, 26)))
    lists = [Evaluator(cases, 25, Protocol(seen_items="keep", seed=seed)).rank(flat, top=5).top_items for seed in (0, 0, 1)]
    assert np.array_equal(lists[0], lists[1])  # type: ignore[arg-type]
    assert not np.array_equal(lists[0], lists[2])  # type: ignore[arg-type]


@pytest.mark.fidelity("T5")
def test_nan_scores_are_an_error() -> None:
    scores, cases = world(2)
    scores[7, 3] = np.nan
    with pytest.raises(ModelError, match="NaN"):
        Evaluator(cases, 25, Protocol(seen_items="exclude")).rank(Given(scores))


def test_infinite_scores_are_ranked_not_lost() -> None:
    cases = Cases(np.array([0]), Ragged.of([[1]]), Ragged.of([[2, 3]]))
    scores = np.array([[0.0, 5.0, -np.inf, np.inf, 0.0]])
    ranked = Evaluator(cases, 4, Protocol(seen_items="exclude")).rank(Given(scores))
    assert ranked.ranks[0].tolist() == [3, 1]


def test_a_wrong_shape_is_an_error() -> None:
    _, cases = world(2)
    with pytest.raises(ModelError, match="shape"):
        Evaluator(cases, 99, Protocol(seen_items="exclude")).rank(Given(np.zeros((30, 26))))
