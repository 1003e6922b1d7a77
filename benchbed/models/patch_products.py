"""A convolutional tower over outer products whose kernels equal their strides, as matrix products over patches.

Where kernel equals stride, patches do not overlap: a convolution is a matrix with one patch a row, times the kernel. The first
layer sees a map of rank one, p q', so that its response to the patch (X, Y) is p_X' K q_Y. The products K q_Y belong to the
item alone; they are made once for all users of a ranking. No outer product is ever stored.

Activations of one pair take some ten kilobytes. Pairs are worked off in blocks that stay in the processor's cache
(:func:`pairs_per_block`), and the results of the first layer come out in the order in which the second one reads them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BLOCK_BYTES = 2**21
"""What the first layer's results of one block of pairs take on a processor; a GPU takes 64 times as much."""

ITEMS_AT_ONCE = 16
"""Items of one block when users are scored against items; a GPU takes 16 times as many."""


@dataclass(frozen=True)
class PatchWeights:
    """The tower's weights as the matrices of its products.

    Attributes
    ----------
    kernels
        Side of each layer's patches.
    first
        (k, k * C) first kernel: column of the patch x (row of the patch, channel).
    matrices
        Of each further layer, (patch * C_in, C_out).
    biases
        (C_out,) of every layer.
    """

    kernels: tuple[int, ...]
    first: Tensor
    matrices: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, in a fixed order."""
        return (self.first, *self.matrices, *self.biases)

    def with_tensors(self, tensors: Sequence[Tensor]) -> PatchWeights:
        """The same form with other tensors, in the order of :attr:`tensors`."""
        layers = len(self.kernels)
        return PatchWeights(self.kernels, tensors[0], tuple(tensors[1:layers]), tuple(tensors[layers:]))

    def detach(self) -> PatchWeights:
        """Without gradients."""
        return self.with_tensors([tensor.detach() for tensor in self.tensors])

    @property
    def second(self) -> int:
        """Side of the patches that the first layer's results are put together in; 1 where there is no second layer."""
        return self.kernels[1] if len(self.kernels) > 1 else 1

    def item_products(self, vectors: Tensor) -> Tensor:
        """What the first layer needs of items, with the bias as one more row.

        Parameters
        ----------
        vectors
            (M, d) item vectors.

        Returns
        -------
        Tensor
            (M * Y, k + 1, k' * C): for each column of next-layer patches, row of the patch x (place in that column, channel).
        """
        k, after, channels = self.kernels[0], self.second, len(self.biases[0])
        items, patches = len(vectors), vectors.shape[1] // k
        made = (vectors.reshape(items * patches, k) @ self.first).view(items, patches // after, after, k, channels)
        bias = self.biases[0].expand(items, patches // after, 1, after, channels)
        return torch.cat([made.transpose(2, 3), bias], 2).view(items * (patches // after), k + 1, after * channels)

    def user_patches(self, vectors: Tensor) -> Tensor:
        """(U, X, k + 1) the patches of (U, d) user vectors, with a 1 for the bias behind each."""
        k = self.kernels[0]
        patches = vectors.reshape(len(vectors), vectors.shape[1] // k, k)
        return nn.functional.pad(patches, (0, 1), value=1.0)

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """(n, C) features of pairs, from (n, d) user and (n, d) item vectors, one row a pair."""
        patches, products = self.user_patches(users), self.item_products(items)
        rows = len(products) // max(1, len(users))
        spread = patches[:, None].expand(-1, rows, -1, -1).reshape(len(products), *patches.shape[1:])
        return self._climb(torch.bmm(spread, products), len(users), 1).flatten(0, 1)

    def cross(self, patches: Tensor, products: Tensor, n_items: int) -> Tensor:
        """(n_items, U, C) features of every item with every user.

        Parameters
        ----------
        patches
            (U, X, k + 1), of :meth:`user_patches`.
        products
            Of :meth:`item_products`, for ``n_items`` items.
        """
        return self._climb(torch.bmm(patches.flatten(0, 1).expand(len(products), -1, -1), products), n_items, len(patches))

    def _climb(self, maps: Tensor, items: int, users: int) -> Tensor:
        """All that follows the first layer's products, which come as (items, Y, users, X, patch of the second layer)."""
        maps = maps.relu_()
        side = math.prod(self.kernels[1:])
        for layer, (k, matrix, bias) in enumerate(zip(self.kernels[1:], self.matrices, self.biases[1:], strict=True), start=1):
            side //= k
            if layer > 1:  # from here on maps are small: putting the patches together by a copy costs little
                maps = maps.view(items, side, k, users, side, k, -1).permute(0, 1, 3, 4, 2, 5, 6)
            maps = torch.addmm(bias, maps.reshape(items * users * side * side, -1), matrix).relu_()
        return maps.view(items, users, -1)


class PatchTower(nn.Module):
    """Convolutions without padding, kernel = stride, each with bias and ReLU, from a d x d map down to 1 x 1.

    Parameters
    ----------
    kernels
        Side of every kernel; their product is d.
    channels
        Output channels of every layer, as many as kernels.

    Attributes
    ----------
    weights, biases
        As of ``torch.nn.Conv2d``, one a layer.

    Examples
    --------
    >>> tower = PatchTower([2, 2], [3, 5])
    >>> tower(torch.randn(7, 4), torch.randn(7, 4)).shape
    torch.Size([7, 5])
    """

    def __init__(self, kernels: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        self.kernels = tuple(kernels)
        inputs = [1, *channels[:-1]]
        shapes = [(c, before, k, k) for c, before, k in zip(channels, inputs, self.kernels, strict=True)]
        self.weights = nn.ParameterList([torch.zeros(shape) for shape in shapes])
        self.biases = nn.ParameterList([torch.zeros(c) for c in channels])

    @property
    def matrices(self) -> PatchWeights:
        """The weights as matrices; gradients flow back to the parameters."""
        later = []
        for layer, weight in enumerate(list(self.weights)[1:], start=1):
            # What the first layer leaves is read by (row, column) of the patch, all further maps by (column, row).
            order = (2, 3, 1, 0) if layer == 1 else (3, 2, 1, 0)
            later.append(weight.permute(order).reshape(-1, len(weight)))
        first = self.weights[0][:, 0].permute(2, 1, 0)
        return PatchWeights(self.kernels, first.reshape(self.kernels[0], -1), tuple(later), tuple(self.biases))

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """(n, C) features of the maps ``users[r] items[r]'``, from (n, d) each."""
        return self.matrices.pairs(users, items)


def pairs_per_block(weights: PatchWeights, device: torch.device) -> int:
    """How many pairs are worked off at once: as many as keep the first layer's results in the cache."""
    side = math.prod(weights.kernels[1:])
    numbers = BLOCK_BYTES * (64 if device.type == "cuda" else 1) // 4
    return max(1, numbers // (side * side * len(weights.biases[0])))


def fitting(size: int, layers: int | None = None) -> tuple[int, ...]:
    """Kernels that bring a map of ``size`` down to 1, the smallest first: its prime factors.

    With ``layers``, so many of them: factors are joined from the front, so that the first layer takes most.

    Examples
    --------
    >>> fitting(64), fitting(48), fitting(64, 4)
    ((2, 2, 2, 2, 2, 2), (2, 2, 2, 2, 3), (4, 4, 2, 2))
    """
    factors, left, factor = [], size, 2
    while left > 1:
        if left % factor == 0:
            factors.append(factor)
            left //= factor
        else:
            factor += 1
    while layers is not None and len(factors) > max(1, layers):
        at = min(range(len(factors) - 1), key=lambda place: factors[place] * factors[place + 1])
        factors[at : at + 2] = [factors[at] * factors[at + 1]]
    return tuple(factors)
