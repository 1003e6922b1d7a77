"""Implicit ALS against dense systems, the objective written out, and a fold-in worked out by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Ragged, TrainingData
from benchbed.data.histories import Histories
from benchbed.models.ials import IALS, IALSConfig, Observed, solve_rows

VECTORS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.5]])
"""Four items, after the row of padding."""


def made(data: TrainingData, seed: int = 0, **keys: float) -> IALS:
    torch.manual_seed(seed)
    model = IALS(IALSConfig.model_validate(keys), data)
    model.bind(data, "cpu")
    return model


def ask(histories: list[list[int]]) -> Histories:
    return Histories.of(np.arange(len(histories)), Ragged.of(histories))


def interactions(data: TrainingData) -> np.ndarray:
    """(users, items) of 0 and 1."""
    return np.array(
        [[item in data.train.items[row] for item in range(1, data.n_items + 1)] for row in range(len(data.train.items))], float
    )


def user_step(met: np.ndarray, vectors: np.ndarray, config: IALSConfig) -> np.ndarray:
    """One row after another, each a dense system. Items are solved by the same with ``met`` transposed."""
    solved = []
    for row in met:
        own = vectors[row > 0]
        penalty = config.regularization * (row.sum() + config.unobserved_weight * len(row)) ** config.frequency_exponent
        matrix = config.unobserved_weight * vectors.T @ vectors + own.T @ own + penalty * np.eye(vectors.shape[1])
        solved.append(np.linalg.solve(matrix, own.sum(0)))
    return np.array(solved)


def objective(met: np.ndarray, users: np.ndarray, items: np.ndarray, config: IALSConfig) -> float:
    """Per observed pair, straight from the definition."""
    scores = users @ items.T

    def penalty(met: np.ndarray, vectors: np.ndarray) -> float:
        frequency = (met.sum(1) + config.unobserved_weight * met.shape[1]) ** config.frequency_exponent
        return float(config.regularization * (frequency * (vectors**2).sum(1)).sum())

    loss = (met * (1 - scores) ** 2).sum() + config.unobserved_weight * (scores**2).sum()
    return float(loss + penalty(met, users) + penalty(met.T, items)) / met.sum()


@pytest.mark.fidelity("U6")
def test_fold_in_worked_out_by_hand(make_ring: Callable[..., TrainingData]) -> None:
    data = make_ring(users=5, items=4, longest=5)
    model = made(data, embedding_size=2, unobserved_weight=0.1, regularization=0.2, frequency_exponent=0)
    with torch.no_grad():
        model.items.copy_(torch.tensor(VECTORS))
    # items 1 and 3, one of them twice; (0.1 V'V + vv' + 0.2 I) p = sum of v
    folded = model.user_vectors(ask([[1, 3, 1]]))
    np.testing.assert_allclose(folded[0], [0.7317073171, 0.1626016260], atol=1e-7)
    np.testing.assert_allclose(model.scores(ask([[3, 1]]))[0, 1:], [0.7317073, 0.1626016, 0.8943089, -0.6504065], atol=1e-6)


@pytest.mark.fidelity("U6")
def test_the_precise_solution_worked_out_by_hand() -> None:
    given = Observed(np.array([0, 2, 2]), np.array([1, 3]), "cpu")
    solved, explained = solve_rows(given, torch.tensor(VECTORS), 0.1, torch.tensor([0.2, 0.2]).double())
    np.testing.assert_allclose(solved, [[0.7317073171, 0.1626016260], [0, 0]], atol=1e-8)
    assert float(explained) == pytest.approx(2 * 0.7317073171 + 0.1626016260)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("width", [3, 40])
def test_an_epoch_is_users_then_items_each_solved_alone(
    make_ring: Callable[..., TrainingData], width: int, exponent: float
) -> None:
    data = make_ring(users=25, items=12, longest=20)
    model = made(data, embedding_size=width, frequency_exponent=exponent, regularization=0.05)
    before, met = model.items[1:].double().numpy().copy(), interactions(data)
    loss = model.solve(torch.Generator())
    users = user_step(met, before, model.config)
    items = user_step(met.T, users, model.config)
    np.testing.assert_allclose(model.items[1:], items, atol=1e-6)
    np.testing.assert_allclose(model.mean_user, users.mean(0), atol=1e-6)
    assert loss == pytest.approx(objective(met, users, items, model.config), rel=1e-9)


def test_the_objective_never_rises(make_ring: Callable[..., TrainingData]) -> None:
    data = make_ring()
    model, met = made(data, embedding_size=8), interactions(data)
    values = []
    items = model.items[1:].double().numpy().copy()
    for _ in range(6):
        users = user_step(met, items, model.config)
        values.append(objective(met, users, items, model.config))
        values.append(model.solve(torch.Generator()))
        items = model.items[1:].double().numpy().copy()
    assert all(after <= before * (1 + 1e-7) for before, after in itertools.pairwise(values))
    assert values[-1] < 0.9 * values[0]


def test_short_and_long_histories_are_solved_alike(make_ring: Callable[..., TrainingData]) -> None:
    """Those shorter than half the width by the dual system, the others by the primal: one formula."""
    data = make_ring()
    model = made(data, embedding_size=32)
    model.solve(torch.Generator())
    rows = [list(range(1, n + 1)) for n in (1, 2, 15, 16, 17, 40)]
    met = np.array([[item in row for item in range(1, data.n_items + 1)] for row in rows], float)
    expected = user_step(met, model.items[1:].double().numpy(), model.config)
    np.testing.assert_allclose(model.user_vectors(ask(rows)), expected, atol=1e-6)


@pytest.mark.fidelity("U5")
def test_a_user_is_solved_alike_alone_and_among_others(make_ring: Callable[..., TrainingData]) -> None:
    data = make_ring()
    model = made(data, embedding_size=16)
    model.solve(torch.Generator())
    rows = [data.train.items[row].tolist() for row in range(30)]
    together = model.user_vectors(ask(rows))
    for place, row in enumerate(rows):
        torch.testing.assert_close(model.user_vectors(ask([row]))[0], together[place], rtol=0, atol=1e-7)
    backwards = model.user_vectors(ask(rows[::-1])).flip(0)
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-7)


@pytest.mark.fidelity("U4")
def test_a_user_without_history_is_the_mean_of_the_trained(make_ring: Callable[..., TrainingData]) -> None:
    data = make_ring()
    model = made(data, embedding_size=8)
    for _ in range(3):
        model.solve(torch.Generator())
    torch.testing.assert_close(model.user_vectors(ask([[], [0]])), model.mean_user.expand(2, -1))
    counts = torch.tensor(data.item_counts[1:]).double()
    scores = model.scores(ask([[]]))[0, 1:].double()
    assert torch.corrcoef(torch.stack([scores, counts]))[0, 1] > 0.5  # as popularity would rank


def test_items_without_training_events_score_zero(make_ring: Callable[..., TrainingData]) -> None:
    data = make_ring(users=6, items=40, longest=6)
    assert (data.item_counts[1:] == 0).any()
    model = made(data, embedding_size=4)
    model.solve(torch.Generator())
    unmet = np.flatnonzero(data.item_counts == 0)
    assert not model.scores(ask([[1, 2], []]))[:, unmet].any()


def test_it_learns_which_items_go_together(make_ring: Callable[..., TrainingData]) -> None:
    """Two groups of users, two groups of items: a history of one group is given the rest of it."""
    rng = np.random.default_rng(0)
    rows = [(rng.permutation(10)[:6] + 1 + 10 * (user % 2)).tolist() for user in range(40)]
    base = make_ring(users=40, items=20)
    train = type(base.train)(base.train.users, Ragged.of(rows))
    data = TrainingData("two groups", 20, np.bincount(np.concatenate(rows), minlength=21), base.item_ids, train, base.valid)
    model = made(data, embedding_size=2, regularization=0.03)
    for _ in range(5):
        model.solve(torch.Generator())
    scores = model.scores(ask([[1, 2], [11, 12]]))
    assert scores[0, 3:11].min() > scores[0, 11:].max() and scores[1, 13:].min() > scores[1, 1:11].max()
