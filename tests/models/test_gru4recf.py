"""GRU4RecF: its networks, how they are trained, what its configuration refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from benchbed.data.dataset import Ragged, TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ModelError
from benchbed.evaluation.protocol import Protocol
from benchbed.models.gru4recf import GRU4RecF, SubnetBatch
from benchbed.models.gru4recf_config import GRU4RecFConfig
from benchbed.models.negatives import uniform_except
from benchbed.training.fit import Fit, FitSpec
from tests.models.featured import with_features

SMALL = {"embedding_size": 6, "hidden_size": 7, "dropout_embed": 0.0}
HISTORIES = Histories.of(np.array([1, 2, 3, 4]), Ragged.of([[3, 9, 4], [], [0, 5, 0, 6], list(range(1, 31))]))


@pytest.fixture
def data(ring: TrainingData) -> TrainingData:
    return with_features(ring)


def made(data: TrainingData, **options: Any) -> GRU4RecF:
    torch.manual_seed(0)
    model = GRU4RecF(GRU4RecFConfig(**{**SMALL, **options}), data)
    model.bind(data, "cpu")
    return model


def epoch(model: GRU4RecF, seen: Callable[[SubnetBatch], None] | None = None) -> None:
    """One epoch as the training loop does it."""
    model.train()
    optimizers = model.optimizers()
    for batch in model.batches(torch.Generator().manual_seed(0)):
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        model.loss(batch).backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
        if seen is not None:
            seen(batch)


def part_of(name: str) -> str:
    """The subnet that a parameter belongs to."""
    return "features" if "features" in name else "item"


def changed(model: GRU4RecF, before: dict[str, torch.Tensor]) -> set[str]:
    """The subnets of which some parameter is not bit-identical to before."""
    return {part_of(name) for name, now in model.named_parameters() if not torch.equal(now, before[name])}


def snapshot(model: GRU4RecF) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


# ----- the network ------------------------------------------------------------------------------------------------------


def test_the_shared_form_is_recboles_network(data: TrainingData) -> None:
    model = made(data).eval()
    items = torch.tensor([[3, 9, 4]])
    item_states = model.subnets["item"](model.embedding(items))[0][:, -1]
    feature_states = model.subnets["features"](model.features.pooled()[items])[0][:, -1]
    vector = model.project(torch.cat([item_states, feature_states], 1))
    torch.testing.assert_close(model.scores(HISTORIES)[:1], vector @ model.embedding.weight.T)


def fixed_states(monkeypatch: pytest.MonkeyPatch, model: GRU4RecF) -> None:
    """The states of the subnets after any history are those of the numbers below."""
    states = {7: torch.tensor([0.2, -0.4, 0.0]), 8: torch.tensor([0.5, 0.1, -0.3])}
    monkeypatch.setattr(model, "_inputs", lambda name, items, training: {"item": 7, "features": 8}[name])
    monkeypatch.setattr(
        "benchbed.models.gru4recf.newest_states", lambda gru, which, index, lengths: states[which].expand(len(lengths), 3)
    )


@pytest.mark.fidelity("F1")
def test_scores_of_joined_states_are_sums_of_the_subnets_scores_by_hand(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(data, variant="paper", hidden_size=3)
    fixed_states(monkeypatch, model)
    with torch.no_grad():
        model.outputs["item"][1:4] = torch.tensor([[1.0, 2, 0], [0, -1, 0], [0.5, 0.5, 0]])
        model.outputs["features"][1:4] = torch.tensor([[0.1, 0, 1], [1, -1, 0], [0, 2, 0.2]])
    alone = (-0.6, 0.4, -0.1), (-0.25, 0.4, 0.14)
    expected = torch.tensor([[a + b for a, b in zip(*alone, strict=True)]])
    torch.testing.assert_close(expected, torch.tensor([[-0.85, 0.8, 0.04]]))
    torch.testing.assert_close(model.scores(HISTORIES, torch.arange(1, 4))[:1], expected)


def test_the_shared_form_by_hand(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(data, hidden_size=3, embedding_size=2)
    fixed_states(monkeypatch, model)
    with torch.no_grad():
        rows = [[0.3, -0.1], [0.2, 0.4], [0, 0], [0, 1], [-0.5, 0.5], [1, 0]]  # the item state has two numbers and a zero
        model.project.weight.copy_(torch.tensor(rows).T)
        model.project.bias.copy_(torch.tensor([0.01, -0.02]))
        model.embedding.weight[1:4] = torch.tensor([[1.0, 0], [0.5, 0.5], [-1, 2]])
    torch.testing.assert_close(model.scores(HISTORIES, torch.arange(1, 4))[:1], torch.tensor([[-0.36, -0.005, 1.06]]))


@pytest.mark.fidelity("F1")
@pytest.mark.parametrize("architecture", ["parallel", "weighted_sum"])
def test_scores_are_sums_of_the_subnets_scores(data: TrainingData, architecture: str) -> None:
    model = made(data, variant="paper", architecture=architecture).eval()
    shares = {"item": 1.0, "features": 1.0}
    if architecture == "weighted_sum":
        shares = {"item": 0.7, "features": -1.3}
        for name, value in shares.items():
            torch.nn.init.constant_(model.weights[name], value)
    items = torch.tensor([[3, 9, 4]])
    item = model.subnets["item"](model.embedding(items))[0][:, -1] @ model.outputs["item"].T
    features = model.subnets["features"](model.features.pooled()[items])[0][:, -1] @ model.outputs["features"].T
    torch.testing.assert_close(model.scores(HISTORIES)[:1], shares["item"] * item + shares["features"] * features)


@pytest.mark.fidelity("F2")
@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
def test_items_without_features_give_the_scores_of_zero_features(data: TrainingData, pooling: str) -> None:
    model = made(data, features=["tags"], pooling=pooling).eval()
    bare = [item for item in range(1, data.n_items + 1) if item % 4 == 0]  # these have no tags
    scores = model.scores(Histories.of(np.array([1]), Ragged.of([bare])))
    states = model.subnets["item"](model.embedding(torch.tensor([bare])))[0][:, -1]
    expected = model.project(torch.cat([states, torch.zeros_like(states)], 1)) @ model.embedding.weight.T
    torch.testing.assert_close(scores, expected)


@pytest.mark.fidelity("F5")
def test_the_feature_network_knows_no_items(data: TrainingData) -> None:
    model = made(data, variant="paper", architecture="features_only").eval()
    assert not hasattr(model, "embedding")
    twins = [item for item in (6, 7, 8, 9, 10)]
    groups_only = made(data, variant="paper", architecture="features_only", features=["group"]).eval()
    scores = groups_only.scores(Histories.of(np.arange(5), Ragged.of([[1, twin] for twin in twins])))
    assert torch.equal(scores, scores[:1].expand_as(scores)), "items of one group are the same input"
    epoch(model)
    assert model.scores(HISTORIES).isfinite().all()


@pytest.mark.fidelity("F6")
@pytest.mark.parametrize("variant", ["recbole", "paper"])
def test_a_field_matters_and_the_order_of_fields_does_not(data: TrainingData, variant: str) -> None:
    model = made(data, variant=variant, features=["group", "tags"]).eval()
    scores = model.scores(HISTORIES)
    swapped = made(data, variant=variant, features=["tags", "group"]).eval()
    weights = copy.deepcopy(model.state_dict())
    table, (_, end, last) = weights["features.embedding.weight"], model.features.starts
    weights["features.embedding.weight"] = torch.cat([table[:1], table[end + 1 : last + 1], table[1 : end + 1]])
    gates = weights["subnets.features.weight_ih_l0"]
    weights["subnets.features.weight_ih_l0"] = torch.cat([gates[:, 6:], gates[:, :6]], 1)
    swapped.load_state_dict(weights)
    torch.testing.assert_close(swapped.scores(HISTORIES), scores)
    with torch.no_grad():
        model.features.embedding.weight[end + 1 :] = 0.0
    assert not torch.allclose(model.scores(HISTORIES)[0], scores[0])


@pytest.mark.parametrize("architecture", ["parallel", "weighted_sum", "concatenated_input"])
@pytest.mark.parametrize("variant", ["recbole", "paper"])
def test_every_form_learns_and_defines_the_empty_history(data: TrainingData, variant: str, architecture: str) -> None:
    model = made(data, variant=variant, architecture=architecture, learning_rate=0.05, batch_targets=100)
    losses: list[float] = []
    for _ in range(3):
        epoch(model, lambda batch: losses.append(float(model.loss(batch).detach())))
    assert losses[-1] < 0.97 * losses[0]
    scores = model.eval().scores(HISTORIES)
    assert scores.isfinite().all() and not scores[1].any()
    known = Histories.of(np.array([3]), Ragged.of([[5, 6]]))
    torch.testing.assert_close(model.scores(known)[0], scores[2])


# ----- the loss ---------------------------------------------------------------------------------------------------------


def total(model: GRU4RecF) -> torch.Tensor:
    parts = [model.loss(batch) * batch.n_targets for batch in model.batches(torch.Generator().manual_seed(0))]
    return torch.stack(parts).sum()


@pytest.mark.fidelity("G19")
@pytest.mark.parametrize("variant", ["recbole", "paper"])
def test_windows_equal_prefixes_while_the_sequence_fits(data: TrainingData, variant: str) -> None:
    options = {"variant": variant, "loss": "cross-entropy", "window": 40}
    models = [made(data, **options, **more).double() for more in ({"burn_in": 0}, {"batching": "prefixes"})]
    losses = [total(model) for model in models]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-10, atol=0)
    for loss in losses:
        loss.backward()  # type: ignore[no-untyped-call]
    for (name, ours), (_, theirs) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


@pytest.mark.fidelity("G20")
def test_padding_is_left_out_of_the_loss_unless_asked_for(data: TrainingData) -> None:
    for padding in (False, True):
        model = made(data, padding_in_softmax=padding).double()
        batch = next(iter(model.batches(torch.Generator().manual_seed(0))))
        states = model.states(batch.sequences.inputs, ("item", "features")).flatten(0, 1)[batch.sequences.places]
        logits = model.project(states) @ model.embedding.weight.T
        first = 0 if padding else 1
        torch.testing.assert_close(model.loss(batch), F.cross_entropy(logits[:, first:], batch.sequences.targets - first))
        model.loss(batch).backward()  # type: ignore[no-untyped-call]
        assert model.embedding.weight.grad is not None and bool(model.embedding.weight.grad[0].any()) == padding


@pytest.mark.parametrize("loss", ["bpr", "top1"])
@pytest.mark.parametrize("variant", ["recbole", "paper"])
@pytest.mark.parametrize("few", [0, 64])
def test_sampled_losses_are_means_over_the_negatives_of_each_target(
    data: TrainingData, variant: str, loss: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchbed.models.gru4recf.FEW_ITEMS", few)
    model = made(data, variant=variant, loss=loss, n_negatives=3).double()
    batch = next(iter(model.batches(torch.Generator().manual_seed(0))))
    torch.manual_seed(4)
    found = model.loss(batch)
    torch.manual_seed(4)
    targets = batch.sequences.targets
    drawn = uniform_except(targets, data.n_items, 3)
    states = model.states(batch.sequences.inputs, ("item", "features")).flatten(0, 1)[batch.sequences.places]
    users = model.project(states) if variant == "recbole" else states
    scores = users @ model.item_vectors().T
    own, others = scores.gather(1, targets[:, None]), scores.gather(1, drawn)
    if loss == "bpr":
        expected = -F.logsigmoid(own - others).mean()
    else:
        expected = ((others - own).sigmoid() + (others**2).sigmoid()).mean()
    torch.testing.assert_close(found, expected)


# ----- training one subnet at a time ------------------------------------------------------------------------------------


@pytest.mark.fidelity("F4")
@pytest.mark.parametrize("architecture", ["parallel", "weighted_sum"])
def test_alternating_trains_one_subnet_an_epoch_and_leaves_the_other_as_it_was(data: TrainingData, architecture: str) -> None:
    model = made(data, variant="paper", training_mode="alternating", architecture=architecture)
    trained = []
    for _ in range(4):
        before = snapshot(model)
        epoch(model)
        trained.append(changed(model, before))
    assert trained == [{"item"}, {"features"}, {"item"}, {"features"}]


@pytest.mark.fidelity("F4")
def test_residual_trains_the_items_first_and_never_again(data: TrainingData) -> None:
    model = made(data, variant="paper", training_mode="residual", item_epochs=2)
    trained, scores = [], []
    for _ in range(4):
        before = snapshot(model)
        epoch(model)
        trained.append(changed(model, before))
        model.eval()
        alone = model.states(torch.tensor([[3, 9, 4]]), ("item",))[:, -1] @ model.outputs["item"].T
        scores.append(torch.allclose(model.scores(HISTORIES)[:1], alone))
    assert trained == [{"item"}, {"item"}, {"features"}, {"features"}]
    assert scores == [True, True, False, False], "an untrained feature network adds nothing"


@pytest.mark.fidelity("F4")
def test_interleaving_updates_each_subnet_once_a_batch(data: TrainingData) -> None:
    model = made(data, variant="paper", training_mode="interleaving", batch_targets=60, dropout_embed=0.5)
    trained, targets, before = [], 0, snapshot(model)

    def look(batch: SubnetBatch) -> None:
        nonlocal before, targets
        trained.append(changed(model, before))
        before, targets = snapshot(model), targets + batch.n_targets

    epoch(model, look)
    assert len(trained) > 4 and trained == [{"item"}, {"features"}] * (len(trained) // 2)
    assert targets == int((data.train.items.lengths - 1).sum()), "each target is counted once"


def test_the_second_subnet_learns_what_the_first_one_leaves(data: TrainingData) -> None:
    model = made(data, variant="paper", training_mode="interleaving", loss="cross-entropy").double()
    first, second = list(model.batches(torch.Generator().manual_seed(0)))[:2]
    places, targets = first.sequences.places, first.sequences.targets - 1
    item, features = (
        model.states(first.sequences.inputs, (name,)).flatten(0, 1)[places] @ model.outputs[name][1:].T
        for name in ("item", "features")
    )
    torch.testing.assert_close(model.loss(first), F.cross_entropy(item, targets))
    torch.testing.assert_close(model.loss(second), F.cross_entropy(item.detach() + features, targets))
    ours = torch.autograd.grad(model.loss(second), model.outputs["features"])[0]
    theirs = torch.autograd.grad(F.cross_entropy(item.detach() + features, targets), model.outputs["features"])[0]
    torch.testing.assert_close(ours, theirs)


def test_a_frozen_subnet_gives_what_it_gives_in_evaluation(data: TrainingData) -> None:
    model = made(data, variant="paper", training_mode="alternating", layers=2, dropout_embed=0.5, dropout_hidden=0.5)
    items, both = torch.tensor([[3, 9, 4]]), ("item", "features")
    calm = model.eval().states(items, both)
    model.train()
    assert torch.equal(model.states(items, both, trains="features")[..., :7], calm[..., :7])
    assert torch.equal(model.states(items, both, trains="item")[..., 7:], calm[..., 7:])
    assert not torch.equal(model.states(items, both, trains="item")[..., :7], calm[..., :7])


def test_the_epoch_survives_a_checkpoint(data: TrainingData) -> None:
    options = {"variant": "paper", "training_mode": "residual", "item_epochs": 1}
    model = made(data, **options)
    epoch(model)
    epoch(model)
    other = made(data, **options)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval().scores(HISTORIES), model.eval().scores(HISTORIES))
    before = snapshot(other)
    epoch(other)
    assert changed(other, before) == {"features"}


# ----- the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"training_mode": "alternating"}, "an output of its own"),
        ({"variant": "paper", "training_mode": "residual", "architecture": "concatenated_input"}, "an output of its own"),
        ({"architecture": "features_only"}, "needs output: own"),
        ({"variant": "paper", "padding_in_softmax": True}, "output: shared"),
        ({"loss": "bpr", "padding_in_softmax": True}, "loss bpr has no softmax"),
        ({"loss": "bpr", "n_negatives": 0}, "at least 1 with loss bpr"),
        ({"n_negatives": 5}, "n_negatives has no effect here"),
        ({"item_epochs": 3}, "item_epochs has no effect here and must be 0"),
        ({"variant": "paper", "training_mode": "residual", "item_epochs": 0}, "at least 1"),
        ({"batching": "prefixes", "burn_in": 3}, "burn_in has no effect here"),
        ({"shuffle_seed": 1}, "shuffle_seed has no effect here"),
        ({"features": []}, "at least one field"),
        ({"features": ["tags", "tags"]}, "none twice"),
        ({"feature": "all"}, "Extra inputs"),
    ],
)
def test_what_would_have_no_effect_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GRU4RecFConfig.model_validate(options)


def test_an_unknown_field_is_refused(data: TrainingData, ring: TrainingData) -> None:
    with pytest.raises(ModelError, match=r"gru4recf is asked for the item feature 'grop'.*did you mean 'group'"):
        made(data, features=["grop"])
    with pytest.raises(ModelError, match="needs item features"):
        made(ring)


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({}, "recbole, windows"),
        ({"batching": "prefixes", "hidden_size": 9}, "recbole, prefixes"),
        ({"batching": "prefixes", "padding_in_softmax": True}, "recbole"),
        ({"variant": "paper", "training_mode": "residual"}, "paper, residual, windows"),
        ({"output": "own", "architecture": "features_only"}, "recbole, changed, features only, windows"),
        ({"variant": "paper", "loss": "bpr", "optimizer": "adam"}, "paper, changed, bpr, windows"),
        ({"shuffle_features": True, "padding_in_softmax": True}, "recbole, windows, padding in softmax, features shuffled"),
    ],
)
def test_the_label_says_which_model_it_is(options: dict[str, Any], label: str) -> None:
    assert GRU4RecF.variant(GRU4RecFConfig.model_validate(options)) == label


CHANGES: dict[str, tuple[dict[str, Any], Any]] = {
    "variant": ({}, "paper"),
    "features": ({}, ["tags"]),
    "pooling": ({}, "mean"),
    "architecture": ({}, "weighted_sum"),
    "output": ({}, "own"),
    "training_mode": ({"variant": "paper"}, "interleaving"),
    "loss": ({}, "bpr"),
    "n_negatives": ({"loss": "bpr"}, 3),
    "optimizer": ({}, "adagrad"),
    "item_epochs": ({"variant": "paper", "training_mode": "residual", "item_epochs": 2}, 1),
    "embedding_size": ({}, 9),
    "hidden_size": ({}, 9),
    "layers": ({}, 2),
    "dropout_embed": ({}, 0.5),
    "dropout_features": ({}, 0.5),
    "dropout_hidden": ({}, 0.5),
    "learning_rate": ({}, 0.1),
    "batching": ({"burn_in": 0}, "prefixes"),
    "batch_targets": ({}, 17),
    "window": ({}, 5),
    "burn_in": ({}, 1),
    "padding_in_softmax": ({}, True),
    "shuffle_features": ({}, True),
    "shuffle_seed": ({"shuffle_features": True}, 1),
}


@pytest.mark.fidelity("G18")
@pytest.mark.parametrize("name", GRU4RecFConfig.model_fields)
def test_every_hyper_parameter_matters(name: str, make_ring: Callable[..., TrainingData]) -> None:
    data = with_features(make_ring(longest=60))
    needed, value = CHANGES[name]
    base = {**SMALL, "window": 10, "burn_in": 5, "batch_targets": 200, **needed}
    other = base | {name: value}
    outcomes = []
    for options in (base, other):
        model = made(data, **options)
        epoch(model)
        epoch(model)
        outcomes.append(model.eval().scores(HISTORIES))
    assert not torch.equal(*outcomes)


def test_patience_waits_for_the_features_of_residual_training(data: TrainingData, tmp_path: Path) -> None:
    options = {"variant": "paper", "training_mode": "residual", "item_epochs": 4, "learning_rate": 1e-9}
    spec = FitSpec("gru4recf", options, 1, 20, 1, None, Protocol(seen_items="keep").model_dump(mode="json"))
    fit = Fit(spec, data, folder=tmp_path)
    while fit.finished is None:
        fit.step()
    assert fit.finished == "patience" and len(fit.history) >= 5
