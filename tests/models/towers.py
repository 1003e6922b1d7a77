"""Towers of convolutions with random weights, and what they are by definition."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchbed.models.patch_products import PatchTower, features_of_pairs

GEOMETRIES = [([6], [3]), ([2, 2], [3, 5]), ([2, 3, 2], [2, 3, 4]), ([4, 4, 2, 2], [8, 8, 8, 8]), ([3, 2, 2, 2], [2, 3, 4, 5])]
"""Kernels and channels."""


def tower(kernels: list[int], channels: list[int], seed: int = 0) -> PatchTower:
    torch.manual_seed(seed)
    made = PatchTower(kernels, channels).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def vectors(n: int, d: int) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, requires_grad=True)


def convolved(tower: PatchTower, users: Tensor, items: Tensor) -> Tensor:
    """The definition: outer product, then one convolution after the other."""
    maps = (users[:, :, None] * items[:, None, :])[:, None]
    for weight, bias in zip(tower.weights, tower.biases, strict=True):
        maps = F.conv2d(maps, weight, bias, stride=weight.shape[-1]).relu()
    assert maps.shape[2:] == (1, 1)
    return maps.flatten(1)


def features(tower: PatchTower, users: Tensor, items: Tensor) -> Tensor:
    """The same by patch products."""
    return torch.cat([found.clone() for _, found in features_of_pairs(tower.matrices.detach(), users.detach(), items.detach())])
