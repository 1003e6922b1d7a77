"""Adagrad as GRU4Rec's authors wrote it, moving only those rows of an item table that a batch has touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_BLOCK_NUMBERS = 2**17


class RowAdagrad(torch.optim.Optimizer):
    """Adagrad whose accumulator starts at zero, with heavy-ball momentum, and lazy where a gradient is sparse.

    ``sum += g**2; velocity = momentum * velocity - lr * g / sqrt(sum + eps); parameter += velocity``

    With a sparse gradient (``F.embedding(items, table, sparse=True)``) this happens in the rows of the batch, nowhere else: a
    row that is not in the batch does not move, be its velocity what it may, and a step costs as much as the batch has rows,
    however long the table. Gradients of one row are summed before they are squared.

    Parameters
    ----------
    params
        Parameters or groups of them, as any optimiser of torch takes.
    lr
        Learning rate, above 0.
    momentum
        Share of the velocity that is kept, at least 0 and below 1.
    eps
        Inside the root.

    References
    ----------
    The authors' PyTorch code of GRU4Rec. torch's own Adagrad adds epsilon outside the root and has no momentum.

    Examples
    --------
    >>> table = torch.nn.Parameter(torch.ones(4, 2))
    >>> optimizer = RowAdagrad([table], lr=0.1, momentum=0.5)
    >>> torch.nn.functional.embedding(torch.tensor([1, 1]), table, sparse=True).sum().backward()
    >>> optimizer.step()
    >>> table.detach()[:, 0]
    tensor([1.0000, 0.9000, 1.0000, 1.0000])
    """

    def __init__(self, params: Any, lr: float, momentum: float = 0.0, eps: float = 1e-6) -> None:
        if not lr > 0 or not 0 <= momentum < 1 or not eps > 0:
            raise ValueError(f"lr and eps are above 0, momentum is in [0, 1); not {lr=}, {eps=}, {momentum=}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch overloads it
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            dense = []
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.grad.is_sparse:
                    self._step_rows(parameter, group)
                else:
                    dense.append(parameter)
            if dense:
                self._step_dense(dense, group)
        return loss

    def _of(self, parameter: Tensor, momentum: float) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if "sum" not in state:
            state["sum"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        if momentum and "velocity" not in state:
            state["velocity"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return state

    def _step_rows(self, parameter: Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        state, momentum = self._of(parameter, group["momentum"]), group["momentum"]
        gradient = parameter.grad.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        # In blocks that stay in the processor's cache between the gathering of rows and their return.
        block = max(1, len(rows) if values.is_cuda else _BLOCK_NUMBERS // max(1, values[0:1].numel()))
        for chosen, part in zip(torch.split(rows, block), torch.split(values, block), strict=True):
            total = state["sum"].index_select(0, chosen).addcmul_(part, part)
            state["sum"].index_copy_(0, chosen, total)
            scale = total.add_(group["eps"]).rsqrt_()
            if momentum:
                velocity = state["velocity"].index_select(0, chosen).mul_(momentum).addcmul_(part, scale, value=-group["lr"])
                state["velocity"].index_copy_(0, chosen, velocity)
                parameter.index_add_(0, chosen, velocity)
            else:
                parameter.index_add_(0, chosen, scale.mul_(part), alpha=-group["lr"])

    def _step_dense(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        # All tensors in one call each: a recurrent network has many small ones, and a call costs more than the arithmetic.
        momentum = group["momentum"]
        states = [self._of(parameter, momentum) for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters]
        totals = [state["sum"] for state in states]
        torch._foreach_addcmul_(totals, gradients, gradients)  # type: ignore[arg-type]  # all have a gradient
        scales = torch._foreach_add(totals, group["eps"])
        torch._foreach_rsqrt_(scales)
        if not momentum:
            torch._foreach_addcmul_(parameters, gradients, scales, value=-group["lr"])  # type: ignore[arg-type]
            return
        velocities = [state["velocity"] for state in states]
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_addcmul_(velocities, gradients, scales, value=-group["lr"])  # type: ignore[arg-type]
        torch._foreach_add_(parameters, velocities)
