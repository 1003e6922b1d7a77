"""Labelled rows: the pooled area under the curve, what makes it up row by row, and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Cases, Ragged
from benchbed.data.histories import Histories
from benchbed.errors import DataError, ModelError
from benchbed.evaluation import listed
from benchbed.evaluation.averages import by_user
from benchbed.evaluation.listed import placements
from benchbed.evaluation.protocol import Protocol
from benchbed.evaluation.ranking import Evaluator
from benchbed.evaluation.significance import Row, Sample, compare

ITEMS = 30


class Given:
    """A model with given scores of users and items."""

    name = "given"

    def __init__(self, table: np.ndarray, *, logits: bool = False) -> None:
        self.table, self.logits = torch.as_tensor(table, dtype=torch.float32), logits

    def scores(self, histories: Histories, items: torch.Tensor | None = None) -> torch.Tensor:
        return self.table[histories.users]

    def pair_scores(self, histories: Histories, owner: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return self.table[histories.users[owner], items]


def world(seed: int, users: int = 50, unknown: float = 0.1) -> Cases:
    """Users with some positive and some negative rows; some have rows of one label only."""
    rng = np.random.default_rng(seed)
    targets, others = [], []
    for _ in range(users):
        order = np.where(rng.random(ITEMS) < unknown, 0, rng.permutation(ITEMS) + 1).tolist()
        cut, end = sorted(rng.integers(0, 12, 2).tolist())
        targets.append(order[:cut])
        others.append(order[cut:end])
    return Cases(np.arange(users), Ragged.of([[]] * users), Ragged.of(targets), others=Ragged.of(others))


def by_pairs(labels: np.ndarray, scores: np.ndarray) -> float:
    """The definition: over all pairs of a positive and a negative, 1 where it is above, 1/2 where they tie."""
    positives, negatives = scores[labels == 1], scores[labels == 0]
    above, equal = positives[:, None] > negatives, positives[:, None] == negatives
    return float((above + 0.5 * equal).mean())


@pytest.mark.parametrize("levels", [2, 5, 10**6])
@pytest.mark.parametrize("unknown", ["miss", "drop"])
def test_the_mean_over_rows_is_the_share_of_pairs_in_order(levels: int, unknown: str) -> None:
    cases = world(1)
    assert cases.others is not None
    table = np.random.default_rng(2).integers(levels, size=(50, ITEMS + 1)).astype(float)
    evaluator = Evaluator(cases, ITEMS, Protocol(mode="click_through", unknown_targets=unknown))  # type: ignore[arg-type]
    rows = evaluator.rank(Given(table)).labelled
    assert rows is not None
    pairs = [
        (user, item, label)
        for user in range(50)
        for label, rows_of_label in ((1, cases.targets), (0, cases.others))
        for item in rows_of_label[user].tolist()
        if item or unknown == "miss"
    ]
    assert list(zip(rows.users.tolist(), rows.items.tolist(), rows.labels.tolist(), strict=True)) == pairs
    labels = np.array([label for _, _, label in pairs])
    scores = np.array([table[user, item] if item else -np.inf for user, item, _ in pairs])
    area = by_pairs(labels, scores)
    for mean in (rows.auc.mean(), rows.placement[labels == 1].mean(), rows.placement[labels == 0].mean()):
        assert mean == pytest.approx(area, abs=1e-12)
    assert evaluator.evaluate(Given(table)) == {"auc": pytest.approx(area, abs=1e-12)}


def test_rows_are_the_same_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    cases, table = world(8), np.random.default_rng(3).integers(3, size=(50, ITEMS + 1)).astype(float)
    found = []
    for block in (1, 7, 2**20):
        monkeypatch.setattr(listed, "BLOCK_PAIRS", block)
        found.append(Evaluator(cases, ITEMS, Protocol(mode="click_through")).rank(Given(table, logits=True)))
    for other in found[:2]:
        assert other.constant == found[-1].constant > 0
        for name in ("users", "items", "labels", "scores", "placement", "auc", "accuracy"):
            assert np.array_equal(getattr(other.labelled, name), getattr(found[-1].labelled, name)), name


@pytest.mark.fidelity("T1")
def test_the_worked_example() -> None:
    probability = torch.tensor([0.9, 0.4, 0.4, 0.2, 0.5], dtype=torch.float64)
    table = np.zeros((1, 6))
    table[0, 1:] = torch.logit(probability).numpy()
    cases = Cases(np.array([0]), Ragged.of([[]]), Ragged.of([[1, 3, 5]]), others=Ragged.of([[2, 4]]))
    found = Evaluator(cases, 5, Protocol(mode="click_through")).evaluate(Given(table, logits=True))
    assert found == {"auc": pytest.approx(0.9166666667), "accuracy": pytest.approx(0.8)}


@pytest.mark.fidelity("T3", "T5")
def test_a_constant_model_has_one_half_and_nan_is_an_error() -> None:
    cases = world(3, unknown=0)
    evaluator = Evaluator(cases, ITEMS, Protocol(mode="click_through"))
    ranked = evaluator.rank(Given(np.zeros((50, ITEMS + 1))))
    assert evaluator.means(ranked)["auc"] == pytest.approx(0.5, abs=1e-12)
    assert cases.others is not None
    assert ranked.constant == int((cases.targets.lengths + cases.others.lengths > 1).sum())
    with pytest.raises(ModelError, match="NaN"):
        evaluator.rank(Given(np.full((50, ITEMS + 1), np.nan)))


def test_accuracy_is_of_logits_alone_and_only_where_asked() -> None:
    cases = world(4)
    table = np.random.default_rng(0).normal(size=(50, ITEMS + 1))
    assert set(Evaluator(cases, ITEMS, Protocol(mode="click_through")).evaluate(Given(table))) == {"auc"}
    assert set(Evaluator(cases, ITEMS, Protocol(mode="click_through")).evaluate(Given(table, logits=True))) == {
        "auc",
        "accuracy",
    }
    alone = Protocol(mode="click_through", metrics=("auc",))
    assert set(Evaluator(cases, ITEMS, alone).evaluate(Given(table, logits=True))) == {"auc"}


def test_rows_of_one_label_are_refused() -> None:
    cases = world(5)
    assert cases.others is not None
    nothing = Ragged.of([[]] * len(cases))
    for positives, negatives, missing in ((cases.targets, nothing, "negative"), (nothing, cases.others, "positive")):
        with pytest.raises(DataError, match=f"no {missing} rows"):
            Evaluator(Cases(cases.users, cases.histories, positives, others=negatives), ITEMS, Protocol(mode="click_through"))


def sampled_users(rng: np.random.Generator, users: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of users who differ in how many they have, in how likely a positive is, and in how well they are told apart."""
    owner = np.repeat(np.arange(users), rng.integers(1, 12, users))
    labels = (rng.random(len(owner)) < rng.beta(2, 3, users)[owner]).astype(np.int64)
    skill = rng.normal(0.7, 0.8, users)[owner]
    scores = np.where(labels == 1, skill, 0) + rng.normal(0, 0.6, users)[owner] + rng.normal(size=len(owner))
    return owner, labels, scores


