"""Samplers of negatives. Items are 1..n_items; padding is never drawn.

Random numbers come from torch's global generator of the sampler's device, which the training loop seeds.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchbed.errors import ModelError


class PopularitySampler:
    """Draws items with replacement, in proportion to ``support ** alpha``.

    Parameters
    ----------
    item_counts
        (n_items + 1,) training events of each item; padding comes first and is not looked at.
    alpha
        0 draws all items alike, 1 as often as they occur. An item without a training event is drawn with 0 alone.
    device
        Where items are drawn.

    Raises
    ------
    ModelError
        No item can be drawn.

    Examples
    --------
    >>> PopularitySampler(np.array([0, 8, 4, 1, 1]), alpha=0.5).probabilities
    tensor([0.4142, 0.2929, 0.1464, 0.1464], dtype=torch.float64)
    """

    def __init__(self, item_counts: NDArray[np.integer] | Tensor, alpha: float, device: str | torch.device = "cpu") -> None:
        if alpha < 0:
            raise ValueError(f"alpha is at least 0, not {alpha}")
        support = torch.as_tensor(item_counts, dtype=torch.float64)[1:].to(device)
        weights = support**alpha  # 0 ** 0 is 1: with alpha 0 all items are alike
        if not bool(weights.sum() > 0):
            raise ModelError("No item has a training event, so there is nothing to draw negatives from.")
        cumulated = weights.cumsum(0)
        self.n_items = len(support)
        self.probabilities = weights / cumulated[-1]
        # The end is exactly 1, above every random number, also where the last items have no weight.
        self._cumulated = cumulated / cumulated[-1]
        self._uniform = alpha == 0
        padding = support.new_zeros(1)
        self._log_support = torch.cat([padding, support.log()]).to(torch.get_default_dtype())
        self._log_weight = torch.zeros_like(self._log_support) if alpha == 0 else self._log_support * alpha

    def draw(self, n: int) -> Tensor:
        """(n,) int64 items."""
        device = self._cumulated.device
        if self._uniform:
            return torch.randint(1, self.n_items + 1, (n,), device=device)
        return torch.searchsorted(self._cumulated, torch.rand(n, device=device, dtype=torch.float64), right=True).add_(1)

    def log_weight(self, items: Tensor) -> Tensor:
        """``alpha * log(support)`` of items, not normalised: what ``logq`` takes from columns that were drawn here."""
        return self._log_weight[items]

    def log_support(self, items: Tensor) -> Tensor:
        """``log(support)`` of items: what ``logq`` takes from columns that are targets of the batch."""
        return self._log_support[items]


def uniform_except(positives: Tensor, n_items: int, s: int) -> Tensor:
    """Negatives of their own for every row, all other items alike.

    Parameters
    ----------
    positives
        (n,) int64 items; the one that a row does not draw.
    n_items
        Items there are, at least 2.
    s
        Negatives a row, drawn with replacement.

    Returns
    -------
    Tensor
        (n, s) int64 items.

    Examples
    --------
    >>> uniform_except(torch.tensor([1, 2]), 2, 3)
    tensor([[2, 2, 2],
            [1, 1, 1]])
    """
    if n_items < 2:
        raise ModelError("With one item there is no other to draw as a negative.")
    drawn = torch.randint(1, n_items, (len(positives), s), device=positives.device)
    return drawn.add_(drawn >= positives[:, None])  # the items from the positive on move up by one


class _UniqueSampler:
    """Draws distinct items as a loop would that draws with replacement until it has enough of them."""

    def __init__(self, probabilities: Tensor) -> None:
        self.n_items = len(probabilities)
        self.probabilities = probabilities
        self._log_miss = torch.log1p(-probabilities)

    def draw_unique(self, n: int) -> tuple[Tensor, Tensor]:
        """Draw with replacement until there are ``n`` distinct items.

        There is no such loop inside: the order in which items first come up is that of exponential clocks with their
        probabilities as rates, and how many draws pass between two new items is a geometric number. So there is no waiting for
        rare items, and no copy from the device.

        Returns
        -------
        items
            (n,) int64, distinct, in the order in which they came up.
        tries
            A scalar int64: all draws, repeats included.

        Raises
        ------
        ModelError
            There are fewer than ``n`` items.
        """
        if n > self.n_items:
            raise ModelError(
                f"{n} distinct negatives cannot be drawn from {self.n_items} items.", advice="Lower the number of negatives."
            )
        p = self.probabilities
        index = torch.topk(torch.empty_like(p).exponential_().div_(p), n, largest=False, sorted=True).indices
        new = p[index]
        # Mass not yet met before each new item, summed from its small end: near 0 a difference from 1 would be noise.
        unmet = new.flip(0).cumsum(0).flip(0) + p.index_fill(0, index, 0.0).sum()
        repeats = torch.floor((1 - torch.rand_like(new)).log() / torch.log1p(-unmet.clamp(max=1.0)))
        return index + 1, repeats.sum().to(torch.int64) + n

    def log_expected_count(self, items: Tensor, tries: Tensor | int) -> Tensor:
        """Logarithm of the expected number of times (0 to 1) that each item is among the distinct items of so many draws."""
        return torch.log(-torch.expm1(tries * self._log_miss[items - 1])).to(torch.get_default_dtype())


class UniformSampler(_UniqueSampler):
    """Distinct items, all alike.

    Parameters
    ----------
    n_items
        Items there are.
    device
        Where items are drawn.
    """

    def __init__(self, n_items: int, device: str | torch.device = "cpu") -> None:
        super().__init__(torch.full((n_items,), 1.0 / n_items, dtype=torch.float64, device=device))


class LogUniformSampler(_UniqueSampler):
    """Distinct items by Zipf's law over their numbers: item ``i`` comes up with ``log((i + 1) / i) / log(n_items + 1)``.

    It makes sense only where items are numbered by falling popularity.

    Parameters
    ----------
    n_items
        Items there are.
    item_counts
        (n_items + 1,) training events, to check that they fall; None when the caller knows.
    device
        Where items are drawn.

    Raises
    ------
    ModelError
        Items are not numbered by falling counts.

    References
    ----------
    The sampler of TensorFlow's sampled softmax, whose numbers start with 0.

    Examples
    --------
    >>> sampler = LogUniformSampler(5)
    >>> sampler.log_expected_count(torch.tensor([1, 5]), tries=4).exp()
    tensor([0.8587, 0.3490])
    """

    def __init__(
        self, n_items: int, item_counts: NDArray[np.integer] | Tensor | None = None, device: str | torch.device = "cpu"
    ) -> None:
        if item_counts is not None and bool((torch.as_tensor(item_counts)[1:].diff() > 0).any()):
            raise ModelError(
                "Log-uniform negatives need items numbered by falling number of training events; these are not.",
                advice="Use uniform negatives, or number the items by their counts.",
            )
        items = torch.arange(1, n_items + 1, dtype=torch.float64, device=device)
        super().__init__(torch.log1p(1 / items) / np.log(n_items + 1))
