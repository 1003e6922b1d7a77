"""Softmax over a target and shared negatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchbed.models.negatives import LogUniformSampler, UniformSampler
from benchbed.models.sampled_softmax import own_columns, sampled_cross_entropy

VECTOR = torch.tensor([[0.5, -0.2]], dtype=torch.float64)
ITEMS = torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1.0, 0.5], [0.3, 0.3], [2.0, -1.0]], dtype=torch.float64)


def worked_example(*, remove_hit: bool, correct: bool) -> float:
    """Target is the second most popular item; negatives are the first, second and fourth, drawn in four tries."""
    sampler = LogUniformSampler(5)
    negatives, target = torch.tensor([1, 2, 4]), torch.tensor([2])
    own = own_columns(target, negatives) if remove_hit else torch.tensor([-1])
    positive, offsets = VECTOR @ ITEMS[1], None
    if correct:
        offsets = sampler.log_expected_count(negatives, 4).double()
        positive = positive - sampler.log_expected_count(target, 4).double()
    return float(sampled_cross_entropy(VECTOR, positive, ITEMS[negatives - 1], own, offsets=offsets))


@pytest.mark.fidelity("S7", "S8")
def test_loss_of_the_worked_example() -> None:
    assert worked_example(remove_hit=True, correct=True) == pytest.approx(1.0346874782, abs=1e-6)
    assert worked_example(remove_hit=False, correct=True) == pytest.approx(1.3387379159, abs=1e-6)
    assert worked_example(remove_hit=True, correct=False) == pytest.approx(0.9366431949, abs=1e-6)


def test_expected_counts_of_the_worked_example() -> None:
    counts = LogUniformSampler(5).log_expected_count(torch.arange(1, 6), 4).exp()
    expected = torch.tensor([0.85866199, 0.64165344, 0.50345124, 0.41258148, 0.34900436])
    torch.testing.assert_close(counts.float(), expected, rtol=0, atol=1e-6)


@pytest.mark.fidelity("S8")
def test_a_uniform_sampler_needs_no_correction() -> None:
    counts = UniformSampler(50).log_expected_count(torch.arange(1, 51), 20)
    assert bool((counts == counts[0]).all())
    states, table = torch.randn(6, 4), torch.randn(20, 4)
    positive, own = torch.randn(6), torch.full((6,), -1)
    plain = sampled_cross_entropy(states, positive, table, own)
    shifted = sampled_cross_entropy(states, positive - counts[0], table, own, offsets=counts[:20])
    torch.testing.assert_close(plain, shifted)


def by_hand(states: Tensor, positive: Tensor, table: Tensor, own: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """The definition, one matrix of all logits."""
    logits = states @ table.T - offsets
    logits = logits.masked_fill(own[:, None] == torch.arange(len(table)), -torch.inf)
    losses = torch.cat([positive[:, None], logits], 1).logsumexp(1) - positive
    return (losses * weights).sum() / len(states)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_loss_and_gradients_are_those_of_the_definition(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchbed.models.sampled_softmax.BLOCK_BYTES", 4 * 9 * 4)  # four rows a block
    rng = torch.Generator().manual_seed(1)
    drawn = [torch.randn(*shape, generator=rng, dtype=torch.float64) * scale for shape in ((11, 3), (11,), (9, 3))]
    states, positive, table = (each.requires_grad_() for each in drawn)
    own = torch.randint(-1, 9, (11,), generator=rng)
    offsets, weights = (torch.rand(n, generator=rng, dtype=torch.float64) for n in (9, 11))
    ours = sampled_cross_entropy(states, positive, table, own, offsets=offsets, weights=weights)
    theirs = by_hand(states, positive, table, own, offsets, weights)
    torch.testing.assert_close(ours, theirs)
    found = torch.autograd.grad(3 * ours, [states, positive, table])
    expected = torch.autograd.grad(3 * theirs, [states, positive, table])
    torch.testing.assert_close(found, expected)


@pytest.mark.fidelity("S7")
def test_all_items_as_negatives_are_full_cross_entropy() -> None:
    states, table = (torch.randn(n, 6, dtype=torch.float64).requires_grad_() for n in (12, 30))
    targets = torch.randint(30, (12,))
    positive = (states * table[targets]).sum(1)
    ours = sampled_cross_entropy(states, positive, table, own_columns(targets, torch.arange(30)))
    theirs = F.cross_entropy(states @ table.T, targets)
    torch.testing.assert_close(ours, theirs)
    found, expected = (torch.autograd.grad(loss, [states, table], retain_graph=True) for loss in (ours, theirs))
    torch.testing.assert_close(found, expected)
