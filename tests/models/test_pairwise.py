"""Triples and the loss over them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Ragged
from benchbed.models import pairwise
from benchbed.models.pairwise import PRETRAINING, TripleBatches, bpr, shown_as_mean, tower_bpr
from benchbed.models.patch_products import PatchTower
from tests.models.towers import GEOMETRIES, convolved, tower, vectors

ROWS = Ragged.of([[1, 2, 3], [4, 4], [1, 2, 3, 4, 5, 6], [6]])


def epoch(batch_size: int = 3, candidates: int = 1, seed: int = 0) -> list[pairwise.Triples]:
    return list(TripleBatches(ROWS, 6)(torch.Generator().manual_seed(seed), batch_size, candidates))


@pytest.mark.fidelity("N12")
def test_every_event_comes_once_and_the_last_batch_is_a_partial_one() -> None:
    batches = epoch(batch_size=4)
    assert [len(batch.users) for batch in batches] == [4, 2]
    found = sorted((int(u), int(i)) for batch in batches for u, i in zip(batch.users, batch.positives, strict=True))
    # The third user has events on all items: there is no negative, and nothing to learn.
    assert found == [(0, 1), (0, 2), (0, 3), (1, 4), (1, 4), (3, 6)]
    assert sum(batch.n_targets for batch in batches) == 6


@pytest.mark.fidelity("N7")
def test_negatives_are_uniform_over_what_training_does_not_hold() -> None:
    """Nothing else is left out: an item that is a target elsewhere is drawn as often as any."""
    batches = epoch(batch_size=100, candidates=3_000)
    users, negatives = batches[0].users, batches[0].negatives
    for user, absent in ((0, [4, 5, 6]), (1, [1, 2, 3, 5, 6]), (3, [1, 2, 3, 4, 5])):
        drawn = negatives[users == user].flatten().numpy()
        counts = np.bincount(drawn, minlength=7)
        assert np.flatnonzero(counts).tolist() == absent
        expected = len(drawn) / len(absent)
        assert ((counts[absent] - expected) ** 2 / expected).sum() < 25


def test_the_generator_decides_everything() -> None:
    one, two, other = epoch(seed=1), epoch(seed=1), epoch(seed=2)
    torch.rand(5)
    assert all(
        torch.equal(a.positives, b.positives) and torch.equal(a.negatives, b.negatives) for a, b in zip(one, two, strict=True)
    )
    assert any(not torch.equal(a.positives, b.positives) for a, b in zip(one, other, strict=True))


def test_targets_of_a_pretraining_are_not_counted_again() -> None:
    batches = TripleBatches(ROWS, 6)(torch.Generator(), 4, phase=PRETRAINING)
    assert [batch.n_targets for batch in batches] == [0, 0]


@pytest.mark.fidelity("N5")
def test_the_loss_is_finite_where_the_logarithm_of_a_sum_is_not() -> None:
    positive = torch.tensor([-1000.0, 1000.0], requires_grad=True)
    loss = bpr(positive, torch.zeros(2))
    loss.backward()
    assert loss.item() == 1000.0 and positive.grad is not None
    assert positive.grad.tolist() == [-1.0, 0.0]


@pytest.mark.fidelity("N3")
def test_a_sum_is_shown_as_a_mean_with_the_gradient_of_the_sum() -> None:
    scores = torch.tensor([0.3, -0.2, 1.0], requires_grad=True)
    total = bpr(scores, torch.zeros(3))
    (of_the_sum,) = torch.autograd.grad(total, scores, retain_graph=True)
    shown = shown_as_mean(total, 3)
    torch.testing.assert_close(shown, total / 3)
    torch.testing.assert_close(torch.autograd.grad(shown, scores)[0], of_the_sum)


@pytest.mark.parametrize("pairs", [1, 4, 5, 100])
@pytest.mark.parametrize(("kernels", "channels"), GEOMETRIES)
def test_blocks_have_the_loss_and_the_gradients_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, kernels: list[int], channels: list[int], pairs: int
) -> None:
    monkeypatch.setattr(pairwise, "pairs_per_block", lambda *_: pairs)
    made = tower(kernels, channels)
    users, positives, negatives = (vectors(9, int(np.prod(kernels))) for _ in range(3))
    head = torch.randn(channels[-1], dtype=torch.float64, requires_grad=True)
    kept = torch.rand(2, 9, channels[-1], dtype=torch.float64)
    leaves = [users, positives, negatives, head, *made.parameters()]
    for factors in (None, kept):
        up, down = convolved(made, users, positives), convolved(made, users, negatives)
        whole = bpr((up if factors is None else up * kept[0]) @ head, (down if factors is None else down * kept[1]) @ head)
        ours = tower_bpr(made.matrices, head, users, positives, negatives, factors)
        torch.testing.assert_close(ours, whole)
        for a, b in zip(torch.autograd.grad(2 * ours, leaves), torch.autograd.grad(2 * whole, leaves), strict=True):
            torch.testing.assert_close(a, b)


def test_a_frozen_tower_gives_gradients_to_users_alone() -> None:
    made: PatchTower = tower([2, 2], [3, 3]).requires_grad_(False)
    users, items = vectors(4, 4), vectors(8, 4).detach()
    loss = tower_bpr(made.matrices, torch.ones(3, dtype=torch.float64), users, items[:4], items[4:])
    loss.backward()
    assert users.grad is not None and users.grad.abs().sum() > 0
    assert not tower_bpr(made.matrices, torch.ones(3).double(), users.detach(), items[:4], items[4:]).requires_grad
