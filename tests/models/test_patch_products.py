"""Towers as patch products: equal to torch's convolutions, pair by pair and in blocks. Gradients: test_pairwise.py."""

from __future__ import annotations

import math

import pytest
import torch

from benchbed.models import patch_products
from benchbed.models.patch_products import PatchBlock, PatchTower, fitting, pairs_per_block
from tests.models.towers import GEOMETRIES, convolved, features, tower, vectors


@pytest.mark.parametrize("pairs", [1, 4, 100])
@pytest.mark.parametrize(("kernels", "channels"), GEOMETRIES)
def test_pairs_equal_convolutions(monkeypatch: pytest.MonkeyPatch, kernels: list[int], channels: list[int], pairs: int) -> None:
    monkeypatch.setattr(patch_products, "pairs_per_block", lambda *_: pairs)
    made = tower(kernels, channels)
    users, items = vectors(7, math.prod(kernels)), vectors(7, math.prod(kernels))
    torch.testing.assert_close(features(made, users, items), convolved(made, users, items))


@pytest.mark.parametrize(("kernels", "channels"), GEOMETRIES)
def test_every_user_with_every_item_equals_the_pairs(kernels: list[int], channels: list[int]) -> None:
    made = tower(kernels, channels)
    users, items = vectors(3, math.prod(kernels)).detach(), vectors(5, math.prod(kernels)).detach()
    weights = made.matrices.detach()
    block, products = PatchBlock(weights, 20), weights.item_products(items)
    for some in (users, users[:2]):  # the same memory serves a smaller block
        crossed = block.forward(weights.user_patches(some).flatten(0, 1).expand(len(products), -1, -1), products, 5, len(some))
        for item, found in enumerate(crossed.view(5, len(some), -1)):
            torch.testing.assert_close(found, convolved(made, some, items[item].expand_as(some)))


@pytest.mark.fidelity("N8")
def test_the_trace_of_the_map_is_the_inner_product() -> None:
    made = PatchTower([4], [1]).double()
    with torch.no_grad():
        made.weights[0].copy_(torch.eye(4))
    users, items = vectors(20, 4), vectors(20, 4)
    torch.testing.assert_close(features(made, users, items)[:, 0], (users * items).sum(1).relu())


@pytest.mark.fidelity("N9")
def test_swapped_vectors_with_transposed_kernels_are_the_same() -> None:
    made, turned = tower([2, 3, 2], [2, 3, 4]), tower([2, 3, 2], [2, 3, 4])
    with torch.no_grad():
        for weight in turned.weights:
            weight.copy_(weight.clone().transpose(2, 3))
    users, items = vectors(6, 12), vectors(6, 12)
    torch.testing.assert_close(features(turned, items, users), features(made, users, items))
    assert not torch.allclose(features(made, items, users), features(made, users, items))


@pytest.mark.fidelity("N2")
def test_the_authors_tower_has_as_many_parameters() -> None:
    made = PatchTower([2] * 6, [32] * 6)
    assert sum(parameter.numel() for parameter in made.parameters()) == 20_833 - 33


def test_no_outer_product_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block holds as many pairs as the first layer's results of one of them allow, and one at least."""
    weights = tower([4, 4, 2, 2], [32] * 4).matrices
    cpu = torch.device("cpu")
    assert pairs_per_block(weights, cpu) * 16 * 16 * 32 * weights.first.element_size() == patch_products.BLOCK_BYTES
    monkeypatch.setattr(patch_products, "BLOCK_BYTES", 1)
    assert pairs_per_block(weights, cpu) == 1


def test_kernels_that_fit_multiply_to_the_size() -> None:
    for size in range(2, 130):
        for layers in (None, 1, 2, 3, 4):
            kernels = fitting(size, layers)
            assert math.prod(kernels) == size and min(kernels) > 1
            assert layers is None or len(kernels) <= layers
