"""The variants recbole and recpack, against their networks written out with torch's own parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import Ragged, TrainingData
from benchbed.data.histories import Histories
from benchbed.models import gru4rec
from benchbed.models.gru4rec import GRU4Rec
from benchbed.models.gru4rec_batches import UserChunk, UserChunks
from benchbed.models.gru4rec_config import GRU4RecConfig
from benchbed.models.windows import SequenceBatch

NEGATIVES = torch.tensor([[4, 9, 9], [2, 30, 8]])


def make(data: TrainingData, **options: Any) -> GRU4Rec:
    torch.manual_seed(0)
    model = GRU4Rec(GRU4RecConfig.model_validate(options), data).double()
    model.bind(data, "cpu")
    return model


def widened(model: GRU4Rec) -> GRU4Rec:
    """Weights far enough from zero to tell forms apart."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


def reference(model: GRU4Rec) -> tuple[nn.GRU, Tensor, Tensor, Tensor]:
    """A plain GRU with the model's weights; item table, output table and output bias."""
    assert isinstance(model.gru, nn.GRU)
    c = model.config
    gru = nn.GRU(c.width, c.hidden_size, c.layers, bias=model.gru.bias, batch_first=True).double()
    gru.load_state_dict(model.gru.state_dict())
    tables = (model.embedding.weight, model.table.weight)
    bias = model.item_bias.weight[:, 0] if c.output_bias else torch.zeros(len(tables[1]), dtype=torch.float64)
    return gru, tables[0].detach().clone(), tables[1].detach().clone(), bias.detach().clone()


# ----- RecBole ----------------------------------------------------------------------------------------------------------


@pytest.mark.fidelity("G20")
def test_recbole_is_dense_after_gru_against_the_tied_table_with_padding(ring: TrainingData) -> None:
    model = widened(make(ring, variant="recbole", embedding_size=6, hidden_size=7, layers=2)).eval()
    gru, table, _, _ = reference(model)
    history = [3, 9, 4]
    last = model.project(gru(table[torch.tensor([history])])[0][:, -1])
    found = model.scores(Histories.of(np.array([1]), Ragged.of([history])))
    torch.testing.assert_close(found[:, 1:], (last @ table.T)[:, 1:])
    inputs, targets = torch.tensor([history, [5, 0, 0]]), torch.tensor([8, 2])
    batch = SequenceBatch(inputs, torch.tensor([3, 1]), torch.tensor([2, 3]), targets)
    states = torch.stack([gru(table[torch.tensor([row])])[0][0, -1] for row in (history, [5])])
    logits = model.project(states) @ table.T
    torch.testing.assert_close(model.loss(batch), F.cross_entropy(logits, targets), rtol=1e-6, atol=0)
    without = make(ring, variant="recbole", embedding_size=6, hidden_size=7, layers=2, padding_in_softmax=False).eval()
    without.load_state_dict(model.state_dict())
    torch.testing.assert_close(without.loss(batch), F.cross_entropy(logits[:, 1:], targets - 1), rtol=1e-6, atol=0)


