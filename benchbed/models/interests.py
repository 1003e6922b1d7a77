"""Several interest vectors of a history by self-attention, and those of every prefix of a window in one pass."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PREFIX_BLOCK = 64
"""Positions whose prefixes are computed as one small matrix; what came before is carried along as two numbers and a vector."""

_FAR_BELOW = -(2.0**32) + 1  # the authors' logit of a pad: no weight beside any event, equal weights where all are pads


class SelfAttentiveInterests(nn.Module):
    """K softmax-weighted means of a history's item vectors; the weights come from a two-layer network.

    ``A = softmax over events of tanh((H + P) W1 + b1) W2`` and ``V = A' H``. The second bias of the authors' code adds one
    number to all events of an interest, which the softmax takes out again, so that there is none here.

    Parameters
    ----------
    size
        d, width of the item vectors.
    attention_size
        Width of the network's hidden layer.
    interests
        K.
    window
        Longest history.
    positions
        Where the trained position vectors enter, counted from the oldest event of the window: into the ``weights`` alone (the
        authors' code), into the ``inputs`` and so into the interests too (the paper), or ``none``.
    biases
        Whether the hidden layer has a bias.

    References
    ----------
    Cen et al., KDD 2020, section 3.2.2; Lin et al., ICLR 2017 (structured self-attention).
    """

    def __init__(
        self,
        size: int,
        attention_size: int,
        interests: int,
        window: int,
        *,
        positions: Literal["weights", "inputs", "none"],
        biases: bool,
    ) -> None:
        super().__init__()
        self.where = positions
        self.positions = None if positions == "none" else nn.Parameter(torch.empty(window, size))
        self.hidden = nn.Linear(size, attention_size, bias=biases)
        self.heads = nn.Linear(attention_size, interests, bias=False)
        for name, parameter in self.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.xavier_uniform_(parameter)

    def encode(self, embedded: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and values of every event.

        Parameters
        ----------
        embedded
            (B, T, d) item vectors, oldest event first, padded on the right.
        inside
            (B, T) bool, False at pads.

        Returns
        -------
        logits
            (B, T, K), without regard to pads.
        values
            (B, T, d) what the weights average, zero at pads.
        """
        values = embedded * inside[..., None]
        placed = values if self.positions is None else values + self.positions[: embedded.shape[1]]
        logits: Tensor = self.heads(torch.tanh(self.hidden(placed)))
        return logits, placed * inside[..., None] if self.where == "inputs" else values

    def forward(self, embedded: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and interests of whole histories.

        Returns
        -------
        weights
            (B, T, K); each interest's sum to 1 over the events, and are exactly 0 at pads. A history of pads alone has equal
            weights everywhere.
        interests
            (B, K, d); zero for a history of pads alone.
        """
        logits, values = self.encode(embedded, inside)
        weights = logits.masked_fill(~inside[..., None], _FAR_BELOW).softmax(1)
        return weights, weights.transpose(1, 2) @ values


def choose(interests: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The interest closest to one item, by inner product. No gradient passes through the choice.

    Parameters
    ----------
    interests
        (B, K, d).
    wanted
        (B, d) item vectors.

    Returns
    -------
    vectors
        (B, d) the chosen interests.
    chosen
        (B,) their numbers, from 0.
    """
    with torch.no_grad():
        chosen = (interests @ wanted[..., None]).squeeze(-1).argmax(1)
    place = torch.arange(len(chosen), device=chosen.device) * interests.shape[1] + chosen
    return interests.flatten(0, 1).index_select(0, place), chosen


def choose_in_every_prefix(
    logits: Tensor, values: Tensor, wanted: Tensor, *, block: int = PREFIX_BLOCK
) -> tuple[Tensor, Tensor]:
    """For every prefix of a window the interest closest to one item: :func:`choose` for all prefixes in one pass.

    The logit of an event does not depend on where its prefix ends, so that the weights of all prefixes come from the same
    logits. Within a block of positions they are a triangular softmax; across blocks each interest carries the logarithm of its
    sum of weights and its mean (running maximum, sum and weighted sum in their normalised form), which enter the next block as
    if they were one more event. Nothing is divided by a sum that underflowed, whatever the logits. Only the chosen interest of
    each prefix is computed as a vector: to choose, the inner products of events and wanted items are enough.

    Parameters
    ----------
    logits
        (B, T, K).
    values
        (B, T, d).
    wanted
        (B, T, d); row t is what the prefix of events 0..t is compared with.
    block
        Positions a block.

    Returns
    -------
    vectors
        (B, T, d) the chosen interest of each prefix.
    chosen
        (B, T) its number, from 0.
    """
    vectors: list[Tensor] = []
    chosen: list[Tensor] = []
    total: Tensor | None = None  # (B, K) log of the sum of weights before this block
    mean: Tensor | None = None  # (B, K, d) interests of what came before this block
    for start in range(0, logits.shape[1], block):
        part = logits[:, start : start + block].transpose(1, 2)  # (B, K, C)
        own = values[:, start : start + block]
        width = own.shape[1]
        future = torch.ones(width, width, dtype=torch.bool, device=logits.device).triu(1)
        with torch.no_grad():
            pick = _closest(part, own, wanted[:, start : start + block], future, total, mean)
        one_hot = F.one_hot(pick, part.shape[1]).to(part.dtype)  # (B, C, K)
        lines = (one_hot @ part).masked_fill(future, -torch.inf)
        if total is None or mean is None:
            vectors.append(lines.softmax(-1) @ own)
        else:
            weights = torch.cat([lines, one_hot @ total[..., None]], -1).softmax(-1)
            vectors.append(weights[..., :-1] @ own + weights[..., -1:] * (one_hot @ mean))
        chosen.append(pick)
        if start + block < logits.shape[1]:
            if total is None or mean is None:
                total, mean = part.logsumexp(-1), part.softmax(-1) @ own
            else:
                line = torch.cat([part, total[..., None]], -1)
                weights = line.softmax(-1)
                total, mean = line.logsumexp(-1), weights[..., :-1] @ own + weights[..., -1:] * mean
    return torch.cat(vectors, 1), torch.cat(chosen, 1)


def _closest(part: Tensor, own: Tensor, wanted: Tensor, future: Tensor, total: Tensor | None, mean: Tensor | None) -> Tensor:
    """(B, C) the interest with the largest inner product for each prefix that ends in a block."""
    products = (wanted @ own.transpose(1, 2))[:, None]  # (B, 1, C, C)
    lines = part[:, :, None, :].masked_fill(future, -torch.inf)  # (B, K, C, C)
    if total is None or mean is None:
        return (lines.softmax(-1) * products).sum(-1).argmax(1)
    weights = torch.cat([lines, total[:, :, None, None].expand(*lines.shape[:3], 1)], -1).softmax(-1)
    before = (mean @ wanted.transpose(1, 2)) * weights[..., -1]  # (B, K, C)
    return ((weights[..., :-1] * products).sum(-1) + before).argmax(1)
