"""The authors' GRU4Rec: session-parallel steps, carried state, shared negatives, rows of the batch alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchbed.data.dataset import Ragged, Sequences, TrainingData
from benchbed.data.histories import Histories
from benchbed.models import gru4rec
from benchbed.models.gru4rec import GRU4Rec
from benchbed.models.gru4rec_batches import StepGroup
from benchbed.models.gru4rec_config import GRU4RecConfig
from benchbed.models.optimizers import RowAdagrad

SMALL = {"variant": "official", "hidden_size": 5, "batch_size": 3, "n_negatives": 4, "learning_rate": 0.1}


def official(data: TrainingData, **options: Any) -> GRU4Rec:
    torch.manual_seed(0)
    model = GRU4Rec(GRU4RecConfig.model_validate(SMALL | options), data).double()
    model.bind(data, "cpu")
    return model


def groups(model: GRU4Rec) -> list[StepGroup]:
    return [batch for batch in model.batches(torch.Generator()) if isinstance(batch, StepGroup)]


def gradients(model: GRU4Rec, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.to_dense() for name, p in model.named_parameters() if p.grad is not None}


def learn(model: GRU4Rec, epochs: int = 1) -> list[float]:
    optimizer, losses = model.optimizers()[0], []
    for _ in range(epochs):
        for batch in model.batches(torch.Generator()):
            optimizer.zero_grad()
            loss = model.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            model.after_backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def cell(model: GRU4Rec, x: Tensor, h: Tensor) -> Tensor:
    """The original unit, written out."""
    size, gru = model.config.hidden_size, model.gru
    w, u, v, b = gru.inputs[0], gru.gates[0], gru.candidate[0], gru.biases[0]  # type: ignore[union-attr,index]
    given = x @ w + b
    r, z = torch.sigmoid(given[:, : 2 * size] + h @ u).split(size, 1)
    return (1 - z) * h + z * torch.tanh(given[:, 2 * size :] + (r * h) @ v)


@pytest.mark.parametrize(("logq", "alpha"), [(0.0, 0.5), (1.0, 0.5), (1.0, 0.0)])
@pytest.mark.fidelity("G1", "G2", "G7", "G9")
def test_an_epoch_equals_a_loop_over_slots(
    logq: float, alpha: float, ring: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = torch.tensor([3, 7, 7, 11])
    model = official(ring, logq=logq, sample_alpha=alpha)
    monkeypatch.setattr(model._sampler, "draw", lambda n: drawn[:n])
    sessions = [ring.train.items[row].tolist() for row in range(len(ring.train.items))]
    waiting, slots, losses = list(range(len(sessions))), [], []
    table, bias = model.embedding.weight, model.item_bias.weight[:, 0]
    log_support = torch.as_tensor(ring.item_counts).clamp(min=1).log()
    while len(slots) < 3:
        slots.append((waiting.pop(0), 0, torch.zeros(5, dtype=torch.float64)))
    while slots:
        inputs = torch.tensor([sessions[s][k] for s, k, _ in slots])
        targets = torch.tensor([sessions[s][k + 1] for s, k, _ in slots])
        states = cell(model, table[inputs], torch.stack([h for _, _, h in slots]))
        columns = torch.cat([targets, drawn])
        scores = states @ table[columns].T + bias[columns]
        scores = scores - logq * torch.cat([log_support[targets], alpha * log_support[drawn]])
        losses.append(F.cross_entropy(scores, torch.arange(len(slots)), reduction="sum").item() / 3)
        kept = []
        for (s, k, _), h in zip(slots, states.detach(), strict=True):
            if k + 2 < len(sessions[s]):
                kept.append((s, k + 1, h))
            elif waiting:
                kept.append((waiting.pop(0), 0, torch.zeros_like(h)))
        slots = kept
    model.eval()
    found = [float(model.loss(batch).detach()) for batch in groups(model)]
    np.testing.assert_allclose(found, losses, rtol=1e-6)


@pytest.mark.fidelity("G3")
def test_gradients_stay_within_the_last_events_of_a_session(ring: TrainingData) -> None:
    for bptt in (1, 3):
        model = official(ring, bptt=bptt, loss="bpr-max").eval()
        batch = groups(model)[0]
        looked_up: list[Tensor] = []
        embed = model._embed

        def remember(items: Tensor, embed: Callable[[Tensor], Tensor] = embed, seen: list[Tensor] = looked_up) -> Tensor:
            seen.append(embed(items))
            return seen[-1]

        model._embed = remember  # type: ignore[method-assign]
        model.loss(batch)
        state, steps = model.zero_state(3), []
        for step in batch.steps:
            output, state = model.gru.step(model._embed(step.inputs), step.carry(state))  # type: ignore[operator,union-attr]
            steps.append(output)
        used = torch.autograd.grad(steps[-1][0].sum(), looked_up[-len(steps) :], retain_graph=True)
        assert len(steps) == bptt and all(bool(part[0].abs().sum() > 0) for part in used)
        assert all(float(part[1:].abs().sum()) == 0 for part in used)  # no other session's input
    model = official(ring)
    model.loss(groups(model)[0])
    assert model._state is not None and not model._state.requires_grad  # what the next update sees is a constant


@pytest.mark.fidelity("G1", "G3")
def test_nothing_flows_across_the_start_of_a_session(ring: TrainingData) -> None:
    sequences = Ragged.of([[1, 2], [3, 4, 5]])
    data = TrainingData("two", 40, ring.item_counts, ring.item_ids, Sequences(np.arange(2), sequences), ring.valid)
    model = official(data, batch_size=1, bptt=3, n_negatives=4).eval()
    (batch,) = groups(model)
    assert [step.inputs.tolist() for step in batch.steps] == [[1], [3], [4]]
    torch.manual_seed(1)
    found = gradients(model, model.loss(batch))["gru.gates.0"]
    parts = []
    for session in (0, 1):
        rows = Sequences(np.arange(1), sequences.take(np.array([session])))
        alone = TrainingData("one", 40, ring.item_counts, ring.item_ids, rows, ring.valid)
        model.bind(alone, "cpu")
        if session == 0:
            torch.manual_seed(1)
        (part,) = groups(model)
        parts.append(gradients(model, model.loss(part)).get("gru.gates.0", torch.zeros(())) * len(part.steps))
    torch.testing.assert_close(found * 3, sum(parts))


@pytest.mark.fidelity("G15", "G14")
def test_a_step_touches_the_rows_of_its_batch_alone(make_ring: Callable[..., TrainingData]) -> None:
    data = make_ring(items=500)
    model = official(data, momentum=0.5, embedding_mode="separate")
    optimizer = model.optimizers()[0]
    assert isinstance(optimizer, RowAdagrad)
    for batch in groups(model)[:5]:
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        optimizer.zero_grad()
        model.loss(batch).backward()  # type: ignore[no-untyped-call]
        for table, most in ((model.embedding, 3), (model.output, 7), (model.item_bias, 7)):
            assert table.weight.grad is not None and table.weight.grad.is_sparse
            assert table.weight.grad.coalesce().indices().numel() <= most
        rows = model.output.weight.grad.coalesce().indices()[0]  # type: ignore[union-attr]
        optimizer.step()
        moved = (model.output.weight != before["output.weight"]).any(1).nonzero()[:, 0]
        assert set(moved.tolist()) <= set(rows.tolist())


@pytest.mark.fidelity("G15")
def test_sampled_columns_score_as_they_do_among_all(ring: TrainingData) -> None:
    model = official(ring).eval()
    with torch.no_grad():
        model.item_bias.weight.normal_()
    block = Histories.of(np.arange(3), Ragged.of([[3, 9, 4], [5], []]))
    everything = model.scores(block)
    items = torch.tensor([7, 2, 2, 30])
    torch.testing.assert_close(model.scores(block, items), everything[:, items])
    torch.testing.assert_close(model.user_vectors(block) @ model.item_vectors().T, everything)
    torch.testing.assert_close(everything[2], model.item_bias.weight[:, 0])  # an empty history: the biases


@pytest.mark.fidelity("G21")
def test_the_shared_table_learns_from_both_uses(ring: TrainingData) -> None:
    model = official(ring)
    assert model.table.weight.data_ptr() == model.embedding.weight.data_ptr()
    batch = groups(model)[0]
    model.loss(batch).backward()  # type: ignore[no-untyped-call]
    gradient = model.table.weight.grad
    assert gradient is not None
    touched = set(gradient.coalesce().indices()[0].tolist())
    assert set(batch.steps[0].inputs.tolist()) | set(batch.steps[0].targets.tolist()) <= touched


@pytest.mark.fidelity("G12", "G20")
@pytest.mark.parametrize("mode", ["one-hot", "separate", "shared"])
def test_tables_start_within_their_own_bound(mode: str, ring: TrainingData) -> None:
    model = official(ring, embedding_mode=mode, hidden_size=30)
    bound = (6 / (40 + 30)) ** 0.5
    for table in {model.embedding, model.table}:
        weight = table.weight.detach()[1:]
        assert 0.95 * bound < weight.abs().max() <= bound and weight.mean().abs() < 0.05
    assert model.item_bias.weight.abs().sum() == 0 and model.embedding.weight[0].abs().sum() == 0


@pytest.mark.fidelity("G13")
@pytest.mark.parametrize("mode", ["one-hot", "shared"])
def test_dropout_of_states_and_inputs_are_two_rates(mode: str, ring: TrainingData) -> None:
    """One-hot inputs have the rate of states on layer 0, as in the original code, and none of their own (refused)."""
    model = official(ring, embedding_mode=mode, dropout_hidden=0.5, hidden_size=64, layers=2)
    items = torch.arange(1, 31)
    _, state = model.gru.step(model._embed(items), model.zero_state(30))  # type: ignore[operator,union-attr]
    for layer in state:
        assert 0.4 < float((layer == 0).double().mean()) < 0.6
    assert bool((model._embed(items) != 0).all())
    if mode == "shared":
        torch.manual_seed(0)
        model = official(ring, dropout_embed=0.5, hidden_size=64)
        dropped = model._embed(items)
        kept = dropped != 0
        assert 0.4 < float(kept.double().mean()) < 0.6
        torch.testing.assert_close(dropped[kept], 2 * model.embedding.weight[items][kept])
    model.eval()
    twice = [model.scores(Histories.of(np.arange(1), Ragged.of([[3, 9, 4]]))) for _ in range(2)]
    assert torch.equal(*twice)


@pytest.mark.fidelity("G22")
@pytest.mark.parametrize("cell_name", ["reset_before", "reset_after"])
def test_the_width_of_chunks_of_a_history_changes_nothing(
    cell_name: str, ring: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {} if cell_name == "reset_before" else {"variant": "recpack", "embedding_size": 6, "n_negatives": 3}
    model = official(ring, **options).eval()
    block = Histories.of(np.arange(4), Ragged.of([[1], list(range(1, 40)), [], [5, 6, 0, 7]]))
    whole = []
    for columns in (1, 3, 100):
        monkeypatch.setattr(gru4rec, "COLUMNS", columns)
        whole.append(model.scores(block))
    torch.testing.assert_close(whole[0], whole[2])
    torch.testing.assert_close(whole[1], whole[2])
    states = model.states(torch.tensor([[5, 6, 7]]))[:, -1]
    torch.testing.assert_close(whole[2][3], (states @ model.table.weight.T + model.item_bias.weight[:, 0])[0])


@pytest.mark.fidelity("G1")
def test_scores_do_not_see_the_state_that_training_left(ring: TrainingData) -> None:
    model = official(ring)
    learn(model)
    other = official(ring)
    other.load_state_dict(model.state_dict())
    block = Histories.of(np.arange(1), Ragged.of([[3, 9, 4]]))
    assert model._state is not None and other._state is None
    assert torch.equal(model.eval().scores(block), other.eval().scores(block))


@pytest.mark.fidelity("G5", "G6")
def test_targets_of_an_epoch(ring: TrainingData) -> None:
    pairs = int((ring.train.items.lengths - 1).sum())
    for options, expected in (({}, pairs), ({"batch_size": 500}, pairs), ({"n_negatives": 0}, pairs - 1), ({"bptt": 4}, pairs)):
        assert abs(sum(batch.n_targets for batch in groups(official(ring, **options))) - expected) <= ("n_negatives" in options)


def test_sessions_come_in_the_order_of_their_first_event(ring: TrainingData) -> None:
    sequences = Ragged.of([[1, 2], [3, 4, 5], [6, 7]])
    times = np.array([50, 60, 10, 11, 12, 30, 90])
    for timestamps, expected in ((times, [3, 6, 1]), (None, [1, 3, 6])):
        train = Sequences(np.arange(3), sequences, timestamps)
        data = TrainingData("three", 40, ring.item_counts, ring.item_ids, train, ring.valid)
        assert groups(official(data))[0].steps[0].inputs.tolist() == expected


@pytest.mark.parametrize("loss", ["cross-entropy", "bpr", "bpr-max", "top1", "top1-max"])
@pytest.mark.parametrize("mode", ["one-hot", "shared"])
def test_every_loss_learns_the_ring(loss: str, mode: str, ring: TrainingData) -> None:
    model = official(ring, loss=loss, embedding_mode=mode, hidden_size=24, batch_size=16, n_negatives=10)
    losses = learn(model, epochs=3)
    third = len(losses) // 3
    assert np.mean(losses[-third:]) < np.mean(losses[:third])


GOLDEN = [
    ("cross-entropy", {}, 4.7143547612),
    ("cross-entropy", {"logq": 1.0, "sample_alpha": 0.5}, 4.6595664971),
    ("bpr", {}, 11.5415790535),
    ("bpr-max", {"bpreg": 0.0, "elu_alpha": None}, 2.5847083338),
    ("bpr-max", {"bpreg": 1.0, "elu_alpha": None}, 3.9637285291),
    ("bpr-max", {"bpreg": 1.0, "elu_alpha": 0.5}, 2.8028831817),
    ("bpr-max", {"bpreg": 1.0, "elu_alpha": 1.0}, 3.2106726982),
    ("top1", {}, 2.7962344013),
    ("top1-max", {}, 3.2146437842),
]
"""Sums over three rows of the scores below, computed with numpy from the definitions; equal to the authors' code."""


@pytest.mark.parametrize(("loss", "options", "expected"), GOLDEN)
@pytest.mark.fidelity("G8", "G9", "G10")
def test_losses_of_shared_negatives_are_the_authors(
    loss: str, options: dict[str, Any], expected: float, ring: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = torch.tensor([[2, -1, 0.5, 0.1, -2], [0.3, 1, -0.7, 1.2, 0.4], [0, 0.2, -1.5, -0.3, 0.6]], dtype=torch.float64)
    counts = np.zeros(41, dtype=np.int64)
    counts[1:6] = [10, 4, 2, 50, 5]
    data = TrainingData("golden", 40, counts, ring.item_ids, ring.train, ring.valid)
    model = official(data, loss=loss, hidden_size=3, n_negatives=2, **options)
    monkeypatch.setattr(model._sampler, "draw", lambda n: torch.tensor([4, 5]))
    with torch.no_grad():
        model.embedding.weight[1:6] = scores.T  # so that three unit vectors have these scores
    rows = model._shared(torch.eye(3, dtype=torch.float64), torch.tensor([1, 2, 3]))
    assert rows.sum().item() == pytest.approx(expected, abs=2e-7)  # the sampler's logarithms are float32
