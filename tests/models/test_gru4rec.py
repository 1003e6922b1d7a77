"""Windows, prefixes and the loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from benchbed.data.dataset import Ragged, TrainingData
from benchbed.data.histories import Histories
from benchbed.models.gru4rec import GRU4Rec, GRU4RecConfig
from benchbed.models.losses import linear_cross_entropy
from benchbed.models.windows import SequenceBatches

HISTORY = Histories.of(np.array([1]), Ragged.of([list(range(1, 20))]))
SEQUENCES = Ragged.of([list(range(1, 11)), [11, 12], [13], [], list(range(20, 43))])


def pairs(batches: SequenceBatches, seed: int = 0) -> list[tuple[tuple[int, ...], int]]:
    """(the inputs up to a place, its target) of every place with a loss."""
    made = []
    for batch in batches(torch.Generator().manual_seed(seed)):
        width = batch.inputs.shape[1]
        for place, target in zip(batch.places.tolist(), batch.targets.tolist(), strict=True):
            made.append((tuple(batch.inputs[place // width, : place % width + 1].tolist()), target))
    return made


def batches(**options: object) -> SequenceBatches:
    defaults = {"window": 6, "burn_in": 3, "batch_targets": 10, "prefixes": False, "device": "cpu"}
    return SequenceBatches(SEQUENCES, **(defaults | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("prefixes", [False, True])
@pytest.mark.parametrize("window", [1, 6, 100])
def test_each_target_once_after_what_came_before_it(window: int, prefixes: bool) -> None:
    made = pairs(batches(window=window, prefixes=prefixes))
    expected = sorted(t for row in range(len(SEQUENCES)) for t in SEQUENCES[row][1:].tolist())
    assert sorted(target for _, target in made) == expected
    for inputs, target in made:  # all sequences count upwards by one
        assert list(inputs) == list(range(target - len(inputs), target))


@pytest.mark.fidelity("D4")
def test_windows_are_cut_from_the_newest_event_back_with_burn_in() -> None:
    seen = {target: len(inputs) for inputs, target in pairs(batches(window=6, burn_in=3))}
    # 23 events 20..42: windows of targets 37..42, 31..36, 25..30, 21..24; three events of burn-in before each but the first
    assert [seen[t] for t in (42, 37, 36, 31, 30, 25)] == [9, 4, 9, 4, 9, 4]
    assert [seen[t] for t in (24, 21)] == [4, 1]


@pytest.mark.fidelity("D4")
def test_prefixes_are_the_last_events_before_the_target() -> None:
    assert {target: len(inputs) for inputs, target in pairs(batches(window=6, prefixes=True))}[42] == 6


def test_epochs_differ_in_order_and_repeat_with_the_seed() -> None:
    made = batches()
    assert pairs(made, 1) == pairs(made, 1) != pairs(made, 2)


def test_batches_are_counted_in_targets() -> None:
    sizes = [batch.n_targets for batch in batches(batch_targets=10)(torch.Generator().manual_seed(0))]
    assert max(sizes) <= 10 + 5 and sum(sizes) == batches().n_targets == 32


def gru(data: TrainingData, **options: object) -> GRU4Rec:
    torch.manual_seed(0)
    model = GRU4Rec(GRU4RecConfig(dropout_embed=0, embedding_size=6, hidden_size=7, **options), data)  # type: ignore[arg-type]
    model.bind(data, "cpu")
    return model.double()


def trained(data: TrainingData, options: dict[str, object]) -> GRU4Rec:
    """After one epoch."""
    torch.manual_seed(0)
    model = GRU4Rec(GRU4RecConfig.model_validate(options), data)
    model.bind(data, "cpu")
    optimizer = model.optimizers()[0]
    for batch in model.batches(torch.Generator().manual_seed(0)):
        optimizer.zero_grad()
        model.loss(batch).backward()  # type: ignore[no-untyped-call]
        model.after_backward()
        optimizer.step()
    return model.eval()


def epoch_loss(model: GRU4Rec) -> torch.Tensor:
    parts = [model.loss(batch) * batch.n_targets for batch in model.batches(torch.Generator().manual_seed(0))]
    return torch.stack(parts).sum()


@pytest.mark.fidelity("G19")
def test_windows_equal_prefixes_while_the_sequence_fits(ring: TrainingData) -> None:
    windows, prefixes = gru(ring, window=40, burn_in=0), gru(ring, window=40, batching="prefixes")
    losses = [epoch_loss(model) for model in (windows, prefixes)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-10, atol=0)
    for loss in losses:
        loss.backward()  # type: ignore[no-untyped-call]
    for (name, ours), (_, theirs) in zip(windows.named_parameters(), prefixes.named_parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


def test_windows_differ_from_prefixes_once_sequences_are_longer(make_ring: Callable[..., TrainingData]) -> None:
    data = make_ring(longest=60)
    losses = [epoch_loss(gru(data, window=10, **more)) for more in ({"burn_in": 5}, {"batching": "prefixes"})]
    assert not torch.isclose(losses[0], losses[1], rtol=1e-9)


def test_burn_in_changes_the_loss(make_ring: Callable[..., TrainingData]) -> None:
    data = make_ring(longest=60)
    losses = [epoch_loss(gru(data, window=10, burn_in=burn_in)) for burn_in in (0, 5)]
    assert not torch.isclose(losses[0], losses[1], rtol=1e-9)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_blocked_cross_entropy_equals_the_library(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchbed.models.losses.BLOCK_BYTES", 4 * 11 * 3)  # three rows a block
    rng = torch.Generator().manual_seed(1)
    states = (torch.randn(20, 5, generator=rng, dtype=torch.float64) * scale).requires_grad_()
    table = torch.randn(11, 5, generator=rng, dtype=torch.float64).requires_grad_()
    targets = torch.randint(11, (20,), generator=rng)
    ours = linear_cross_entropy(states, table, targets)
    found = torch.autograd.grad(3 * ours, [states, table])
    theirs = F.cross_entropy(states @ table.T, targets)
    expected = torch.autograd.grad(3 * theirs, [states, table])
    torch.testing.assert_close(ours, theirs)
    for mine, other in zip(found, expected, strict=True):
        assert mine.isfinite().all()
        torch.testing.assert_close(mine, other)


@pytest.mark.fidelity("G20")
def test_padding_is_never_learnt(ring: TrainingData) -> None:
    model = gru(ring)
    epoch_loss(model).backward()  # type: ignore[no-untyped-call]
    assert model.embedding.weight.grad is not None
    assert model.embedding.weight.grad[0].abs().sum() == 0
    assert model.embedding.weight[0].abs().sum() == 0


def test_scores_are_those_after_the_newest_event(ring: TrainingData) -> None:
    model = gru(ring).eval()
    history = [3, 9, 4]
    states = model.states(torch.tensor([history]))
    expected = model.project(states[0, -1]) @ model.embedding.weight.T
    block = Histories.of(np.array([1, 2]), Ragged.of([history, [5] * 9]))
    torch.testing.assert_close(model.scores(block)[0], expected)


WINDOWS = {"embedding_size": 6, "hidden_size": 7, "window": 10, "burn_in": 5, "batch_targets": 40, "dropout_embed": 0.2}
OFFICIAL = {"variant": "official", "hidden_size": 7, "batch_size": 8, "n_negatives": 9}
SAMPLED = OFFICIAL | {"loss": "bpr-max"}
USERS = {"variant": "recpack", "hidden_size": 7, "embedding_size": 6, "batch_size": 8}
CHANGES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "variant": (OFFICIAL, {"variant": "windows", "hidden_size": 7, "batch_size": 0, "n_negatives": 0}),
    "loss": (SAMPLED, {"loss": "top1-max"}),
    "n_negatives": (OFFICIAL, {"n_negatives": 5}),
    "shared_negatives": (WINDOWS, {"shared_negatives": True}),
    "sample_alpha": (OFFICIAL, {"sample_alpha": 1.0}),
    "bpreg": (SAMPLED, {"bpreg": 0.2}),
    "elu_alpha": (SAMPLED, {"elu_alpha": 1.0}),
    "logq": (OFFICIAL, {"logq": 1.0}),
    "padding_in_softmax": (WINDOWS, {"padding_in_softmax": True}),
    "embedding_mode": (OFFICIAL, {"embedding_mode": "one-hot"}),
    "projection": (OFFICIAL, {"projection": True}),
    "output_bias": (OFFICIAL, {"output_bias": False}),
    "cell": (WINDOWS, {"cell": "reset_before"}),
    "embedding_size": (WINDOWS, {"embedding_size": 9}),
    "hidden_size": (WINDOWS, {"hidden_size": 9}),
    "layers": (WINDOWS, {"layers": 2}),
    "dropout_embed": (WINDOWS, {"dropout_embed": 0.5}),
    "dropout_hidden": (WINDOWS, {"dropout_hidden": 0.5}),
    "optimizer": (WINDOWS, {"optimizer": "adagrad"}),
    "learning_rate": (WINDOWS, {"learning_rate": 0.1}),
    "momentum": (OFFICIAL, {"momentum": 0.5}),
    "clip_norm": (WINDOWS | {"optimizer": "sgd"}, {"clip_norm": 0.01}),
    "bptt": (USERS, {"bptt": 3}),
    "batching": (WINDOWS | {"burn_in": 0}, {"batching": "prefixes"}),
    "batch_size": (USERS, {"batch_size": 17}),
    "batch_targets": (WINDOWS, {"batch_targets": 17}),
    "window": (WINDOWS, {"window": 5}),
    "burn_in": (WINDOWS, {"burn_in": 1}),
    "init": (WINDOWS, {"init": "official"}),
}
"""Hyper-parameter -> a configuration, and a change of that one key that must change what is learnt."""


@pytest.mark.fidelity("G18")
@pytest.mark.parametrize("name", GRU4RecConfig.model_fields)
def test_every_hyper_parameter_matters(name: str, make_ring: Callable[..., TrainingData]) -> None:
    data = make_ring(longest=60, users=30)
    base, change = CHANGES[name]
    outcomes = [trained(data, base | more).scores(HISTORY) for more in ({}, change)]
    assert not torch.equal(*outcomes)
