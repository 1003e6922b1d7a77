"""The authors' recurrent unit: a step worked out by hand, initial weights, dropout, and both forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from benchbed.models.cells import ResetBeforeGRU, official_init_


def by_hand() -> ResetBeforeGRU:
    """The cell of the worked example: two inputs, two units, no bias."""
    cell = ResetBeforeGRU(2, 2).double()
    new = {"n": [[0.1, 0.2], [0.3, -0.4]], "r": [[0.5, -0.1], [0.0, 0.2]], "z": [[-0.3, 0.1], [0.2, 0.6]]}
    old = {"n": [[0.2, -0.5], [0.4, 0.1]], "r": [[0.3, 0.3], [-0.2, 0.1]], "z": [[0.1, 0.0], [0.25, -0.5]]}
    with torch.no_grad():
        cell.inputs[0].copy_(torch.cat([torch.tensor(new[gate]) for gate in "rzn"], 1))
        cell.gates[0].copy_(torch.cat([torch.tensor(old[gate]) for gate in "rz"], 1))
        cell.candidate[0].copy_(torch.tensor(old["n"]))
    return cell


def test_a_step_worked_out_by_hand() -> None:
    x, h = torch.tensor([[1.0, -1.0]], dtype=torch.float64), torch.tensor([[[0.5, -0.25]]], dtype=torch.float64)
    output, state = by_hand().step(x, h)
    assert output[0].tolist() == pytest.approx([0.2464147880, 0.0140458894], abs=1e-7)
    assert torch.equal(state[0], output)
    for other in ([0.2387578699, 0.0318048817], [0.0638668098, 0.1600236835]):  # reset after the product; torch's unit
        assert output[0].tolist() != pytest.approx(other, abs=1e-3)


@pytest.mark.parametrize("layers", [1, 3])
def test_both_forms_agree(layers: int) -> None:
    torch.manual_seed(0)
    cell = ResetBeforeGRU(4, 5, layers=layers)
    inputs, state = torch.randn(3, 6, 4), torch.randn(layers, 3, 5)
    whole, after = cell(inputs, state)
    outputs = []
    for place in range(6):
        output, state = cell.step(inputs[:, place], state)
        outputs.append(output)
    assert torch.allclose(whole, torch.stack(outputs, 1), atol=1e-6)
    assert torch.allclose(after, state, atol=1e-6)
    padded = cell(torch.cat([inputs, torch.full((3, 2, 4), 9.0)], 1))[0]
    assert torch.allclose(padded[:, :6], cell(inputs)[0], atol=1e-6)


def test_one_hot_inputs_are_rows_of_the_gates() -> None:
    torch.manual_seed(0)
    table = torch.randn(7, 15)
    looked_up, multiplied = ResetBeforeGRU(None, 5, layers=2), ResetBeforeGRU(7, 5, layers=2)
    weights = looked_up.state_dict()
    multiplied.load_state_dict(weights | {"inputs.0": table, "inputs.1": weights["inputs.0"], "biases.0": torch.ones(15)})
    with torch.no_grad():
        looked_up.biases[0].fill_(1.0)
    items, state = torch.tensor([3, 6]), torch.randn(2, 2, 5)
    expected = multiplied.step(torch.eye(7)[items], state)[1]
    assert torch.allclose(looked_up.step(table[items], state)[1], expected, atol=1e-6)


@pytest.mark.fidelity("G12")
def test_initial_weights_fill_the_bound_of_one_gate() -> None:
    torch.manual_seed(0)
    cell = ResetBeforeGRU(64, 64, layers=2)
    bound = math.sqrt(6 / (64 + 64))
    assert bound == pytest.approx(0.2165, abs=1e-4)
    for weight in (*cell.inputs, *cell.gates, *cell.candidate):
        for gate in weight.detach().split(64, 1):
            assert float(gate.abs().max()) <= bound
            assert float(gate.abs().max()) > 0.99 * bound
            assert abs(float(gate.mean())) < 4 * bound / math.sqrt(3 * gate.numel())
    assert all(not bias.any() for bias in cell.biases)
    assert float(official_init_(torch.empty(4, 18 * 50), gates=150).abs().max()) == pytest.approx(0.7746, abs=2e-3)


@pytest.mark.fidelity("G13")
def test_dropout_acts_on_every_layer_and_what_is_dropped_is_carried() -> None:
    torch.manual_seed(0)
    cell = ResetBeforeGRU(4, 200, layers=2, dropout=0.25)
    inputs, state = torch.randn(8, 4), torch.zeros(2, 8, 200)
    output, after = cell.step(inputs, state)
    assert torch.equal(output, after[-1])
    for layer in after:
        assert float((layer == 0).float().mean()) == pytest.approx(0.25, abs=0.05)
    whole = cell.eval().step(inputs, state)[1][0]
    kept = after[0] != 0
    assert torch.allclose(after[0][kept], whole[kept] / 0.75, atol=1e-6)  # inverted
    assert bool((whole != 0).all())  # off in evaluation


@pytest.mark.fidelity("G3")
def test_gradients_agree_with_finite_differences_and_stop_where_the_caller_cuts() -> None:
    torch.manual_seed(0)
    cell = ResetBeforeGRU(3, 2, layers=2).double()
    inputs, state = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 2, 2, dtype=torch.float64)
    weights = [p.detach().clone().requires_grad_() for p in cell.parameters()]

    def run(x: Tensor, h: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip((name for name, _ in cell.named_parameters()), values, strict=True))
        return torch.func.functional_call(cell, named, (torch.stack([x, 2 * x], 1), h))[0]

    assert torch.autograd.gradcheck(run, [inputs.requires_grad_(), state.requires_grad_(), *weights])
    # A step's gradient reaches the row's own state before it, never another row's.
    gradient = torch.autograd.grad(cell.step(inputs, state)[0][0].sum(), state)[0]
    assert gradient[:, 0].any() and not gradient[:, 1].any()
