"""MF-BPR, and what it shares with ConvNCF."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.mf_bpr import MFBPR, MFBPRConfig
from benchbed.models.pairwise import Triples
from benchbed.models.two_tables import AdagradInTurn, AdamInTurn
from benchbed.testing.runs import build, finish, open_fit


def test_steps_are_those_of_tensorflows_adagrad() -> None:
    parameter = torch.nn.Parameter(torch.tensor([1.0, -1.0], dtype=torch.float64))
    optimizer, path = AdagradInTurn([parameter], lr=0.1), []
    for gradient in ([0.5, -2.0], [-0.5, 0.0], [1.0, 1.0]):
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        path.append(parameter.tolist())
    by_hand = [[0.9154845745, -0.9012270403], [0.980034297, -0.9012270403], [0.9009773555, -0.9455077846]]
    assert path == [pytest.approx(values, abs=1e-9) for values in by_hand]


@pytest.mark.parametrize("kind", [AdagradInTurn, AdamInTurn])
def test_an_optimiser_rests_while_another_has_its_turn(kind: type[AdagradInTurn | AdamInTurn]) -> None:
    parameter, turn = torch.nn.Parameter(torch.ones(2)), [False]
    optimizer = (
        kind([{"params": [parameter], "lr": 0.1}], turn=lambda: turn[0])
        if kind is AdamInTurn
        else AdagradInTurn([parameter], 0.1, lambda: turn[0])
    )
    parameter.grad = torch.ones(2)
    optimizer.step()
    assert parameter.tolist() == [1.0, 1.0] and not optimizer.state
    turn[0] = True
    optimizer.step()
    assert parameter[0].item() < 1.0


def test_the_objective_is_a_sum_with_squares_of_the_batchs_vectors(ring: TrainingData) -> None:
    model = build(MFBPR, {"embedding_size": 3, "regularisation": 0.5}, ring).double()
    assert isinstance(model, MFBPR)
    users, items = model.user_embedding.weight, model.item_embedding.weight
    batch = Triples(torch.tensor([2, 2]), torch.tensor([5, 6]), torch.tensor([[7], [5]]))
    expected = torch.zeros(())
    for user, item, other in ((2, 5, 7), (2, 6, 5)):
        expected = expected + torch.log1p(torch.exp(-(users[user] @ items[item] - users[user] @ items[other])))
        expected = expected + 0.5 * sum(vector.square().sum() for vector in (users[user], items[item], items[other]))
    torch.testing.assert_close(model.inner_product_objective(batch, 0.5), expected.double())
    assert model.loss(batch).item() == pytest.approx(expected.item() / 2)


@pytest.mark.fidelity("N11")
def test_vectors_start_small(ring: TrainingData) -> None:
    model = build(MFBPR, {"embedding_size": 200}, ring)
    for table in (model.user_embedding.weight, model.item_embedding.weight[1:]):
        assert table.abs().max() <= 0.02 and 0.0085 < table.std() < 0.0092  # 0.01, cut at two standard deviations: 0.0088


def test_it_learns_and_unseen_users_are_folded_in(ring: TrainingData, tmp_path: pytest.TempPathFactory) -> None:
    fit = open_fit(MFBPR, {"embedding_size": 8, "batch_size": 64}, ring, tmp_path, epochs=30)  # type: ignore[arg-type]
    finish(fit)
    assert fit.history[-1].loss < 0.6 * fit.history[0].loss
    held = Histories.of(np.array([900]), type(ring.train.items).of([[3, 4, 5, 6, 7]]))
    scores = fit.model.eval().scores(held)[0]
    assert scores[[3, 4, 5, 6, 7]].mean() > scores[1:].mean() + scores[1:].std()


def test_pairs_and_subsets_are_columns_of_all_scores(ring: TrainingData) -> None:
    model = build(MFBPR, {"embedding_size": 4}, ring)
    assert isinstance(model, MFBPR) and MFBPRConfig().batch_size == 512
    rows, side = torch.randn(5, 4), model.item_side()
    whole = model.row_scores(rows, None, side)
    owner, items = torch.tensor([4, 0, 4]), torch.tensor([1, 9, 40])
    torch.testing.assert_close(model.row_pair_scores(rows, owner, items, side), whole[owner, items])
    torch.testing.assert_close(model.row_scores(rows, items, side), whole[:, items])