def test_recboles_other_loss_is_bpr_with_one_negative(ring: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    model = widened(make(ring, variant="recbole", loss="bpr", embedding_size=6, hidden_size=7)).eval()
    monkeypatch.setattr(gru4rec, "uniform_except", lambda positives, n_items, s: NEGATIVES[: len(positives), :s])
    vectors, targets = torch.randn(2, 7, dtype=torch.float64), torch.tensor([8, 2])
    scores = model.project(vectors) @ model.embedding.weight.T
    expected = -torch.log(torch.sigmoid(scores[[0, 1], targets] - scores[[0, 1], NEGATIVES[:, 0]])).mean()
    torch.testing.assert_close(model._mean_loss(vectors, targets), expected)


def test_recbole_starts_from_its_initialisation(ring: TrainingData) -> None:
    model = make(ring, variant="recbole", layers=2)
    assert isinstance(model.gru, nn.GRU)
    first, second = model.gru.weight_hh_l0.detach(), model.gru.weight_hh_l1.detach()
    assert first.abs().max() > 0.97 * (6 / (4 * 128)) ** 0.5  # Xavier, over the three gates together
    assert second.abs().max() <= 128**-0.5  # torch's own
    assert model.embedding.weight[0].abs().sum() > 0  # RecBole draws the padding row as well
    assert make(ring).embedding.weight[0].abs().sum() == 0


# ----- RecPack ----------------------------------------------------------------------------------------------------------


def recpack_loss(name: str, logits: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    if name == "cross-entropy":
        return F.cross_entropy(logits, targets)
    own, others = logits.gather(1, targets[:, None]), logits.gather(1, negatives)
    weights = others.softmax(1)
    if name == "bpr":
        return -F.logsigmoid(own - others).mean()
    if name == "bpr-max":
        return (-(weights * (own - others).sigmoid()).sum(1).log() + (weights * others**2).sum(1)).mean()
    each = (others - own).sigmoid() + (others**2).sigmoid()
    return each.mean() if name == "top1" else (weights * each).sum(1).mean()


@pytest.mark.parametrize("loss", ["cross-entropy", "bpr", "bpr-max", "top1", "top1-max"])
@pytest.mark.parametrize("optimizer", ["adagrad", "sgd"])
@pytest.mark.fidelity("G3", "G15")
def test_an_epoch_of_recpack_equals_its_loop(
    loss: str, optimizer: str, ring: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of users by falling length, chunks of columns, clipping, an update a chunk, states detached between them."""
    momentum = 0.5 if optimizer == "sgd" else 0.0
    options = {"embedding_size": 6, "hidden_size": 7, "batch_size": 16, "bptt": 4, "learning_rate": 0.1, "clip_norm": 0.2}
    model = widened(make(ring, variant="recpack", loss=loss, optimizer=optimizer, momentum=momentum, **options))

    def negatives(positives: Tensor, n_items: int = 40, s: int = 3) -> Tensor:
        return (positives[:, None] + 7 * torch.arange(1, s + 1)) % n_items + 1

    monkeypatch.setattr(gru4rec, "uniform_except", negatives)
    gru, table, output, bias = reference(model)
    n = model.config.n_negatives
    parameters = [nn.Parameter(part) for part in (table, output, bias)]
    table, output, bias = parameters
    everything = [table, *gru.parameters(), output, bias]
    kind = torch.optim.Adagrad if optimizer == "adagrad" else torch.optim.SGD
    reference_optimizer = kind(everything, lr=0.1, **({"momentum": momentum} if momentum else {}))
    rows = [ring.train.items[row].tolist() for row in range(len(ring.train.items))]
    expected = []
    for start in range(0, len(rows), 16):
        users = sorted(rows[start : start + 16], key=len, reverse=True)
        padded = torch.zeros(len(users), len(users[0]), dtype=torch.int64)
        for at, user in enumerate(users):
            padded[at, : len(user)] = torch.tensor(user)
        targets = torch.cat([padded[:, 1:], torch.zeros(len(users), 1, dtype=torch.int64)], 1)
        state = torch.zeros(1, len(users), 7, dtype=torch.float64)
        for columns in torch.arange(padded.shape[1]).tensor_split(-(-padded.shape[1] // 4)):
            mask = targets[:, columns] > 0
            alive = int(mask.any(1).sum())
            if not alive:
                continue
            reference_optimizer.zero_grad()
            looked_up = F.embedding(padded[:alive][:, columns], table, padding_idx=0)
            states, after = gru(looked_up, state[:, :alive].contiguous())
            state = after.detach()
            logits = (states @ output.T + bias)[mask[:alive]]
            chosen = targets[:alive][:, columns][mask[:alive]]
            value = recpack_loss(loss, logits, chosen, negatives(chosen, s=max(1, n)))
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(everything, 0.2)
            reference_optimizer.step()
            expected.append(value.item())
    found, ours = [], model.optimizers()[0]
    for batch in model.batches(torch.Generator()):
        ours.zero_grad()
        value = model.loss(batch)
        value.backward()  # type: ignore[no-untyped-call]
        model.after_backward()
        ours.step()
        found.append(value.item())
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    torch.testing.assert_close(model.output.weight, output, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(model.embedding.weight, table, rtol=1e-6, atol=1e-9)


def test_recpack_starts_within_a_hundredth(ring: TrainingData) -> None:
    model = make(ring, variant="recpack")
    for name, parameter in model.named_parameters():
        assert 0.009 < parameter.abs().max() <= 0.01, name
    assert model.embedding.weight[0].abs().sum() == 0


@pytest.mark.parametrize("bptt", [1, 3, 100])
@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_chunks_hold_every_target_once_after_its_input(bptt: int, batch_size: int, ring: TrainingData) -> None:
    sequences = Ragged.of([[], [5], *([ring.train.items[row].tolist() for row in range(7)]), [9]])
    pairs = []
    for chunk in UserChunks(sequences, batch_size=batch_size, bptt=bptt, device="cpu"):
        assert chunk.inputs.shape[1] <= bptt and chunk.n_targets > 0
        pairs += list(zip(chunk.inputs.flatten()[chunk.places].tolist(), chunk.targets.tolist(), strict=True))
    expected = [(a, b) for row in range(len(sequences)) for a, b in zip(sequences[row][:-1], sequences[row][1:], strict=True)]
    assert sorted(pairs) == sorted(expected)
    assert all(0 not in pair for pair in pairs)


@pytest.mark.fidelity("G1", "G2")
def test_a_batch_of_users_starts_from_zero_whatever_was_before(ring: TrainingData) -> None:
    model = widened(make(ring, variant="recpack", loss="cross-entropy", hidden_size=7, batch_size=30, bptt=5)).eval()
    chunks = [batch for batch in model.batches(torch.Generator()) if isinstance(batch, UserChunk)]
    in_order = [model.loss(chunk).item() for chunk in chunks]
    second = next(at for at, chunk in enumerate(chunks) if at and chunk.first)
    assert [model.loss(chunk).item() for chunk in chunks[second:]] == in_order[second:]


@pytest.mark.fidelity("G20")
@pytest.mark.parametrize("variant", ["windows", "official", "recpack"])
def test_padding_learns_nothing_where_the_softmax_has_no_place_for_it(
    variant: str, make_ring: Callable[..., TrainingData]
) -> None:
    data = make_ring(users=20)
    small = {"official": {"batch_size": 8, "n_negatives": 200}, "recpack": {"batch_size": 8}}.get(variant, {})
    model = make(data, variant=variant, **small)
    for batch in model.batches(torch.Generator().manual_seed(0)):
        model.loss(batch).backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        if len(parameter) == data.n_items + 1 and parameter.grad is not None:
            assert float(parameter.grad.to_dense()[0].abs().sum()) == 0, name