def as_row(name: str, owner: np.ndarray, values: np.ndarray) -> Row:
    users, means, counts = by_user(owner, values)
    return Row(name, {1: Sample(users, means[None], counts)}, random=False)


def test_the_standard_error_is_that_of_drawing_users_anew() -> None:
    """Of one area, and of the difference of two: as large as the deviation over bootstrap samples of users."""
    rng = np.random.default_rng(11)
    owner, labels, scores = sampled_users(rng, 400)
    other = 0.6 * scores + rng.normal(size=len(scores))
    rows = {name: as_row(name, owner, placements(labels, each)[1]) for name, each in (("a", scores), ("b", other))}
    nothing = as_row("none", owner, np.zeros(len(owner)))
    told = {name: compare([row, nothing]).pairs[0] for name, row in rows.items()}
    told["a less b"] = compare([rows["a"], rows["b"]]).pairs[0]
    places = [np.flatnonzero(owner == user) for user in range(400)]
    drawn: dict[str, list[float]] = {name: [] for name in told}
    for _ in range(300):
        chosen = np.concatenate([places[user] for user in rng.integers(0, 400, 400)])
        areas = [float(placements(labels[chosen], each[chosen])[0][labels[chosen] == 1].mean()) for each in (scores, other)]
        for name, value in zip(told, (*areas, areas[0] - areas[1]), strict=True):
            drawn[name].append(value)
    for name, pair in told.items():
        assert pair.standard_error == pytest.approx(np.std(drawn[name]), rel=0.15), name
    assert told["a"].difference == pytest.approx(by_pairs(labels, scores))


def test_keys_that_would_change_nothing_are_refused() -> None:
    wrong: list[dict[str, Any]] = [
        {"cutoffs": [10]},
        {"seen_items": "exclude"},
        {"targets": "next"},
        {"average": "users"},
        {"seed": 3},
        {"diversity": {"feature": "genre"}},
        {"negatives": 99},
        {"metrics": ["ndcg"]},
        {"select_by": "accuracy"},
        {"select_by": "ndcg@20"},
        {"metrics": ["accuracy"]},
    ]
    for keys in wrong:
        with pytest.raises(ValueError, match=r"click_through|not among the metrics"):
            Protocol.model_validate({"mode": "click_through", **keys})
    for keys in ({}, {"seen_items": "keep", "average": "cases", "metrics": ["auc"]}):
        said = Protocol.model_validate({"mode": "click_through", **keys})
        assert Protocol.model_validate(said.model_dump(mode="json")) == said
