"""Targets among listed negatives: ties go against the model, and nothing but the listed pairs is scored."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Cases, Ragged
from benchbed.data.histories import Histories
from benchbed.errors import DataError, ModelError
from benchbed.evaluation import listed
from benchbed.evaluation.metrics import metric_values
from benchbed.evaluation.protocol import Protocol
from benchbed.evaluation.ranking import Evaluator

ITEMS = 40


def protocol(**keys: Any) -> Protocol:
    given = {"mode": "sampled", "negatives": "shipped", "seen_items": "keep", "cutoffs": [2, 5], "select_by": "ndcg@5"}
    return Protocol.model_validate(given | keys)


class Pairs:
    """A model that scores single pairs and remembers which; a full ranking of it is an error."""

    name = "pairs"

    def __init__(self, table: np.ndarray) -> None:
        self.table = torch.as_tensor(table, dtype=torch.float32)
        self.asked: list[tuple[int, int]] = []
        self.calls: list[int] = []

    def scores(self, histories: Histories, items: torch.Tensor | None = None) -> torch.Tensor:
        raise AssertionError("a full ranking was asked for")

    def pair_scores(self, histories: Histories, owner: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        assert bool((owner.diff() >= 0).all())
        self.calls.append(len(items))
        self.asked += zip(histories.users[owner].tolist(), items.tolist(), strict=True)
        return self.table[histories.users[owner], items]


class Whole:
    """The same scores from a model that only scores everything."""

    name = "whole"

    def __init__(self, table: np.ndarray) -> None:
        self.table = torch.as_tensor(table, dtype=torch.float32)

    def scores(self, histories: Histories, items: torch.Tensor | None = None) -> torch.Tensor:
        return self.table[histories.users]


def world(seed: int, cases: int = 40, levels: int = 5) -> tuple[np.ndarray, Cases]:
    """Scores with many ties; one to three targets, none to nine negatives, unknown items among both."""
    rng = np.random.default_rng(seed)
    targets, others = [], []
    for _ in range(cases):
        order = (rng.permutation(ITEMS) + 1).tolist()
        n = int(rng.integers(1, 4))
        targets.append([*order[:n], *([0] if rng.random() < 0.2 else [])])
        others.append([*order[n : n + int(rng.integers(0, 9))], *([0] if rng.random() < 0.3 else [])])
    table = rng.integers(levels, size=(cases, ITEMS + 1)).astype(float)
    return table, Cases(np.arange(cases), Ragged.of([[]] * cases), Ragged.of(targets), others=Ragged.of(others))


def by_counting(evaluator: Evaluator, table: np.ndarray, case: int) -> list[int]:
    """One more than the negatives that are not below the target and the other targets above it."""
    cases, place = evaluator.cases, evaluator.tie_place.numpy()
    assert cases.others is not None
    ranks = []
    for target in cases.targets[case].tolist():
        own = table[case, target]
        negatives = sum(table[case, other] >= own for other in cases.others[case].tolist() if other)
        rivals = [other for other in cases.targets[case].tolist() if other not in (0, target)]
        ahead = sum((-table[case, other], place[other]) < (-own, place[target]) for other in rivals)
        ranks.append(int(1 + negatives + ahead) if target else 0)
    return ranks


def constant_by_looking(table: np.ndarray, cases: Cases, case: int) -> bool:
    """Whether two candidates or more of a case all have one score."""
    assert cases.others is not None
    known = [item for item in [*cases.targets[case].tolist(), *cases.others[case].tolist()] if item]
    return len(known) > 1 and len({table[case, item] for item in known}) == 1


@pytest.mark.parametrize("block", [1, 13, 2**22])
@pytest.mark.parametrize("kind", [Pairs, Whole])
def test_ranks_equal_a_count_whatever_the_blocks(kind: Any, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "BLOCK_PAIRS", block)
    table, cases = world(3)
    table[:9] = 1.0
    evaluator = Evaluator(cases, ITEMS, protocol())
    model = kind(table)
    ranked = evaluator.rank(model)
    for case in range(len(cases)):
        assert ranked.ranks[case].tolist() == by_counting(evaluator, table, case)
    assert ranked.top_items is None and ranked.labelled is None
    assert ranked.constant == sum(constant_by_looking(table, cases, case) for case in range(len(cases))) > 0
    values = evaluator.evaluate(model)
    assert values == pytest.approx({name: each.mean() for name, each in metric_values(ranked.ranks, values).items()})
    assert all(0 <= value <= 1 for value in values.values())


def test_listed_pairs_are_scored_once_and_no_others() -> None:
    table, cases = world(4)
    assert cases.others is not None
    model = Pairs(table)
    Evaluator(cases, ITEMS, protocol()).rank(model)
    wanted = [
        (case, item)
        for case in range(len(cases))
        for item in [*cases.targets[case].tolist(), *cases.others[case].tolist()]
        if item
    ]
    assert sorted(model.asked) == sorted(wanted)


def test_a_block_holds_a_bounded_number_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "BLOCK_PAIRS", 20)
    table, cases = world(5)
    model = Pairs(table)
    Evaluator(cases, ITEMS, protocol()).rank(model)
    assert len(model.calls) > 5 and max(model.calls) <= 20


def test_no_more_than_a_block_of_pairs_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores, flags and owners of all pairs at once would take 25 bytes a pair."""
    monkeypatch.setattr(listed, "BLOCK_PAIRS", 5_000)
    n, others = 2_000, 300
    wide = Cases(
        np.arange(n),
        Ragged.of([[]] * n),
        Ragged(np.ones(n, np.int64), np.arange(n + 1)),
        others=Ragged(np.tile(np.arange(2, others + 2), n), np.arange(n + 1) * others),
    )

    class Zeros(Pairs):
        def pair_scores(self, histories: Histories, owner: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(items))

    evaluator = Evaluator(wide, others + 1, protocol())
    model = Zeros(np.zeros((1, 1)))
    tracemalloc.start()
    ranked = evaluator.rank(model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (ranked.ranks.values == others + 1).all() and ranked.constant == n
    assert peak < 4 * n * others


@pytest.mark.fidelity("T1", "T3")
def test_the_tie_of_a_target_and_negatives_counts_against_the_model() -> None:
    """The worked example: a target of .5 among .9, .5, .5 and .1 stands fourth."""
    table = np.array([[0, 0.5, 0.9, 0.5, 0.5, 0.1]])
    cases = Cases(np.array([0]), Ragged.of([[]]), Ragged.of([[1]]), others=Ragged.of([[2, 3, 4, 5]]))
    said = protocol(metrics=["ndcg", "hit_rate"])
    evaluator = Evaluator(cases, 5, said)
    assert evaluator.rank(Pairs(table)).ranks.values.tolist() == [4]
    found = evaluator.evaluate(Pairs(table))
    assert found["ndcg@5"] == pytest.approx(math.log(2) / math.log(3 + 2)) == pytest.approx(0.4306765581)
    assert (found["hit_rate@2"], found["hit_rate@5"]) == (0, 1)
    constant = evaluator.rank(Pairs(np.zeros((1, 6))))
    assert constant.ranks.values.tolist() == [5] and constant.constant == 1


def test_infinite_scores_stand_above_items_that_are_no_candidates() -> None:
    cases = Cases(np.array([0]), Ragged.of([[]]), Ragged.of([[1]]), others=Ragged.of([[0, 0, 2]]))
    ranked = Evaluator(cases, 2, protocol()).rank(Pairs(np.array([[9.0, -np.inf, -np.inf]])))
    assert ranked.ranks.values.tolist() == [2]


@pytest.mark.fidelity("T5")
def test_nan_scores_and_wrong_shapes_are_errors() -> None:
    table, cases = world(6)
    table[cases.users[3], cases.targets[3][0]] = np.nan
    with pytest.raises(ModelError, match="NaN"):
        Evaluator(cases, ITEMS, protocol()).rank(Pairs(table))

    class Wrong(Pairs):
        def pair_scores(self, histories: Histories, owner: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(histories), 3)

    with pytest.raises(ModelError, match="shape"):
        Evaluator(cases, ITEMS, protocol()).rank(Wrong(table))


def test_cases_without_negatives_are_refused() -> None:
    _, cases = world(1)
    bare = Cases(cases.users, cases.histories, cases.targets)
    for mode in (protocol(), Protocol(mode="click_through")):
        with pytest.raises(DataError, match="list no negatives"):
            Evaluator(bare, ITEMS, mode)


def test_no_cases_at_all_give_no_ranks() -> None:
    _, cases = world(1)
    none = cases.take(np.zeros(0, np.int64))
    assert len(Evaluator(none, ITEMS, protocol()).rank(Pairs(np.zeros((1, ITEMS + 1)))).ranks.values) == 0
