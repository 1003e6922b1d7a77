"""Training runs of any model class through the real loop, and what of them is compared."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchbed.data.dataset import Cases, TrainingData
from benchbed.data.histories import Histories
from benchbed.evaluation.protocol import Protocol
from benchbed.evaluation.scoring import CoarseScorer
from benchbed.models.base import Recommender
from benchbed.training import fit as loop
from benchbed.training.fit import Fit, FitSpec

PROTOCOL = Protocol(cutoffs=(5, 10), select_by="ndcg@10", seen_items="keep").model_dump(mode="json")


@dataclass(frozen=True)
class Trace:
    """All that a run leaves behind: the loss of every epoch, the state at the end, the scores of all cases.

    ``coarse`` holds the scores that validations begin with where the model is told to score coarsely, else nothing.
    """

    losses: list[float]
    state: dict[str, Tensor]
    scores: Tensor
    coarse: Tensor

    def differs_from(self, other: Trace) -> bool:
        """Whether anything of it is another number or has another shape; bits count, NaN equals NaN."""
        return (
            not np.array_equal(self.losses, other.losses, equal_nan=True)
            or self.state.keys() != other.state.keys()
            or any(not same(value, other.state[name]) for name, value in self.state.items())
            or not same(self.scores, other.scores)
            or not same(self.coarse, other.coarse)
        )


def same(a: Tensor, b: Tensor) -> bool:
    """Equal shapes, types and numbers; NaN equals NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a, b) or (a.is_floating_point() and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True))


def histories_of(cases: Cases) -> Histories:
    """The histories of cases, on the processor."""
    return Histories.of(cases.users, cases.histories)


@torch.inference_mode()
def scores_of(model: Recommender, histories: Histories, items: Tensor | None = None) -> Tensor:
    """Scores as evaluation asks for them."""
    return model.eval().scores(histories, items).cpu()


def build(kind: type[Recommender], parameters: Mapping[str, Any], data: TrainingData, seed: int = 0) -> Recommender:
    """A model with fresh weights, bound to the data; one that is trained by counting has counted."""
    with _random_numbers_kept():
        torch.manual_seed(seed)
        model = kind(kind.Config.model_validate(dict(parameters)), data)
        model.bind(data, "cpu")
        if kind.trained_by == "counting":
            model.fit()
    return model


def backward_passes(model: Recommender, seed: int = 0) -> Iterator[tuple[Any, float]]:
    """Each batch of one epoch and its loss, after the backward pass; the weights stay as they are."""
    with _random_numbers_kept():
        torch.manual_seed(seed)
        model.train()
        for batch in model.batches(torch.Generator().manual_seed(seed)):
            model.zero_grad(set_to_none=True)
            loss = model.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
            model.after_backward()
            yield batch, float(loss.detach())


def open_fit(
    kind: type[Recommender], parameters: Mapping[str, Any], data: TrainingData, folder: Path, *, seed: int = 0, epochs: int = 1
) -> Fit:
    """A run of the training loop, be the model in the registry or not."""
    spec = FitSpec(
        model=kind.name,
        parameters=dict(parameters),
        seed=seed,
        max_epochs=epochs,
        patience=None,
        seconds=None,
        protocol=PROTOCOL,
    )
    with mock.patch.object(loop, "model_class", lambda _: kind):
        return Fit(spec, data, folder=folder)


def finish(fit: Fit) -> Trace:
    """Train to the end and look."""
    while fit.finished is None:
        fit.step()
    state = {name: value.detach().cpu().clone() for name, value in fit.model.state_dict().items()}
    histories, coarse = histories_of(fit.data.valid), torch.zeros(0)
    if isinstance(fit.model, CoarseScorer) and fit.model.scores_coarsely:
        coarse = fit.model.coarse_scores(histories).coarse(0, len(histories))
    return Trace([epoch.loss for epoch in fit.history], state, scores_of(fit.model, histories), coarse)


def pairs_of(rows: int, n_items: int) -> tuple[Tensor, Tensor]:
    """Some items for each of some histories: (P,) the history, rising, and (P,) the item; every third history has none."""
    owner = torch.arange(rows).repeat_interleave(torch.arange(rows) % 3)
    return owner, 1 + (7 * torch.arange(len(owner))) % n_items


def things_of(model: Recommender) -> dict[str, Tensor]:
    """Copies of all numbers of a model, also those that are not saved, and its flags."""
    found = {name: value.detach().clone() for name, value in (*model.named_parameters(), *model.named_buffers())}
    flags = {f"requires_grad of {name}": torch.tensor(value.requires_grad) for name, value in model.named_parameters()}
    return found | flags | {f"training of {name or 'the model'}": torch.tensor(m.training) for name, m in model.named_modules()}


def disturb() -> None:
    """Let the process draw random numbers of its own, as a worker with several trials does."""
    random.seed(random.random())
    np.random.seed(np.random.randint(2**31))
    torch.rand(7)


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    before = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(before)
