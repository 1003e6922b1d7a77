"""Towers as patch products: equal to torch's convolutions, gradients included, pair by pair and in blocks."""

from __future__ import annotations

import math

import pytest
import torch

from benchbed.models import patch_products
from benchbed.models.patch_products import PatchTower, fitting, pairs_per_block
from tests.models.towers import convolved, tower, vectors

GEOMETRIES = [([6], [3]), ([2, 2], [3, 5]), ([2, 3, 2], [2, 3, 4]), ([4, 4, 2, 2], [8, 8, 8, 8]), ([3, 2, 2, 2], [2, 3, 4, 5])]


@pytest.mark.parametrize(("kernels", "channels"), GEOMETRIES)
def test_pairs_equal_convolutions_and_so_do_gradients(kernels: list[int], channels: list[int]) -> None:
    made = tower(kernels, channels)
    users, items = vectors(7, math.prod(kernels)), vectors(7, math.prod(kernels))
    ours, theirs = made(users, items), convolved(made, users, items)
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(ours)
    leaves = [users, items, *made.parameters()]
    for a, b in zip(torch.autograd.grad(ours, leaves, weights), torch.autograd.grad(theirs, leaves, weights), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(("kernels", "channels"), GEOMETRIES)
def test_every_user_with_every_item_equals_the_pairs(kernels: list[int], channels: list[int]) -> None:
    made = tower(kernels, channels)
    users, items = vectors(3, math.prod(kernels)), vectors(5, math.prod(kernels))
    weights = made.matrices
    crossed = weights.cross(weights.user_patches(users), weights.item_products(items), 5)
    for item in range(5):
        torch.testing.assert_close(crossed[item], convolved(made, users, items[item].expand_as(users)))


@pytest.mark.fidelity("N8")
def test_the_trace_of_the_map_is_the_inner_product() -> None:
    made = PatchTower([4], [1]).double()
    with torch.no_grad():
        made.weights[0].copy_(torch.eye(4))
    users, items = vectors(20, 4), vectors(20, 4)
    torch.testing.assert_close(made(users, items)[:, 0], (users * items).sum(1).relu())


@pytest.mark.fidelity("N9")
def test_swapped_vectors_with_transposed_kernels_are_the_same() -> None:
    made, turned = tower([2, 3, 2], [2, 3, 4]), tower([2, 3, 2], [2, 3, 4])
    with torch.no_grad():
        for weight in turned.weights:
            weight.copy_(weight.clone().transpose(2, 3))
    users, items = vectors(6, 12), vectors(6, 12)
    torch.testing.assert_close(turned(items, users), made(users, items))
    assert not torch.allclose(made(items, users), made(users, items))


@pytest.mark.fidelity("N2")
def test_the_authors_tower_has_as_many_parameters() -> None:
    made = PatchTower([2] * 6, [32] * 6)
    assert sum(parameter.numel() for parameter in made.parameters()) == 20_833 - 33


def test_no_outer_product_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block holds as many pairs as the first layer's results of one of them allow, and one at least."""
    weights = tower([4, 4, 2, 2], [32] * 4).matrices
    cpu = torch.device("cpu")
    assert pairs_per_block(weights, cpu) * 16 * 16 * 32 * 4 == patch_products.BLOCK_BYTES
    monkeypatch.setattr(patch_products, "BLOCK_BYTES", 1)
    assert pairs_per_block(weights, cpu) == 1


def test_kernels_that_fit_multiply_to_the_size() -> None:
    for size in range(2, 130):
        for layers in (None, 1, 2, 3, 4):
            kernels = fitting(size, layers)
            assert math.prod(kernels) == size and min(kernels) > 1
            assert layers is None or len(kernels) <= layers
