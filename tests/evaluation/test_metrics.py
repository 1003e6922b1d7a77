"""Metrics agree with hand-made cases, with numpy goldens written out, and with an independent library."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchbed.data.dataset import Ragged
from benchbed.evaluation.metrics import metric_values


def one(ranks: list[int], column: str, repeats: list[int] | None = None) -> float:
    return float(metric_values(Ragged.of([ranks]), [column], None if repeats is None else np.array(repeats))[column][0])


@pytest.mark.fidelity("T1")
def test_hand_made_list() -> None:
    # ranked list [7, 3, 9, 1, 5], targets {1, 2, 3}: 3 stands at rank 2, 1 at rank 4, 2 is not in the list
    ranks = [4, 99, 2]
    assert one(ranks, "recall@5") == pytest.approx(2 / 3)
    assert one(ranks, "hit_rate@5") == 1
    assert one(ranks, "ndcg@5") == pytest.approx(0.4981892575, abs=1e-10)
    assert one(ranks, "mrr@5") == pytest.approx(0.5)
    assert one(ranks, "mrr@1") == 0
    assert one(ranks, "precision@5") == pytest.approx(0.4)
    assert one(ranks, "map@5") == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert one(ranks, "recall_thudm@5") == pytest.approx(2 / 3)
    assert one(ranks, "recall_min@5") == pytest.approx(2 / 3)
    assert one(ranks, "ndcg_thudm@5") == pytest.approx(0.6509209298, abs=1e-10)


@pytest.mark.fidelity("T1")
def test_short_list_of_many_targets() -> None:
    # N = 2, list [3, 9], targets {1, 2, 3, 4}
    ranks = [50, 51, 1, 52]
    assert one(ranks, "recall@2") == pytest.approx(0.25)
    assert one(ranks, "ndcg@2") == pytest.approx(0.6131471928, abs=1e-10)
    assert one(ranks, "recall_thudm@2") == pytest.approx(0.25)
    assert one(ranks, "recall_min@2") == pytest.approx(0.5)
    assert one(ranks, "ndcg_thudm@2") == 1.0


@pytest.mark.fidelity("T1", "T2")
def test_repeated_targets_count_once_but_in_the_authors_recall() -> None:
    # ranked list [7, 3, 9, 1, 5], targets [3, 3, 2]: 3 stands at rank 2, twice in the target list
    ranks, repeats = [2, 99], [2, 1]
    assert one(ranks, "recall@5", repeats) == pytest.approx(0.5)
    assert one(ranks, "ndcg@5", repeats) == pytest.approx(0.3868528072, abs=1e-10)
    assert one(ranks, "recall_thudm@5", repeats) == pytest.approx(1 / 3)
    assert one(ranks, "ndcg_thudm@5", repeats) == pytest.approx(0.6309297536, abs=1e-10)
    several = metric_values(Ragged.of([ranks, [1], [2, 99]]), ["recall_thudm@5"], np.array([2, 1, 3, 1, 1]))
    assert several["recall_thudm@5"] == pytest.approx([1 / 3, 1 / 3, 1 / 2])


def test_without_hits_the_authors_metrics_are_zero() -> None:
    assert [one([30, 0], f"{metric}@5") for metric in ("recall_min", "recall_thudm", "ndcg_thudm")] == [0, 0, 0]


@pytest.mark.fidelity("G17")
def test_cutoff_is_inclusive() -> None:
    assert [one([10], f"recall@{k}") for k in (9, 10)] == [0, 1]


@pytest.mark.fidelity("G17")
def test_unknown_targets_are_misses_that_count() -> None:
    assert one([1, 0, 0, 0], "recall@5") == 0.25
    assert one([0, 1], "mrr@5") == 1.0
    assert one([0, 1], "ndcg@5") == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert one([0, 0], "ndcg@5") == 0


def test_perfect_lists_score_one_whatever_the_number_of_targets() -> None:
    for n in (1, 3, 10, 30):
        for metric in ("ndcg", "map", "mrr", "hit_rate"):
            assert one(list(range(1, n + 1)), f"{metric}@10") == pytest.approx(1.0)


def test_agrees_with_trec_eval() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    rng = np.random.default_rng(3)
    n_items, cases = 60, 40
    rows, relevance, lists = [], {}, {}
    for case in range(cases):
        order = rng.permutation(n_items)
        targets = rng.choice(n_items, size=int(rng.integers(1, 15)), replace=False)
        place = np.argsort(order)
        rows.append((place[targets] + 1).tolist())
        relevance[str(case)] = {str(t): 1 for t in targets}
        lists[str(case)] = {str(item): float(n_items - rank) for rank, item in enumerate(order)}
    measures = {"recall.5,10", "ndcg_cut.5,10", "P.5,10", "success.5,10", "recip_rank"}
    theirs = pytrec_eval.RelevanceEvaluator(relevance, measures).evaluate(lists)
    ours = metric_values(
        Ragged.of(rows), [f"{m}@{k}" for m in ("recall", "ndcg", "precision", "hit_rate") for k in (5, 10)] + ["mrr@1000"]
    )
    names = {"recall": "recall", "ndcg": "ndcg_cut", "precision": "P", "hit_rate": "success"}
    for column, values in ours.items():
        metric, k = column.split("@")
        key = "recip_rank" if metric == "mrr" else f"{names[metric]}_{k}"
        np.testing.assert_allclose(values, [theirs[str(case)][key] for case in range(cases)], atol=1e-12, err_msg=column)
