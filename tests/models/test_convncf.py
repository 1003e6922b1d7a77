"""ConvNCF: the worked example, its phases, its tables, its scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from benchbed.data.dataset import Ragged, Sequences, TrainingData
from benchbed.errors import ModelError
from benchbed.models import convncf, patch_products
from benchbed.models.convncf import REGULAR, WARM_UP, ConvNCF, ConvNCFConfig
from benchbed.models.mf_bpr import MFBPR
from benchbed.models.pairwise import PRETRAINING, Triples
from benchbed.testing.runs import build, finish, open_fit
from tests.models.towers import convolved, features

SMALL: dict[str, Any] = {"embedding_size": 4, "channels": 5, "batch_size": 64, "pretrain_epochs": 0}
ONE = Triples(torch.tensor([0]), torch.tensor([1]), torch.tensor([[2]]), REGULAR)


def made(data: TrainingData, seed: int = 0, **changes: Any) -> ConvNCF:
    model = build(ConvNCF, {**SMALL, **changes}, data, seed)
    assert isinstance(model, ConvNCF)
    return model


@pytest.fixture
def worked(ring: TrainingData) -> ConvNCF:
    """Two layers of two channels over four numbers, with the weights of the example."""
    model = made(ring, channels=2).double()
    values = {
        "tower.weights.0": [[[[1.0, -1.0], [0.5, 0.0]]], [[[-0.25, 0.5], [1.0, 1.0]]]],
        "tower.biases.0": [0.1, -0.1],
        "tower.weights.1": [
            [[[0.2, 0.1], [-0.3, 0.4]], [[0.5, -0.5], [0.25, 0.1]]],
            [[[1.0, 0.0], [0.0, 1.0]], [[-0.2, 0.2], [0.1, -0.1]]],
        ],
        "tower.biases.1": [0.0, 0.2],
        "head.weight": [[0.7, -0.3]],
        "head.bias": [0.05],
    }
    state = model.state_dict()
    state |= {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    state["user_embedding.weight"][0] = torch.tensor([1.0, -2.0, 0.5, 3.0])
    state["item_embedding.weight"][1:3] = torch.tensor([[2.0, 1.0, -1.0, 0.5], [-1.0, 0.5, 2.0, 1.0]])
    model.load_state_dict(state)
    return model.eval()


@pytest.mark.fidelity("N3", "N8")
def test_the_worked_example(worked: ConvNCF) -> None:
    side, users = worked.item_side(), worked.user_table[:1]
    assert features(worked.tower, users.expand(2, -1), side.items[1:3])[0].tolist() == pytest.approx([0.445, 1.37])
    scores = worked.row_scores(users, torch.tensor([1, 2]), side)[0]
    assert scores.tolist() == pytest.approx([-0.0495, 1.382])
    assert torch.trace(torch.outer(users[0], side.items[1])).item() == pytest.approx((users[0] @ side.items[1]).item()) == 1.0
    warm = Triples(ONE.users, ONE.positives, ONE.negatives, WARM_UP)
    assert worked.objective(warm).item() == pytest.approx(1.6457644307, abs=1e-9)
    assert worked.objective(ONE).item() == pytest.approx(15.9157644307, abs=1e-9)


@pytest.mark.fidelity("N3")
def test_the_loss_of_a_batch_is_the_sum_of_its_triples(worked: ConvNCF) -> None:
    twice = Triples(*(torch.cat([part, part]) for part in (ONE.users, ONE.positives, ONE.negatives)), REGULAR)
    of_the_network = 10.0 * (0.7**2 + 0.3**2 + 0.05**2) + sum(p.square().sum().item() for p in worked.tower.parameters())
    of_the_network += 0.7**2 + 0.3**2 + 0.05**2
    assert worked.objective(twice).item() == pytest.approx(2 * 15.9157644307 - of_the_network, abs=1e-8)
    assert worked.loss(twice).item() == pytest.approx(worked.objective(twice).item() / 2)
    worked.zero_grad()
    worked.loss(twice).backward()
    shown = worked.head.weight.grad
    (whole,) = torch.autograd.grad(worked.objective(twice), worked.head.weight)
    torch.testing.assert_close(shown, whole)


@pytest.mark.fidelity("N4")
def test_the_output_layer_is_penalised_twice(worked: ConvNCF) -> None:
    vectors = worked.vectors(ONE, sparse=False)
    gradient = torch.autograd.grad(worked.penalty(vectors), [worked.head.weight, worked.head.bias])
    torch.testing.assert_close(gradient[0], 2 * (10.0 + 1.0) * worked.head.weight)
    torch.testing.assert_close(gradient[1], 2 * (10.0 + 1.0) * worked.head.bias)


def test_recbole_takes_norms_of_whole_tables_and_weights(ring: TrainingData) -> None:
    model = made(ring, variant="recbole", dropout=0.0, lambda1=0.3, lambda3=0.7).double()
    users, items = model.user_embedding.weight, model.item_embedding.weight
    batch = Triples(torch.tensor([3, 4]), torch.tensor([1, 2]), torch.tensor([[8], [9]]), REGULAR)
    margin = [
        convolved(model.tower, users[batch.users], items[chosen]) @ model.head.weight[0]
        for chosen in (batch.positives, batch.negatives[:, 0])
    ]
    expected = torch.log(1 + torch.exp(margin[1] - margin[0])).sum() + 0.3 * (users.norm() + items.norm())
    expected = expected + 0.7 * (sum(weight.norm() for weight in model.tower.weights) + model.head.weight.norm())
    torch.testing.assert_close(model.objective(batch), expected)
    assert users.std() > 0.8 and made(ring).user_embedding.weight.std() < 0.02


@pytest.mark.fidelity("N2")
def test_the_authors_size(ring: TrainingData) -> None:
    model = made(ring, embedding_size=64, channels=32)
    tables = 64 * (len(ring.train.items) + ring.n_items + 1)
    assert model.size - tables == 20_833


@pytest.mark.fidelity("N1")
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"geometry": [4, 4, 2]}, r"4 x 4 x 2 is 32; what fits is 'auto', or for example \[2, 2, 2, 2, 2, 2\] or \[4, 4, 4\]"),
        ({"geometry": [4, 4, 2, 4]}, "product must be embedding_size, 64, and 4 x 4 x 2 x 4 is 128"),
        ({"geometry": [64, 1]}, "kernel of 1"),
        ({"geometry": []}, "no layer"),
        ({"channels": [1, 32, 32]}, "channels has 3 numbers, but the tower has 6 layers"),
        ({"cnn_kernels": [4, 4, 2, 2]}, "cnn_kernels is called geometry here"),
        ({"pretrain_epochs": 0, "pretrain_learning_rate": 0.1}, "no effect with pretrain_epochs: 0"),
    ],
)
def test_a_tower_that_does_not_end_in_one_place_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ConvNCFConfig.model_validate(given)


@pytest.mark.fidelity("N1")
def test_a_tower_is_derived_from_the_embedding_size() -> None:
    assert ConvNCFConfig(embedding_size=32).kernels == (2, 2, 2, 2, 2)
    assert ConvNCFConfig(embedding_size=48).kernels == (2, 2, 2, 2, 3)
    assert ConvNCFConfig(variant="recbole", embedding_size=16).kernels == (2, 2, 2, 2)
    assert ConvNCFConfig(geometry=(8, 4, 2), channels=(64, 32, 16)).widths == (64, 32, 16)


def first_epoch(model: ConvNCF, seed: int, stop: str) -> None:
    """The updates of the first epoch before the first batch of a phase."""
    optimizers = model.train().optimizers()
    for batch in model.batches(torch.Generator().manual_seed(seed)):
        if batch.phase == stop:
            return
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        model.loss(batch).backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.fidelity("N6")
def test_the_tables_are_those_of_mf_bpr_trained_as_long(ring: TrainingData, tmp_path: Path) -> None:
    """Bit by bit: ConvNCF begins where a run of MF-BPR with the same seed ends."""
    apart = open_fit(MFBPR, {"embedding_size": 4, "batch_size": 64}, ring, tmp_path, seed=3, epochs=4)
    trained = finish(apart).state
    model = made(ring, seed=3, pretrain_epochs=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first_epoch(model, 3, WARM_UP)
    after = model.state_dict()
    for table in ("user_embedding.weight", "item_embedding.weight"):
        assert torch.equal(after[table], trained[table]) and not torch.equal(after[table], before[table])
    for name, value in after.items():
        if name.startswith(("tower", "head")):
            assert torch.equal(value, before[name]), f"{name} moved during the pre-training"
    users, items = torch.tensor([0, 5]), torch.tensor([1, 7])
    inner = (model.user_embedding.weight[users] * model.item_embedding.weight[items]).sum(1)
    side = apart.model.item_side()  # type: ignore[operator]  # an MFBPR
    torch.testing.assert_close(inner, apart.model.row_pair_scores(trained["user_embedding.weight"], users, items, side))  # type: ignore[operator]


@pytest.mark.fidelity("N10")
@pytest.mark.parametrize("wanted", [True, False])
def test_the_first_epoch_has_no_penalties_where_that_is_asked(ring: TrainingData, wanted: bool) -> None:
    model = made(ring, pretrain_epochs=2, warmup_unregularised=wanted)
    phases = [[batch.phase for batch in model.batches(torch.Generator())] for _ in range(2)]
    each = -(-len(ring.train.items.values) // 64)
    first = WARM_UP if wanted else REGULAR
    assert phases == [[PRETRAINING] * (2 * each) + [first] * each, [REGULAR] * each]
    assert model.warm_up_epochs == int(wanted)
    fresh = made(ring)
    fresh.load_state_dict(model.state_dict())
    assert {batch.phase for batch in fresh.batches(torch.Generator())} == {REGULAR}, "the count of epochs is not in the state"


@pytest.mark.fidelity("N10")
def test_the_warm_up_is_one_adagrad_of_its_own_rate(ring: TrainingData) -> None:
    model = made(ring, learning_rate=7.0)
    batch = next(model.batches(torch.Generator().manual_seed(0)))
    optimizers, before = model.optimizers(), {name: value.detach().clone() for name, value in model.named_parameters()}
    model.loss(batch).backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
    gradients = {name: value.grad.to_dense() for name, value in model.named_parameters() if value.grad is not None}
    for optimizer in optimizers:
        optimizer.step()
    for name, value in model.named_parameters():
        step = 0.01 * gradients[name] / (gradients[name].square() + 0.1).sqrt() if name in gradients else torch.zeros(())
        torch.testing.assert_close(value.detach(), before[name] - step)


@pytest.mark.fidelity("N11")
def test_initial_weights(ring: TrainingData) -> None:
    model = made(ring, embedding_size=64, channels=32)
    assert 0.0085 < model.user_embedding.weight.std() < 0.0092
    for weight in model.tower.weights:
        assert weight.abs().max() <= 0.2 and 0.07 < weight.std() < 0.105
    assert all((bias == 0.1).all() for bias in model.tower.biases)


def test_dropout_acts_on_the_output_of_the_tower_in_training_alone(ring: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    plain = convncf.tower_bpr
    monkeypatch.setattr(convncf, "tower_bpr", lambda *given: seen.append(given[5]) or plain(*given))
    model, batch = (
        made(ring, dropout=0.5),
        Triples(torch.arange(50), torch.arange(1, 51) % 40 + 1, torch.ones(50, 1, dtype=torch.int64), REGULAR),
    )
    model.train().loss(batch)
    model.eval().loss(batch)
    assert seen[0].shape == (2, 50, 5) and set(seen[0].unique().tolist()) == {0.0, 2.0} and seen[1] is None


def test_of_several_negatives_the_hardest_is_taken(ring: TrainingData) -> None:
    model = made(ring, variant="recbole", dns=6).eval()
    batch = next(model.batches(torch.Generator().manual_seed(1)))
    assert batch.negatives.shape[1] == 6
    scores = model.row_scores(model.user_table, None, model.item_side())
    expected = scores[batch.users[:, None], batch.negatives].amax(1)
    chosen = model._hardest(batch)
    torch.testing.assert_close(scores[chosen.users, chosen.negatives[:, 0]], expected)
    assert torch.equal(chosen.positives, batch.positives)


def test_scores_are_those_of_the_network_whatever_the_blocks(ring: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(ring, variant="recbole", embedding_size=12, geometry=[3, 2, 2]).eval()
    rows, side = model.user_table[:9], model.item_side()
    items = side.items
    expected = torch.stack([model.head(convolved(model.tower, row.expand_as(items), items))[:, 0] for row in rows])
    owner, some = torch.tensor([8, 0, 3, 3]), torch.tensor([1, 40, 7, 7])
    for pairs in (1, 5, 1000):
        for module in (convncf, patch_products):
            monkeypatch.setattr(module, "pairs_per_block", lambda *_, pairs=pairs: pairs)
        torch.testing.assert_close(model.row_scores(rows, None, side), expected)
        torch.testing.assert_close(model.row_scores(rows, some, side), expected[:, some])
        torch.testing.assert_close(model.row_pair_scores(rows, owner, some, side), expected[owner, some])


@pytest.mark.parametrize("variant", ["authors", "recbole"])
def test_fold_in_descends_the_objective_of_training(ring: TrainingData, variant: str) -> None:
    """The gradient on a user's row is that of the objective on the user's events."""
    model = made(ring, variant=variant, lambda1=0.5, dropout=0.0, batch_size=10_000, warmup_unregularised=False).double().eval()
    users = torch.tensor([4, 4, 4])
    batch = Triples(users, torch.tensor([1, 2, 3]), torch.tensor([[9], [10], [11]]), REGULAR)
    (whole,) = torch.autograd.grad(model.objective(batch), model.user_embedding.weight)
    rows = model.user_table[3:6].detach().requires_grad_()
    loss = model.fold_in_loss(rows, torch.tensor([1, 1, 1]), batch.positives, batch.negatives[:, 0], model.item_side())
    (found,) = torch.autograd.grad(loss, rows)
    torch.testing.assert_close(found[1], whole.to_dense()[4])
    assert not found[[0, 2]].any(), "a row without events moves"


def test_it_learns(ring: TrainingData, tmp_path: Path) -> None:
    parameters = {
        "embedding_size": 8,
        "channels": 8,
        "batch_size": 64,
        "pretrain_epochs": 20,
        "geometry": [4, 2],
        "gamma": 0.0,
        "lambda3": 0.01,
    }
    fit = open_fit(ConvNCF, parameters, ring, tmp_path, epochs=4)
    finish(fit)
    assert fit.history[-1].loss < 0.6 * F.softplus(torch.zeros(())).item()


def test_a_cap_of_seconds_within_pre_training_is_no_epoch(ring: TrainingData, tmp_path: Path) -> None:
    fit = open_fit(ConvNCF, {**SMALL, "pretrain_epochs": 100_000}, ring, tmp_path)
    fit.spec = replace(fit.spec, seconds=0.3)
    with pytest.raises(ModelError, match=r"convncf spent its 0.3 seconds on pre-training") as caught:
        fit.step()
    assert "seconds_per_trial" in str(caught.value.advice) and not fit.history


@pytest.mark.parametrize("kind", [ConvNCF, MFBPR])
def test_there_is_nothing_to_learn_where_everybody_has_met_everything(ring: TrainingData, tmp_path: Path, kind: Any) -> None:
    whole = list(range(1, ring.n_items + 1))
    data = replace(ring, train=Sequences(ring.train.users[:2], Ragged.of([whole, whole])))
    with pytest.raises(ModelError, match="finds nothing to learn from"):
        open_fit(kind, {"embedding_size": 4}, data, tmp_path).step()
