"""The recurrent unit of GRU4Rec's authors. It is not the one of ``torch.nn.GRU``."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def official_init_(weight: Tensor, gates: int = 1) -> Tensor:
    """Fill a matrix uniformly in ±sqrt(6 / (rows + columns of one gate)), in place.

    Parameters
    ----------
    weight
        (n_in, gates * n_out); the blocks of several gates lie side by side. Each gets the bound of a matrix of its own: the
        bound of the whole would be narrower.
    gates
        Number of blocks.

    Examples
    --------
    >>> bool(official_init_(torch.empty(4, 18), gates=3).abs().max() <= (6 / (4 + 6)) ** 0.5)
    True
    """
    rows, columns = weight.shape
    bound = math.sqrt(6.0 / (rows + columns // gates))
    with torch.no_grad():
        return weight.uniform_(-bound, bound)


class ResetBeforeGRU(nn.Module):
    """Gated recurrent units that apply the reset gate to the state before the matrix product, with one bias a gate.

    ``r, z = sigmoid(x W + h U + b);  n = tanh(x W_n + (r * h) U_n + b_n);  h' = (1 - z) * h + z * n``

    ``torch.nn.GRU`` resets after the product, has two biases a gate and gives ``z`` the opposite part. Weights start as
    :func:`official_init_` says, biases at zero.

    Parameters
    ----------
    input_size
        Width of inputs. None: inputs are already (..., 3 * hidden_size), what they add to the gates r, z and n of the first
        layer, such as rows of a table of items (one-hot inputs need no product).
    hidden_size
        Width of the state of every layer.
    layers
        Layers, each fed by the one below.
    dropout
        Share of every layer's new state that is dropped in training, the last layer's too. The state that goes on to the next
        step is the dropped one.

    Attributes
    ----------
    inputs, gates, candidate, biases
        One entry a layer: (n_in, 3h) for r, z, n (None for a first layer without); (h, 2h) for r, z; (h, h) for n; (3h,).

    References
    ----------
    Cho et al., EMNLP 2014; the Theano code of Hidasi et al., ICLR 2016.

    Examples
    --------
    >>> cell = ResetBeforeGRU(3, 5, layers=2)
    >>> output, state = cell.step(torch.ones(4, 3), cell.zero_state(4))
    >>> output.shape, state.shape, bool((output == state[-1]).all())
    (torch.Size([4, 5]), torch.Size([2, 4, 5]), True)
    """

    def __init__(self, input_size: int | None, hidden_size: int, layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden_size, self.layers, self.dropout = hidden_size, layers, dropout
        self.first_is_gates = input_size is None
        widths = ([] if input_size is None else [input_size]) + [hidden_size] * (layers - 1)
        self.inputs = nn.ParameterList(official_init_(torch.empty(width, 3 * hidden_size), gates=3) for width in widths)
        self.gates = nn.ParameterList(official_init_(torch.empty(hidden_size, 2 * hidden_size), gates=2) for _ in range(layers))
        self.candidate = nn.ParameterList(official_init_(torch.empty(hidden_size, hidden_size)) for _ in range(layers))
        self.biases = nn.ParameterList(torch.zeros(3 * hidden_size) for _ in range(layers))

    def zero_state(self, rows: int) -> Tensor:
        """(layers, rows, h) zeros on the device of the weights."""
        bias: Tensor = self.biases[0]
        return bias.new_zeros(self.layers, rows, self.hidden_size)

    def step(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One event of every row.

        Parameters
        ----------
        inputs
            (M, input_size).
        state
            (layers, M, h) state before. It is not detached here: how far gradients go back in time is the caller's choice.

        Returns
        -------
        output
            (M, h) new state of the last layer.
        state
            (layers, M, h) new state of all layers.
        """
        after = []
        for layer in range(self.layers):
            inputs = self._cell(layer, self._projected(layer, inputs), state[layer])
            after.append(inputs)
        return inputs, inputs[None] if self.layers == 1 else torch.stack(after)

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All events of every row.

        Parameters
        ----------
        inputs
            (B, T, input_size), T at least 1. An output depends on inputs up to its own place only, so that padding on the right
            does not disturb what stands before it; the state after a shorter row is that row's output at its last event.
        state
            (layers, B, h) before the first event; None for zeros.

        Returns
        -------
        outputs
            (B, T, h) state of the last layer after every event.
        state
            (layers, B, h) state of all layers after event T.
        """
        if state is None:
            state = self.zero_state(len(inputs))
        after = []
        for layer in range(self.layers):
            hidden, outputs = state[layer], []
            for gates in self._projected(layer, inputs).unbind(1):  # the product with inputs, once for all events
                hidden = self._cell(layer, gates, hidden)
                outputs.append(hidden)
            inputs = torch.stack(outputs, 1)
            after.append(hidden)
        return inputs, torch.stack(after)

    def _projected(self, layer: int, inputs: Tensor) -> Tensor:
        """What the inputs of a layer add to its gates: (..., n_in) -> (..., 3h)."""
        bias: Tensor = self.biases[layer]
        if self.first_is_gates:
            if layer == 0:
                return inputs + bias
            layer -= 1
        weight: Tensor = self.inputs[layer]
        return torch.addmm(bias, inputs, weight) if inputs.dim() == 2 else inputs @ weight + bias

    def _cell(self, layer: int, gates: Tensor, hidden: Tensor) -> Tensor:
        size = self.hidden_size
        reset, update = torch.addmm(gates[:, : 2 * size], hidden, self.gates[layer]).sigmoid().chunk(2, 1)
        candidate = torch.addmm(gates[:, 2 * size :], reset * hidden, self.candidate[layer]).tanh()
        return F.dropout(torch.lerp(hidden, candidate, update), self.dropout, self.training)
