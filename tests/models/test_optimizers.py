"""RowAdagrad: steps worked out by hand, and rows that a batch does not touch."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchbed.models.optimizers import RowAdagrad


def three_steps(momentum: float) -> list[list[float]]:
    parameter = torch.nn.Parameter(torch.tensor([1.0, -1.0], dtype=torch.float64))
    optimizer, path = RowAdagrad([parameter], lr=0.1, momentum=momentum), []
    for gradient in ([0.5, -2.0], [-0.5, 0.0], [1.0, 1.0]):
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        path.append(parameter.tolist())
    return path


@pytest.mark.fidelity("G14")
def test_three_dense_steps_worked_out_by_hand() -> None:
    expected = [[0.9000002, -0.9000000125], [0.9407108674, -0.8700000162], [0.8712744368, -0.9057213725]]
    for made, by_hand in zip(three_steps(0.3), expected, strict=True):
        assert made == pytest.approx(by_hand, abs=1e-9)
    # An accumulator that starts at 0.1 would end elsewhere, and momentum changes the path.
    assert three_steps(0.3)[-1] != pytest.approx([0.9009773555, -0.9455077846], abs=1e-3)
    assert three_steps(0.0)[0] == pytest.approx([0.9000002, -0.9000000125], abs=1e-9)
    assert three_steps(0.0)[1] == pytest.approx([0.9707108674, -0.9000000125], abs=1e-6)


BATCHES = [
    ([0, 1], [[1.0, 2.0], [0.5, 0.5]]),
    ([1], [[1.0, -1.0]]),
    ([0, 0], [[0.5, 0.0], [0.5, 1.0]]),
]


def train(
    table: torch.nn.Parameter, optimizer: torch.optim.Optimizer, batches: list[Any] = BATCHES, sparse: bool = True
) -> Tensor:
    for items, gradient in batches:
        optimizer.zero_grad(set_to_none=True)
        looked_up = F.embedding(torch.tensor(items, dtype=torch.int64), table, sparse=sparse)
        (looked_up * torch.tensor(gradient, dtype=table.dtype).view_as(looked_up)).sum().backward()
        optimizer.step()
    return table.detach()


def ones() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(3, 2, dtype=torch.float64))


@pytest.mark.fidelity("G14")
def test_rows_of_the_batch_move_and_duplicates_are_summed_before_squaring() -> None:
    table = ones()
    made = train(table, RowAdagrad([table], lr=0.1, momentum=0.5))
    expected = [[0.7792894146, 0.8052786637], [0.7605576167, 0.9394429833], [1.0, 1.0]]
    assert torch.allclose(made, torch.tensor(expected, dtype=torch.float64), atol=1e-9)
    table = ones()
    everywhere = train(table, RowAdagrad([table], lr=0.1, momentum=0.5), sparse=False)
    expected = [[0.7542894271, 0.7802786668], [0.6908363250, 0.9591643750], [1.0, 1.0]]
    assert torch.allclose(everywhere, torch.tensor(expected, dtype=torch.float64), atol=1e-9)


@pytest.mark.fidelity("G14")
def test_a_row_outside_the_batch_rests_though_it_has_velocity() -> None:
    table = ones()
    optimizer = RowAdagrad([table], lr=0.1, momentum=0.5)
    train(table, optimizer, BATCHES[:1])
    rested = table.detach()[[0, 2]].clone()
    assert optimizer.state[table]["velocity"][0].all()
    train(table, optimizer, BATCHES[1:2])
    assert torch.equal(table.detach()[[0, 2]], rested)
    assert optimizer.state[table]["sum"][2].tolist() == [0.0, 0.0]


def test_without_momentum_rows_move_as_a_dense_table_does() -> None:
    lazy, dense = ones(), ones()
    assert torch.allclose(
        train(lazy, RowAdagrad([lazy], lr=0.1)), train(dense, RowAdagrad([dense], lr=0.1), sparse=False), atol=1e-12
    )


def test_blocks_of_rows_join_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = (torch.nn.Parameter(torch.ones(50, 3)) for _ in range(2))
    torch.manual_seed(0)
    batches = [(torch.randint(0, 50, (30,)).tolist(), torch.randn(30, 3).tolist()) for _ in range(3)]
    expected = train(whole, RowAdagrad([whole], lr=0.1, momentum=0.5), batches)
    monkeypatch.setattr("benchbed.models.optimizers._BLOCK_NUMBERS", 12)
    assert torch.equal(train(parts, RowAdagrad([parts], lr=0.1, momentum=0.5), batches), expected)


def test_an_empty_batch_moves_nothing() -> None:
    table = ones()
    assert torch.equal(train(table, RowAdagrad([table], lr=0.1, momentum=0.5), [([], [])]), ones())


def test_two_look_ups_of_one_table_are_one_gradient() -> None:
    """A table that is input and output is looked up twice a batch."""
    once, twice = ones(), ones()
    for table, parts in ((once, [[0, 1, 1, 2]]), (twice, [[0, 1], [1, 2]])):
        sum(F.embedding(torch.tensor(items), table, sparse=True).sum() for items in parts).backward()  # type: ignore[union-attr]
        RowAdagrad([table], lr=0.1, momentum=0.5).step()
    assert torch.equal(once, twice)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_the_state_goes_through_a_checkpoint(momentum: float) -> None:
    straight, stopped = ones(), ones()
    weight = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    expected = train(straight, RowAdagrad([straight, weight[0]], lr=0.1, momentum=momentum), BATCHES)
    first = RowAdagrad([stopped, weight[1]], lr=0.1, momentum=momentum)
    train(stopped, first, BATCHES[:2])
    second = RowAdagrad([stopped, weight[1]], lr=0.7)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert torch.equal(train(stopped, second, BATCHES[2:]), expected)


def test_a_parameter_without_a_gradient_rests() -> None:
    table, other = ones(), ones()
    optimizer = RowAdagrad([table, other], lr=0.1, momentum=0.5)
    train(table, optimizer)
    assert torch.equal(other, ones()) and other not in optimizer.state


def test_what_a_step_costs_does_not_grow_with_the_table() -> None:
    def seconds(rows: int) -> float:
        table = torch.nn.Parameter(torch.zeros(rows, 32))
        optimizer, best = RowAdagrad([table], lr=0.1, momentum=0.5), float("inf")
        items = torch.arange(64)
        for _ in range(12):
            optimizer.zero_grad(set_to_none=True)
            F.embedding(items, table, sparse=True).sum().backward()
            began = time.perf_counter()
            optimizer.step()
            best = min(best, time.perf_counter() - began)
        return best

    # A pass over the long table would take hundreds of times as long as its 64 rows.
    assert seconds(200_000) < 10 * seconds(200)


@pytest.mark.parametrize("options", [{"lr": 0.0}, {"lr": 0.1, "momentum": 1.0}, {"lr": 0.1, "eps": 0.0}])
def test_settings_without_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        RowAdagrad([ones()], **options)
