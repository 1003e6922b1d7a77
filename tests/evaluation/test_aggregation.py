"""Greedy lists against the definition, spelled out; variety of lists against pairs counted by hand."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Features, Ragged
from benchbed.errors import ModelError
from benchbed.evaluation.aggregation import ItemCategories, greedy_lists
from benchbed.evaluation.diversity import list_diversity

SCORES = [0.90, 0.87, 0.80, 0.60, 0.55, 0.50]
ONE_EACH = [[1], [1], [1], [2], [3], [2]]  # a, a, a, b, c, b


def features(rows: list[list[int]]) -> Features:
    """Row 0 is padding."""
    most = max((value for row in rows for value in row), default=0)
    return Features("kind", Ragged.of([[], *rows]), tuple(f"c{n}" for n in range(1, most + 1)))


def listed(scores: list[float] | np.ndarray, rows: list[list[int]], weight: float, n: int, rule: str = "together") -> list[int]:
    """Places (from 0) of the chosen candidates, in order."""
    items = torch.arange(1, len(rows) + 1)[None]
    kinds = ItemCategories.of(features(rows), uncategorised=rule)  # type: ignore[arg-type]
    found = greedy_lists(items, torch.as_tensor(np.asarray(scores), dtype=torch.float64)[None], kinds, weight, n)[0]
    return [item - 1 for item in found.tolist() if item]


def differs(first: list[int], second: list[int]) -> bool:
    return not set(first) & set(second)


def by_pairs(scores: list[float] | np.ndarray, rows: list[list[int]], weight: float, n: int) -> list[int]:
    """The paper's form: score and weight times the number of chosen items that differ."""
    chosen: list[int] = []
    while len(chosen) < min(n, len(rows)):
        rest = [i for i in range(len(rows)) if i not in chosen]
        worth = {i: scores[i] + weight * sum(differs(rows[i], rows[k]) for k in chosen) for i in rest}
        chosen.append(max(rest, key=lambda i: (worth[i], -i)))
    return chosen


def diversity_of(places: list[int], rows: list[list[int]], rule: str = "together") -> float:
    kinds = ItemCategories.of(features(rows), uncategorised=rule)  # type: ignore[arg-type]
    return float(list_diversity(torch.tensor([[place + 1 for place in places]]), kinds)[0])


@pytest.mark.fidelity("A2")
@pytest.mark.parametrize(
    ("weight", "order", "variety"),
    [
        (0.0, [0, 1, 2, 3], 0.5),
        (0.1, [0, 1, 2, 3], 0.5),
        (0.25, [0, 1, 3, 4], 5 / 6),
        (0.3, [0, 3, 1, 4], 5 / 6),
        (0.5, [0, 3, 4, 1], 5 / 6),
        (1.0, [0, 3, 4, 1], 5 / 6),
    ],
)
def test_the_worked_example(weight: float, order: list[int], variety: float) -> None:
    assert listed(SCORES, ONE_EACH, weight, 4) == order
    assert diversity_of(order, ONE_EACH) == pytest.approx(variety, abs=1e-12)


@pytest.mark.fidelity("A2", "A3")
def test_200_random_cases_equal_the_pair_form() -> None:
    random = np.random.default_rng(4)
    for _ in range(200):
        n = int(random.integers(2, 12))
        scores = random.integers(0, 40, n) / 16  # exact in binary, with ties: the order is decided, not rounded
        rows = [sorted({*random.integers(1, 5, random.integers(1, 3)).tolist()}) for _ in range(n)]
        weight, most = float(random.integers(0, 9)) / 8, int(random.integers(1, 14))
        found = listed(scores, rows, weight, most)
        assert found == by_pairs(scores, rows, weight, most)
        assert len(set(found)) == len(found) == min(n, most)
        assert scores[found[0]] == scores.max()


@pytest.mark.fidelity("A1", "A5")
def test_without_weight_the_list_is_the_plain_one() -> None:
    rows = [[1], [], [2], [1], [], [3]]
    assert listed(SCORES, rows, 0, 4) == [0, 1, 2, 3]
    assert listed(SCORES, rows, 0, 4, rule="drop") == [0, 2, 3, 5]


@pytest.mark.fidelity("A5")
def test_items_without_a_category_form_one_or_do_not_count() -> None:
    rows = [[1], [], [], [2]]
    assert listed([0.9, 0.8, 0.7, 0.1], rows, 10, 4) == [0, 1, 3, 2]  # the second without a category is like the first
    assert listed([0.9, 0.8, 0.7, 0.1], rows, 10, 4, rule="drop") == [0, 3]
    assert diversity_of([0, 1, 2, 3], rows) == pytest.approx(5 / 6)
    assert diversity_of([0, 1, 2, 3], rows, rule="drop") == 1.0


@pytest.mark.fidelity("A3")
def test_equal_candidates_are_taken_as_they_come() -> None:
    assert listed([0.5] * 6, ONE_EACH, 0, 6) == [0, 1, 2, 3, 4, 5]
    assert listed([0.5] * 6, ONE_EACH, 1, 6) == [0, 3, 4, 1, 5, 2]


@pytest.mark.fidelity("A4")
def test_few_candidates_give_short_lists() -> None:
    kinds = ItemCategories.of(features(ONE_EACH))
    items = torch.tensor([[4, 1, 0], [0, 0, 0]])
    scores = torch.tensor([[0.6, 0.9, math.nan], [math.nan] * 3])
    assert greedy_lists(items, scores, kinds, 0.5, 4).tolist() == [[1, 4, 0, 0], [0, 0, 0, 0]]
    assert greedy_lists(items[:, :0], scores[:, :0], kinds, 0.5, 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.fidelity("A6")
@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_other_weights_are_refused(weight: float) -> None:
    with pytest.raises(ModelError, match="0 or larger"):
        listed(SCORES, ONE_EACH, weight, 2)


@pytest.mark.fidelity("A7")
def test_diversity_is_of_the_set_and_defined_for_short_lists() -> None:
    random = np.random.default_rng(2)
    rows = [sorted({*random.integers(1, 5, 2).tolist()}) for _ in range(9)]
    places = random.permutation(9)[:6].tolist()
    pairs = [differs(rows[first], rows[second]) for first, second in combinations(places, 2)]
    for _ in range(5):
        random.shuffle(places)
        assert diversity_of(places, rows) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    assert diversity_of([3], rows) == 0.0
    assert list_diversity(torch.zeros(2, 4, dtype=torch.int64), ItemCategories.of(features(rows))).tolist() == [0.0, 0.0]


@pytest.mark.fidelity("A8")
def test_a_large_weight_begins_with_distinct_categories() -> None:
    random = np.random.default_rng(7)
    for _ in range(30):
        rows = [[int(kind)] for kind in random.integers(1, 6, 15)]
        first = listed(random.normal(size=15), rows, 1e9, 10)
        kinds = len({row[0] for row in rows})
        assert len({rows[place][0] for place in first[: min(10, kinds)]}) == min(10, kinds)


def test_users_do_not_touch_each_other() -> None:
    random = torch.Generator().manual_seed(1)
    kinds = ItemCategories.of(features([[int(n)] for n in torch.randint(1, 6, (50,), generator=random)]))
    items = torch.stack([torch.randperm(50, generator=random)[:20] + 1 for _ in range(9)])
    scores = torch.rand(9, 20, generator=random)
    together = greedy_lists(items, scores, kinds, 0.2, 10)
    alone = torch.cat([greedy_lists(items[row : row + 1], scores[row : row + 1], kinds, 0.2, 10) for row in range(9)])
    assert torch.equal(together, alone)
