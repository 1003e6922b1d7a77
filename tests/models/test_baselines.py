"""Closed-form models against definitions written out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Cases, Ragged, Sequences, TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ModelError
from benchbed.models.ease import EASE, EASEConfig
from benchbed.models.item_knn import ItemKNN, ItemKNNConfig
from benchbed.models.markov import Markov, MarkovConfig
from benchbed.models.popularity import Popularity, PopularityConfig
from benchbed.models.registry import BASELINES, model_class

ROWS = [[1, 2, 3, 1, 2], [2, 3, 4], [1, 2], [5]]


def tiny() -> TrainingData:
    who = np.arange(1, len(ROWS) + 1)
    return TrainingData(
        "tiny",
        5,
        np.bincount([i for row in ROWS for i in row], minlength=6),
        ("", *"abcde"),
        Sequences(who, Ragged.of(ROWS)),
        Cases(who, Ragged.of(ROWS), Ragged.of([[4]] * len(ROWS))),
    )


def ask(histories: list[list[int]]) -> Histories:
    return Histories.of(np.arange(len(histories)), Ragged.of(histories))


def test_popularity_is_the_count() -> None:
    model = Popularity(PopularityConfig(), tiny())
    assert model.scores(ask([[1], []]))[:, 1:].tolist() == [[3, 4, 2, 1, 1]] * 2


def test_markov_is_the_share_of_followers() -> None:
    model = Markov(MarkovConfig(), tiny())
    model.fit()
    scores = model.scores(ask([[4, 2], [2, 5], []]))
    # after 2 came 3 (users 1 and 2); user 3's 2 was the last event, and so was user 1's second 2
    assert scores[0, 1:].tolist() == [0, 0, 1, 0, 0]
    assert scores[1:, 1:].abs().sum() == 0


def test_markov_mix_adds_the_lags() -> None:
    model = Markov(MarkovConfig(order=2, decay=0.5), tiny())
    model.fit()
    scores = model.scores(ask([[2, 3]]))[0]
    # lag 1 after 3: 1 and 4, one half each; lag 2 after 2: 1 (2-3-1) and 4 (2-3-4), one half each
    assert scores[1:].tolist() == pytest.approx([0.75, 0, 0, 0.75, 0])


def test_item_knn_is_the_cosine_over_users() -> None:
    data = tiny()
    met = np.array([[i in row for i in range(6)] for row in ROWS], dtype=float)
    norms = np.sqrt(met.sum(0))
    cosine = np.divide(met.T @ met, np.outer(norms, norms), out=np.zeros((6, 6)), where=np.outer(norms, norms) > 0)
    np.fill_diagonal(cosine, 0)
    model = ItemKNN(ItemKNNConfig(neighbours=10), data)
    model.fit()
    np.testing.assert_allclose(model.scores(ask([[1, 1, 3]]))[0], cosine[1] + cosine[3], atol=1e-6)


def test_item_knn_keeps_the_nearest_of_each_candidate(make_ring: Callable[..., TrainingData]) -> None:
    data = make_ring(users=80)
    full, cut = (ItemKNN(ItemKNNConfig(neighbours=k), data) for k in (1000, 5))
    full.fit()
    cut.fit()
    assert full.similarity is not None and cut.similarity is not None
    whole, kept = full.similarity.toarray(), cut.similarity.toarray()
    for item in range(1, data.n_items + 1):
        chosen = np.flatnonzero(kept[:, item])
        assert len(chosen) == min(5, np.count_nonzero(whole[:, item]))
        np.testing.assert_allclose(np.sort(kept[chosen, item]), np.sort(whole[:, item])[-len(chosen) :])


def test_ease_is_the_constrained_least_squares_solution() -> None:
    data, regularisation = tiny(), 2.0
    met = np.array([[i in row for i in range(1, 6)] for row in ROWS], dtype=float)
    model = EASE(EASEConfig(regularisation=regularisation), data)
    model.fit()
    weights = model.weights[1:, 1:].numpy()
    assert np.abs(np.diag(weights)).max() == 0
    for item in range(5):  # column by column: ridge regression of an item on all others
        others = [i for i in range(5) if i != item]
        gram = met[:, others].T @ met[:, others] + regularisation * np.eye(4)
        np.testing.assert_allclose(weights[others, item], np.linalg.solve(gram, met[:, others].T @ met[:, item]), atol=1e-5)
    np.testing.assert_allclose(model.scores(ask([[2, 2, 4]]))[0, 1:], weights[1] + weights[3], atol=1e-6)


def test_ease_refuses_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchbed.models.ease.LARGEST", 4)
    with pytest.raises(ModelError, match="5 items"):
        EASE(EASEConfig(), tiny())


@pytest.mark.parametrize("name", [*BASELINES, "gru4rec"])
def test_scores_do_not_depend_on_the_block_and_subsets_are_columns(name: str, make_ring: Callable[..., TrainingData]) -> None:
    data = make_ring()
    kind = model_class(name)
    torch.manual_seed(0)
    model = kind(kind.Config(), data)
    if model.trained_by == "counting":
        model.fit()
    model.eval()
    histories = [[3, 4, 5], [], [0, 7, 0], [9] * 200, [0, 0], [1, 2]]
    with torch.inference_mode():
        together = model.scores(ask(histories))
        assert together.shape == (6, data.n_items + 1)
        assert together[:, 1:].isfinite().all()
        for row, history in enumerate(histories):
            torch.testing.assert_close(model.scores(ask([history]))[0, 1:], together[row, 1:])
        chosen = torch.tensor([5, 2, 31])
        torch.testing.assert_close(model.scores(ask(histories), chosen), together[:, chosen])


@pytest.mark.parametrize("name", [*BASELINES, "gru4rec"])
def test_unknown_items_in_a_history_change_nothing(name: str, make_ring: Callable[..., TrainingData]) -> None:
    kind = model_class(name)
    torch.manual_seed(0)
    model = kind(kind.Config(), make_ring())
    if model.trained_by == "counting":
        model.fit()
    model.eval()
    with torch.inference_mode():
        torch.testing.assert_close(model.scores(ask([[3, 0, 4]]))[:, 1:], model.scores(ask([[3, 4]]))[:, 1:])


def test_size_counts_what_was_learnt() -> None:
    sizes = {}
    for name in ("popularity", "markov", "item_knn", "ease"):
        kind = model_class(name)
        model = kind(kind.Config(), tiny())
        model.fit()
        sizes[name] = model.size
    # followers: 1-2 (twice), 2-3 (twice), 3-1, 3-4; common users: 1-2, 1-3, 2-3, 2-4, 3-4, both ways
    assert sizes == {"popularity": 5, "markov": 4, "item_knn": 10, "ease": 20}
