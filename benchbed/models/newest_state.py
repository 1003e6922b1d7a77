"""The state of a GRU after the newest event of every history, for ranking: faster than running ``nn.GRU`` over padded rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK_ROWS = 256
"""Histories that a processor advances together: their gates stay in its cache."""


def newest_states(gru: nn.GRU, vectors: Tensor, index: Tensor, lengths: Tensor) -> Tensor:
    """The last layer's state after the newest event of every row; zero for rows without events.

    On a processor and without gradients: inputs pass through the first layer's input weights once per distinct vector, not per
    event; rows of like length advance together, none beyond its end. Otherwise ``gru`` itself runs over the padded rows.

    Parameters
    ----------
    gru
        ``batch_first``, one direction, in evaluation mode.
    vectors
        (M, d) distinct inputs.
    index
        (B, T) which of them stands at each place, left-aligned; what stands beyond a row's length is not read.
    lengths
        (B,) events of each row, at most T.

    Returns
    -------
    Tensor
        (B, hidden).

    Examples
    --------
    >>> gru = torch.nn.GRU(3, 4, batch_first=True).eval()
    >>> vectors, index = torch.randn(5, 3), torch.tensor([[0, 4, 2], [1, 0, 0]])
    >>> with torch.no_grad():
    ...     made = newest_states(gru, vectors, index, torch.tensor([3, 1]))
    ...     bool(torch.allclose(made[1], gru(vectors[1][None, None])[0][0, 0], atol=1e-6))
    True
    """
    if index.is_cuda or torch.is_grad_enabled():
        outputs = gru(F.embedding(index, vectors))[0]
        newest: Tensor = outputs[torch.arange(len(index), device=index.device), (lengths - 1).clamp(min=0)]
        return newest * (lengths > 0)[:, None]
    layers = [[_weight(gru, f"{kind}_l{layer}") for kind in _KINDS] for layer in range(gru.num_layers)]
    gates = _linear(vectors, layers[0][0], layers[0][1])
    newest = vectors.new_zeros(len(index), gru.hidden_size)
    for rows in torch.split(lengths.argsort(descending=True), BLOCK_ROWS):
        long = lengths[rows]
        going = (long[:, None] > torch.arange(int(long.max()) if len(long) else 0)).sum(0).tolist()
        places = index[rows].T.contiguous()
        states = [newest.new_zeros(len(rows), gru.hidden_size) for _ in layers]
        for column, n in enumerate(going):
            entering = gates[places[column, :n]]
            for layer, (weight, bias, recurrent, recurrent_bias) in enumerate(layers):
                if layer:
                    entering = _linear(states[layer - 1][:n], weight, bias)
                _advance(states[layer][:n], entering, _linear(states[layer][:n], recurrent, recurrent_bias))
        newest[rows] = states[-1]
    return newest


_KINDS = ("weight_ih", "bias_ih", "weight_hh", "bias_hh")


def _weight(gru: nn.GRU, name: str) -> Tensor | None:
    found: Tensor | None = getattr(gru, name, None)
    return found


def _linear(vectors: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    assert weight is not None
    return F.linear(vectors, weight, bias)


def _advance(state: Tensor, entering: Tensor, returning: Tensor) -> None:
    """One step in place: reset gate, update gate, candidate, in torch's order and with torch's roles."""
    size = state.shape[1]
    reset, update = torch.chunk(entering[:, : 2 * size].add_(returning[:, : 2 * size]).sigmoid_(), 2, 1)
    candidate = entering[:, 2 * size :].addcmul_(reset, returning[:, 2 * size :]).tanh_()
    state.sub_(candidate).mul_(update).add_(candidate)
