"""The parts of MKR: tables that two tasks share, cross-and-compress units, layers, and its two losses."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Initial = Literal["uniform", "normal"]
Activation = Literal["relu", "leaky_relu", "sigmoid"]


def glorot(*shape: int, initial: Initial, fans: int | None = None) -> nn.Parameter:
    """First values by Glorot and Bengio; ``fans`` is the sum of inputs and outputs, both sides of a matrix if not said."""
    values, fans = torch.empty(*shape), fans or sum(shape)
    if initial == "uniform":
        bound = math.sqrt(6 / fans)
        return nn.Parameter(values.uniform_(-bound, bound))
    return nn.Parameter(values.normal_(0.0, math.sqrt(2 / fans)))


class Rows(nn.Module):
    """A table whose first rows are those of items: the others rest while only items are asked for.

    One table in two pieces. An update of recommendation asks for items alone, and an optimiser passes over a parameter that
    has no gradient, however long it is.

    Parameters
    ----------
    n_items
        Rows 1 to ``n_items`` are items; row 0 is padding, it is zero and never asked for.
    n_rows
        The last row; may be ``n_items``.
    size
        Columns.
    initial
        See :func:`glorot`; the bound is that of one table.
    """

    def __init__(self, n_items: int, n_rows: int, size: int, initial: Initial) -> None:
        super().__init__()
        self.n_items = n_items
        self.items = glorot(n_items + 1, size, initial=initial, fans=n_rows + size)
        with torch.no_grad():
            self.items[0] = 0.0
        self.others = glorot(n_rows - n_items, size, initial=initial, fans=n_rows + size) if n_rows > n_items else None

    def forward(self, rows: Tensor) -> Tensor:
        """(...) rows of items, the others or both -> (..., size)."""
        if self.others is None:
            return F.embedding(rows, self.items)
        outside = rows > self.n_items
        items = F.embedding(torch.where(outside, 0, rows), self.items)
        others = F.embedding((rows - self.n_items - 1).clamp(min=0), self.others)
        return torch.where(outside[..., None], others, items)


class CrossCompress(nn.Module):
    """One unit: from an item's and an entity's vector, features of both.

    With ``C = v e^T``: ``v' = C w_vv + C^T w_ev + b_v`` and ``e' = C w_ve + C^T w_ee + b_e``. Here the same without the matrix:
    ``v' = v (e . w_vv) + e (v . w_ev) + b_v``, ``e' = v (e . w_ve) + e (v . w_ee) + b_e``.

    Parameters
    ----------
    size
        d.
    initial
        See :func:`glorot`.
    scalars
        Four scalar biases (b_vv and b_ev on v', b_ve and b_ee on e') in place of the two vectors.
    entity_side
        Whether e' is needed; a last unit whose e' nobody reads has no weights for it.

    References
    ----------
    Wang et al., WWW 2019, section 2.2.
    """

    def __init__(self, size: int, initial: Initial = "uniform", *, scalars: bool = False, entity_side: bool = True) -> None:
        super().__init__()
        self.scalars = scalars
        sides = ("v", "e") if entity_side else ("v",)
        self.weights = nn.ParameterDict(
            {f"{of}{side}": glorot(size, initial=initial, fans=size + 1) for side in sides for of in ("v", "e")}
        )
        names = [f"{of}{side}" for side in sides for of in ("v", "e")] if scalars else list(sides)
        self.biases = nn.ParameterDict({name: nn.Parameter(torch.zeros(() if scalars else size)) for name in names})

    def item(self, v: Tensor, e: Tensor) -> Tensor:
        """v', (B, d) from two (B, d)."""
        return self._side("v", v, e)

    def entity(self, v: Tensor, e: Tensor) -> Tensor:
        """e', (B, d) from two (B, d)."""
        return self._side("e", v, e)

    def _side(self, side: str, v: Tensor, e: Tensor) -> Tensor:
        mixed: Tensor = v * (e @ self.weights[f"v{side}"])[:, None] + e * (v @ self.weights[f"e{side}"])[:, None]
        bias: Tensor = self.biases[f"v{side}"] + self.biases[f"e{side}"] if self.scalars else self.biases[side]
        return mixed + bias


