"""A convolutional tower over outer products whose kernels equal their strides, as matrix products over patches.

Where kernel equals stride, patches do not overlap: a convolution is a matrix with one patch a row, times the kernel. The first
layer sees a map of rank one, p q', so that its response to the patch (X, Y) is p_X' K q_Y. The products K q_Y belong to the
item alone; they are made once for all users of a ranking. No outer product is ever stored.

Activations of one pair take some ten kilobytes. Pairs are worked off in blocks that stay in the processor's cache
(:func:`pairs_per_block`), and the results of the first layer come out in the order in which the second one reads them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
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


class PatchBlock:
    """One block of pairs after the other, forwards and backwards, in memory that serves all blocks.

    Memory that is asked for anew for every block costs more than the products do: the system hands it out page by page.

    Parameters
    ----------
    weights
        Of the tower.
    pairs
        Most pairs of a block.
    learning
        Whether :meth:`backward` will be called.
    """

    def __init__(self, weights: PatchWeights, pairs: int, *, learning: bool = False) -> None:
        self.weights = weights
        sides = [math.prod(weights.kernels[layer + 1 :]) for layer in range(len(weights.kernels))]
        self._sides = sides
        self._widths = [len(bias) for bias in weights.biases]
        like = weights.first
        sizes = [pairs * side * side * width for side, width in zip(sides, self._widths, strict=True)]
        self._maps = [like.new_empty(size) for size in sizes]
        # From the third layer on, patches are put together by a copy: of results that are a fraction of the first layer's.
        self._inputs = [like.new_empty(size if layer > 0 else 0) for layer, size in enumerate(sizes[:-1])]
        self._gradients = [like.new_empty(size) for size in sizes[:-1]] if learning else []

    @torch.no_grad()
    def forward(self, spread: Tensor, products: Tensor, items: int, users: int) -> Tensor:
        """(items * users, C) features of every item with every user, valid until the next call; no gradient is recorded.

        Parameters
        ----------
        spread
            (items * Y, users * X, k + 1) patches of the users (of :meth:`PatchWeights.user_patches`) for each row of products.
        products
            (items * Y, k + 1, k' * C), of :meth:`PatchWeights.item_products`.
        items, users
            How many; pairs are ``items`` with one user each.
        """
        self._spread, self._products, self._items, self._users = spread, products, items, users
        maps = self._result(0).view(len(products), spread.shape[1], -1)
        torch.bmm(spread, products, out=maps)
        _relu(maps)
        for layer in range(1, len(self._sides)):
            _relu(
                torch.addmm(
                    self.weights.biases[layer], self._input(layer), self.weights.matrices[layer - 1], out=self._result(layer)
                )
            )
        return self._result(len(self._sides) - 1)

    def backward(self, gradient: Tensor, sums: Sequence[Tensor] | None) -> Tensor:
        """The gradient of the first layer's results, of the block that :meth:`forward` has seen last.

        Parameters
        ----------
        gradient
            (items * users, C) of the features; it is overwritten.
        sums
            Shaped as :attr:`PatchWeights.tensors`, to which the gradients of the further layers are added; None for frozen
            weights.

        Returns
        -------
        Tensor
            (items * Y, users * X, k' * C), valid until the next call.
        """
        layers = len(self._sides)
        for layer in reversed(range(1, layers)):
            _through_relu(gradient, self._result(layer))
            if sums is not None:
                sums[layer].addmm_(self._input(layer, fresh=False).T, gradient)
                sums[layers + layer].add_(gradient.sum(0))
            below = self._gradients[layer - 1][: self._result(layer - 1).numel()]
            if layer == 1:
                gradient = torch.mm(gradient, self.weights.matrices[0].T, out=below.view(len(gradient), -1))
            else:
                of_patches = torch.mm(gradient, self.weights.matrices[layer - 1].T, out=self._input(layer, fresh=False))
                gradient = below.view_as(self._result(layer - 1))
                self._apart(gradient, layer).copy_(of_patches.view(self._together(layer)))
        gradient = gradient.reshape(len(self._products), self._spread.shape[1], -1)
        _through_relu(gradient, self._result(0).view_as(gradient))
        return gradient

    def to_users(self, gradient: Tensor) -> Tensor:
        """(items, d) gradients of the user vectors of pairs, from what :meth:`backward` gave."""
        k = self.weights.kernels[0]
        found = torch.bmm(gradient, self._products.transpose(1, 2))
        return found.view(self._items, -1, found.shape[1], k + 1).sum(1)[:, :, :k].flatten(1)

    def to_items(self, gradient: Tensor, vectors: Tensor, sums: Sequence[Tensor] | None) -> Tensor:
        """(items, d) gradients of the (items, d) item vectors; those of the first layer are added to ``sums``."""
        k, after, channels = self.weights.kernels[0], self.weights.second, self._widths[0]
        found = torch.bmm(self._spread.transpose(1, 2), gradient).view(self._items, -1, k + 1, after, channels)
        of_kernel = found[:, :, :k].transpose(2, 3).reshape(-1, k * channels)
        if sums is not None:
            sums[0].addmm_(vectors.reshape(-1, k).T, of_kernel)
            sums[len(self._sides)].add_(found[:, :, k].sum((0, 1, 2)))
        return (of_kernel @ self.weights.first.T).view_as(vectors)

    def _result(self, layer: int) -> Tensor:
        """(pairs * side * side, C) of a layer; of the first, in the order of the second one's patches."""
        rows = self._items * self._users * self._sides[layer] ** 2
        return self._maps[layer][: rows * self._widths[layer]].view(rows, -1)

    def _input(self, layer: int, *, fresh: bool = True) -> Tensor:
        """(pairs * side * side, patch * C) what a layer reads, put together anew or as it lies there."""
        rows = self._items * self._users * self._sides[layer] ** 2
        before = self._result(layer - 1)
        if layer == 1:
            return before.view(rows, -1)
        made = self._inputs[layer - 1][: before.numel()]
        if fresh:
            made.view(self._together(layer)).copy_(self._apart(before, layer))
        return made.view(rows, -1)

    def _apart(self, results: Tensor, layer: int) -> Tensor:
        """Results of the layer before as (items, users, Y, X, column, row, C), a view."""
        side, k = self._sides[layer], self.weights.kernels[layer]
        return results.view(self._items, side, k, self._users, side, k, -1).permute(0, 1, 3, 4, 2, 5, 6)

    def _together(self, layer: int) -> tuple[int, ...]:
        side, k = self._sides[layer], self.weights.kernels[layer]
        return self._items, side, self._users, side, k, k, self._widths[layer - 1]


def _relu(maps: Tensor) -> None:
    """Negative numbers become 0.

    Those of bfloat16 are negative as integers, too, and integers are cut twice as fast; a NaN may get lost there, which is why
    nothing rests on coarse scores alone.
    """
    if maps.dtype == torch.bfloat16 and not maps.is_cuda:
        maps.view(torch.int16).clamp_min_(0)
    else:
        maps.relu_()


def _through_relu(gradient: Tensor, results: Tensor) -> None:
    """Set a gradient to zero where the results are."""
    torch.ops.aten.threshold_backward.grad_input(gradient, results, 0, grad_input=gradient)


@torch.no_grad()
def features_of_pairs(weights: PatchWeights, users: Tensor, items: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Features of pairs, from (n, d) user and (n, d) item vectors, a block at a time.

    Yields
    ------
    tuple
        Which pairs, and their (pairs, C) features, valid until the next block.
    """
    size = pairs_per_block(weights, users.device)
    block = PatchBlock(weights, min(size, len(users)))
    for start in range(0, len(users), size):
        pairs = slice(start, start + size)
        products = weights.item_products(items[pairs])
        n = len(users[pairs])
        yield pairs, block.forward(spread_patches(weights.user_patches(users[pairs]), products), products, n, 1)


def spread_patches(patches: Tensor, products: Tensor) -> Tensor:
    """(n * Y, X, k + 1) patches of one user a pair, for each row of the products of n items."""
    rows = len(products) // max(1, len(patches))
    return patches[:, None].expand(-1, rows, -1, -1).reshape(len(products), *patches.shape[1:])


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
    >>> [(pairs, found.shape) for pairs, found in features_of_pairs(tower.matrices, torch.randn(7, 4), torch.randn(7, 4))]
    [(slice(0, 43690, None), torch.Size([7, 5]))]
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


def pairs_per_block(weights: PatchWeights, device: torch.device) -> int:
    """How many pairs are worked off at once: as many as keep the first layer's results in the cache."""
    side = math.prod(weights.kernels[1:])
    numbers = BLOCK_BYTES * (64 if device.type == "cuda" else 1) // weights.first.element_size()
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
