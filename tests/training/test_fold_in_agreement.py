"""Trained rows against rows folded in as if the user were new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import Ragged
from benchbed.data.histories import Histories
from benchbed.models.fold_in import FoldIn, FoldInConfig
from benchbed.testing import made_up_data
from benchbed.training.fold_in import _spearman, fold_in_agreement


@dataclass(frozen=True)
class Pairs:
    users: Tensor
    items: Tensor
    n_targets: int


class Factors(FoldIn):
    """Matrix factorisation with a logistic pairwise loss, as small as can be."""

    name = "factors"
    Config = FoldInConfig
    reference = "a test"

    def __init__(self, config: Any, data: Any) -> None:
        super().__init__(config, data)
        self.users, self.items = nn.Embedding(self.n_users, 6), nn.Embedding(self.n_items + 1, 6)
        self.train_rows = data.train.items

    @property
    def user_table(self) -> Tensor:
        return self.users.weight

    def item_side(self) -> Tensor:
        return self.items.weight

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(self.parameters(), lr=0.05)]

    def batches(self, generator: torch.Generator) -> Iterator[Pairs]:
        rows, items = torch.as_tensor(self.train_rows.row_of_value), torch.as_tensor(self.train_rows.values)
        yield Pairs(rows, items, len(items))

    def loss(self, batch: Pairs) -> Tensor:
        negatives = torch.randint(1, self.n_items + 1, batch.items.shape)
        return self.fold_in_loss(self.users.weight, batch.users, batch.items, negatives, self.items.weight)

    def fold_in_loss(self, rows: Tensor, owner: Tensor, positives: Tensor, negatives: Tensor, side: Tensor) -> Tensor:
        difference = (rows[owner] * (side[positives] - side[negatives])).sum(1)
        return F.softplus(-difference).sum() + 0.05 * rows[owner].square().sum()

    def row_scores(self, rows: Tensor, items: Tensor | None, side: Tensor) -> Tensor:
        return rows @ (side if items is None else side[items]).T


def trained(epochs: int, steps: int = 60) -> tuple[Factors, Any]:
    torch.manual_seed(0)
    data = made_up_data(users=60)
    model = Factors(FoldInConfig(fold_in_steps=steps), data)
    optimizer = model.optimizers()[0]
    for _ in range(epochs):
        for batch in model.batches(torch.Generator()):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
    return model, data


def test_spearman_is_that_of_scipy() -> None:
    generator = torch.Generator().manual_seed(3)
    first = torch.randint(0, 6, (5, 40), generator=generator).double()
    second = torch.randint(0, 6, (5, 40), generator=generator).double()
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    assert _spearman(first, second).tolist() == pytest.approx(expected)
    assert _spearman(torch.ones(1, 4).double(), second[:1, :4]).isnan().all()


def test_fold_in_finds_the_rows_of_a_trained_model() -> None:
    """With a penalty the objective of a row has one minimum: training and fold-in end near it."""
    model, data = trained(300)
    found = fold_in_agreement(model, data)
    assert found["fold_in_sample"] == 60
    assert found["fold_in_agreement"] > 0.8
    untrained, _ = trained(0)
    assert fold_in_agreement(untrained, data)["fold_in_agreement"] < found["fold_in_agreement"] - 0.3


def test_without_steps_there_is_nothing_to_compare() -> None:
    model, data = trained(1, steps=0)
    assert fold_in_agreement(model, data) == {}


def test_seconds_of_fold_in_survive_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchbed.models.registry import MODELS
    from benchbed.training.fit import Fit, FitSpec

    monkeypatch.setitem(MODELS, "factors", f"{__name__}:Factors")
    evaluation = {"seen_items": "keep", "metrics": ["ndcg"], "cutoffs": [5], "select_by": "ndcg@5"}
    spec = FitSpec("factors", {}, seed=0, max_epochs=3, patience=None, seconds=None, protocol=evaluation)
    data = made_up_data()
    whole = Fit(spec, data, folder=tmp_path)
    whole.step()
    before = whole.facts["fold_in_seconds"]
    assert before > 0
    again = Fit(spec, data, folder=tmp_path)
    assert again.facts["fold_in_seconds"] == pytest.approx(before)
    again.step()
    assert again.facts["fold_in_seconds"] > before
    validated = again.facts["fold_in_seconds"]
    tested = again.test(data.valid).facts
    assert "fold_in_agreement" in tested
    assert validated < tested["fold_in_seconds"] < again.facts["fold_in_seconds"]


def test_seconds_of_a_final_run_hold_the_test_and_not_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that moves a second whenever fold-in looks at it: each fold-in takes one."""
    import benchbed.models.fold_in as module
    from benchbed.engine.attempt import Attempt
    from benchbed.models.registry import MODELS
    from benchbed.search.assignment import Assignment, Shape

    ticks = iter(range(10_000))
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    monkeypatch.setitem(MODELS, "factors", f"{__name__}:Factors")
    data, evaluation = made_up_data(), {"seen_items": "keep", "metrics": ["ndcg"], "cutoffs": [5], "select_by": "ndcg@5"}
    monkeypatch.setattr("benchbed.data.vault.open_vault", lambda *_, **__: data.valid)
    for stage, seconds in (("search", 3), ("final", 4)):
        given = Assignment(
            stage, 0, 1, stage, "factors", 1, {}, 0, 3, None, None, Shape(), split_folder=str(tmp_path), sweep="s"
        )
        run = Attempt(
            given,
            tmp_path,
            data,
            protocol=evaluation,
            device="cpu",
            fit_factory="benchbed.training.fit:Fit",
            vault="benchbed.data.vault:open_vault",
            hang_after=None,
        )
        last = [run.step() for _ in range(3)][-1]
        assert last["last"] and last["facts"]["fold_in_seconds"] == seconds


def test_users_are_folded_in_alone_and_together_alike() -> None:
    model, data = trained(20)
    histories = Histories.of(data.valid.users, data.valid.histories)
    together = model.fold_in(histories)
    for row in range(len(data.valid)):
        alone = Histories.of(data.valid.users[row : row + 1], Ragged.of([data.valid.histories[row].tolist()]))
        np.testing.assert_allclose(model.fold_in(alone)[0], together[row], atol=1e-5)