class Units(nn.ModuleList):
    """Cross-and-compress units, one upon the other.

    Parameters
    ----------
    layers
        How many.
    size, initial, scalars
        As of :class:`CrossCompress`.
    entities
        Whether the entity's features are asked for, and not only the item's.
    """

    def __init__(self, layers: int, size: int, initial: Initial, *, scalars: bool, entities: bool) -> None:
        super().__init__(
            CrossCompress(size, initial, scalars=scalars, entity_side=entities or layer + 1 < layers) for layer in range(layers)
        )

    def item(self, v: Tensor, e: Tensor) -> Tensor:
        """The item's features behind the last unit."""
        v, e = self._inner(v, e)
        return self._last.item(v, e)

    def entity(self, v: Tensor, e: Tensor) -> Tensor:
        """The entity's features behind the last unit."""
        v, e = self._inner(v, e)
        return self._last.entity(v, e)

    @property
    def _last(self) -> CrossCompress:
        last = self[-1]
        assert isinstance(last, CrossCompress)
        return last

    def _inner(self, v: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        for unit in list(self)[:-1]:
            assert isinstance(unit, CrossCompress)
            v, e = unit.item(v, e), unit.entity(v, e)
        return v, e

    def penalised(self) -> list[Tensor]:
        """All weights of the units."""
        return [weight for unit in self for weight in unit.weights.values()]  # type: ignore[operator]  # torch types children as Module


class Layers(nn.Module):
    """Linear layers, each with dropout before and an activation behind it.

    Parameters
    ----------
    sizes
        Width of the input and of every layer; one number alone is no layer at all.
    initial, activation, dropout
        Of every layer.
    linear_end
        No activation behind the last one.
    """

    def __init__(
        self, sizes: list[int], initial: Initial, activation: Activation, dropout: float, *, linear_end: bool = False
    ) -> None:
        super().__init__()
        self.activation, self.dropout, self.linear_end = activation, dropout, linear_end
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList(glorot(out, into, initial=initial) for into, out in pairs)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(out)) for _, out in pairs)

    def forward(self, x: Tensor) -> Tensor:
        """(..., first size) -> (..., last size), in the digits of the input."""
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = F.linear(F.dropout(x, self.dropout, self.training), weight.to(x.dtype), bias.to(x.dtype))
            if not (self.linear_end and place + 1 == len(self.weights)):
                x = _ACTIVATIONS[self.activation](x)
        return x

    def penalised(self) -> list[Tensor]:
        """All weights."""
        return list(self.weights)


_ACTIVATIONS = {"relu": torch.relu, "leaky_relu": F.leaky_relu, "sigmoid": torch.sigmoid}


def half_squares(tensors: Iterable[Tensor]) -> Tensor:
    """Half of the sum of all squares."""
    return 0.5 * torch.stack([torch.dot(flat, flat) for flat in (tensor.flatten() for tensor in tensors)]).sum()


def recommendation_loss(logits: Tensor, labels: Tensor, l2: float, vectors: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Mean logistic loss of a batch, plus l2 times half of the summed squares of its transformed vectors and of the weights.

    The penalty is no mean: a batch of twice the size has twice the penalty of vectors.

    Parameters
    ----------
    logits, labels
        (B,)
    l2
        Its weight.
    vectors, weights
        (B, d) transformed users and items; weights without biases.
    """
    loss = F.binary_cross_entropy_with_logits(logits, labels)
    return loss + l2 * half_squares([*vectors, *weights]) if l2 else loss


def triple_scores(tails: Tensor, predicted: Tensor) -> Tensor:
    """Sigmoid of the inner product of tails and what was predicted for them, (..., d) twice -> (...)."""
    return torch.sigmoid((tails * predicted).sum(-1))


def graph_loss(true: Tensor, corrupted: Tensor | None, l2: float, vectors: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Minus the *sum* over a batch of the scores of true triples, less the mean of corrupted ones, with B times the penalty.

    That is what the authors' code descends: its loss is a vector, one number a triple, each with the whole penalty, and
    the gradient of a vector is that of its sum.

    Parameters
    ----------
    true
        (B,) scores.
    corrupted
        (B, n) scores of the same triples with other tails; None for none.
    l2, vectors, weights
        See :func:`recommendation_loss`.
    """
    loss = -true.sum() if corrupted is None else -(true - corrupted.mean(1)).sum()
    return loss + len(true) * l2 * half_squares([*vectors, *weights]) if l2 else loss
