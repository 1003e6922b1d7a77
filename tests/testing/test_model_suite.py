"""The suite itself: a healthy model passes, and each way of being broken is caught by the check that is meant for it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import ModelConfig, Recommender
from benchbed.testing import ModelSuite, Vary, made_up_data
from benchbed.testing.variations import other_values
from tests.testing.user_vectors import (
    AnythingForTheEmpty,
    DrawsInFoldIn,
    KeyedByNumber,
    NegativesOfTheBatch,
    NeverFoldedIn,
    TrainsItemsInFoldIn,
    Vectors,
)


@dataclass(frozen=True)
class Pairs:
    inputs: Tensor
    targets: Tensor

    @property
    def n_targets(self) -> int:
        return len(self.targets)


class NewestConfig(ModelConfig):
    size: int = Field(5, ge=1)
    learning_rate: float = Field(0.05, gt=0)
    batch_size: int = Field(40, ge=1)
    loss: Literal["cross-entropy", "squared"] = "cross-entropy"


class Newest(Recommender):
    """score(u, j) = v_j . w_i of the newest item i."""

    name, reference, Config = "newest", "Made up for these tests.", NewestConfig
    needs = frozenset({"sequences"})

    def __init__(self, config: Any, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        self.taken = nn.Embedding(data.n_items + 1, config.size, padding_idx=0)
        self.offered = nn.Embedding(data.n_items + 1, config.size, padding_idx=0)

    def bind(self, data: TrainingData, device: str | torch.device) -> None:
        super().bind(data, device)
        values, rows = data.train.items.values, data.train.items.row_of_value
        same = rows[1:] == rows[:-1]
        self.before, self.after = (torch.as_tensor(part[same]) for part in (values[:-1], values[1:]))

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(self.parameters(), lr=self.config.learning_rate)]

    def batches(self, generator: torch.Generator) -> Iterator[Pairs]:
        for rows in torch.randperm(len(self.before), generator=generator).split(self.config.batch_size):
            yield Pairs(self.before[rows], self.after[rows])

    def loss(self, batch: Pairs) -> Tensor:
        logits = self.taken(batch.inputs) @ self.offered.weight[1:].T
        if self.config.loss == "squared":
            return (logits - F.one_hot(batch.targets - 1, logits.shape[1])).square().mean()
        return F.cross_entropy(logits, batch.targets - 1)

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        newest = histories.known().last(1)[0][:, 0]
        table = self.offered.weight
        return self.taken(newest) @ (table if items is None else table[items]).T


class TestNewest(ModelSuite):
    model = Newest


class IdleConfig(NewestConfig):
    idle: float = Field(0.3, ge=0)
    colour: Literal["red", "blue"] = "red"
    words: tuple[str, ...] = ("a",)


class Idle(Newest):
    Config = IdleConfig


class OpenConfig(NewestConfig, extra="ignore"):
    pass


class Open(Newest):
    Config = OpenConfig


class PaddingInTheDenominator(Newest):
    def __init__(self, config: Any, data: TrainingData) -> None:
        super().__init__(config, data)
        self.offered = nn.Embedding(data.n_items + 1, config.size)

    def loss(self, batch: Pairs) -> Tensor:
        return F.cross_entropy(self.taken(batch.inputs) @ self.offered.weight.T, batch.targets)


class WithoutColumnOfPadding(Newest):
    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        return super().scores(histories, items)[:, 1:]


class SubsetOffByOne(Newest):
    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        return super().scores(histories, None if items is None else items - 1)


class BatchDependent(Newest):
    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        scores = super().scores(histories, items)
        return scores - scores.mean(0, keepdim=True)


class CarriesState(Newest):
    calls = 0

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        self.calls += 1
        return super().scores(histories, items) + self.calls


class ReadsValidation(Newest):
    def bind(self, data: TrainingData, device: str | torch.device) -> None:
        super().bind(data, device)
        self.before = torch.cat([self.before, torch.as_tensor(data.valid.targets.values)])


class LooksQuietly(Newest):
    def bind(self, data: TrainingData, device: str | torch.device) -> None:
        super().bind(data, device)
        with contextlib.suppress(AssertionError):
            len(data.valid)


class CountsUnknownItems(Newest):
    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        return super().scores(histories, items) / (1 + histories.lengths[:, None])


class EmptyIsNaN(Newest):
    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        known = histories.known().lengths[:, None]
        return super().scores(histories, items) * known / known


class OutsideTheState(Newest):
    steps = 0

    def loss(self, batch: Pairs) -> Tensor:
        self.steps += 1
        return super().loss(batch) * (1 + self.steps)

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        return super().scores(histories, items) + self.steps


class NumpyRandom(Newest):
    def loss(self, batch: Pairs) -> Tensor:
        return super().loss(batch) * np.random.random()


class SeedOfItsOwn(Newest):
    def __init__(self, config: Any, data: TrainingData) -> None:
        torch.manual_seed(1)
        super().__init__(config, data)

    def batches(self, generator: torch.Generator) -> Iterator[Pairs]:
        return super().batches(torch.Generator().manual_seed(1))


class LosesTheTail(Newest):
    def batches(self, generator: torch.Generator) -> Iterator[Pairs]:
        return (batch for batch in super().batches(generator) if batch.n_targets == self.config.batch_size)


class NaiveSoftmax(Newest):
    def loss(self, batch: Pairs) -> Tensor:
        weights = (self.taken(batch.inputs) @ self.offered.weight[1:].T).exp()
        chosen = weights.gather(1, batch.targets[:, None] - 1)
        return -(chosen / weights.sum(1, keepdim=True)).log().mean()


class UndeclaredFeatures(Newest):
    def __init__(self, config: Any, data: TrainingData) -> None:
        super().__init__(config, data)
        self.fields = nn.Embedding(1 + len(data.item_features), config.size)


class UncheckedFeatures(Newest):
    needs = frozenset({"item_features"})

    def __init__(self, config: Any, data: TrainingData) -> None:
        needs, type(self).needs = type(self).needs, frozenset()
        super().__init__(config, data)
        type(self).needs = needs


class KnowsUsers(Newest):
    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        return super().scores(histories, items) + (histories.users % 3)[:, None]


class OtherRowsInBlocks(Newest):
    def block_scores(self, histories: Histories) -> Callable[[int, int], Tensor]:
        return lambda start, stop: self.scores(histories.block(0, stop - start))


class PairsOffByOne(Newest):
    def pair_scores(self, histories: Histories, owner: Tensor, items: Tensor) -> Tensor:
        return self.scores(histories)[owner, items - 1]


class TestVectors(ModelSuite):
    model = Vectors

    def targets_of_an_epoch(self, data: TrainingData) -> int:
        return len(data.train.items.values)


CAUGHT: list[tuple[type[Recommender], str, str]] = [
    (Open, "test_it_says_what_it_is", "DID NOT RAISE"),
    (UncheckedFeatures, "test_data_without_what_it_needs_are_refused", "DID NOT RAISE"),
    (UndeclaredFeatures, "test_it_works_without_what_it_does_not_need", "not declared"),
    (WithoutColumnOfPadding, "test_scores_have_a_column_an_item_and_are_numbers", "shape"),
    (WithoutColumnOfPadding, "test_lists_hold_each_item_once_and_no_padding", "shape"),
    (EmptyIsNaN, "test_scores_have_a_column_an_item_and_are_numbers", "no finite scores"),
    (SubsetOffByOne, "test_scores_on_a_subset_are_the_same_columns", "close"),
    (OtherRowsInBlocks, "test_single_scores_and_blocks_are_the_same_scores", "close"),
    (PairsOffByOne, "test_single_scores_and_blocks_are_the_same_scores", "close"),
    (BatchDependent, "test_batches_and_order_of_cases_change_nothing", "close"),
    (CarriesState, "test_scoring_leaves_no_trace", "asked twice"),
    (CountsUnknownItems, "test_unknown_items_in_a_history_change_nothing", "close"),
    (KnowsUsers, "test_a_user_is_a_history", "other numbers for the users"),
    (KeyedByNumber, "test_users_are_known_by_their_raw_ids", "other numbers for the same users"),
    (NeverFoldedIn, "test_an_unseen_user_is_scored_by_the_history", "never trained gets the same scores"),
    (AnythingForTheEmpty, "test_a_user_without_history_is_defined", "close"),
    (TrainsItemsInFoldIn, "test_fold_in_changes_nothing_else", r"fold-in changes \['offered.weight'\]"),
    (DrawsInFoldIn, "test_fold_in_changes_nothing_else", "draws from the random numbers"),
    (NegativesOfTheBatch, "test_batches_and_order_of_cases_change_nothing", "close"),
    (PaddingInTheDenominator, "test_padding_learns_nothing", "offered.weight"),
    (LosesTheTail, "test_an_epoch_holds_each_training_target_once", "an epoch holds"),
    (NaiveSoftmax, "test_gradients_are_finite_at_extreme_scores", "the loss is"),
    (NumpyRandom, "test_the_same_seed_trains_the_same_model", "one seed differ"),
    (SeedOfItsOwn, "test_the_same_seed_trains_the_same_model", "two seeds are equal"),
    (OutsideTheState, "test_a_continued_run_equals_an_uninterrupted_one", "continued run differs"),
    (OutsideTheState, "test_saved_and_loaded_it_scores_the_same", "opened again"),
    (ReadsValidation, "test_validation_cases_are_not_read", "reads validation"),
    (LooksQuietly, "test_validation_cases_are_not_read", "reads validation"),
]


@pytest.mark.parametrize(("broken", "check", "said"), CAUGHT, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_model_fails(broken: type[Recommender], check: str, said: str, tmp_path: Path) -> None:
    suite = type("Suite", (ModelSuite,), {"model": broken})()
    method = getattr(suite, check)
    needs_folder = "tmp_path" in method.__annotations__
    with pytest.raises((Exception, pytest.fail.Exception), match=said):  # what it says is matched
        method(tmp_path) if needs_folder else method()


def test_every_check_is_shown_to_catch_something() -> None:
    checks = {name for name in dir(ModelSuite) if name.startswith("test_")}
    assert checks - {check for _, check, _ in CAUGHT} == {"test_every_hyper_parameter_matters"}


@pytest.mark.parametrize(("key", "said"), [("idle", "changed nothing"), ("colour", "'blue' changed"), ("words", "found no")])
def test_a_dead_hyper_parameter_fails(key: str, said: str) -> None:
    suite = type("Suite", (ModelSuite,), {"model": Idle})()
    suite.test_every_hyper_parameter_matters("size")
    with pytest.raises(AssertionError, match=said):
        suite.test_every_hyper_parameter_matters(key)


def test_what_a_suite_claims_is_checked() -> None:
    suite = type("Suite", (ModelSuite,), {"model": Newest, "refused": frozenset({"size"}), "variations": {"loss": "no"}})()
    with pytest.raises(AssertionError, match="is accepted"):
        suite.test_every_hyper_parameter_matters("size")
    with pytest.raises(AssertionError, match="refuses loss='no'"):
        suite.test_every_hyper_parameter_matters("loss")


@pytest.mark.parametrize("claim", [{"variations": {"sise": 3}}, {"refused": frozenset({"sise"})}])
def test_a_suite_that_names_no_hyper_parameter_of_the_model_is_told(claim: dict[str, Any]) -> None:
    suite = type("Suite", (ModelSuite,), {"model": Newest, **claim})()
    with pytest.raises(AssertionError, match=f"`{next(iter(claim))}` names sise, and the Config has no such"):
        suite.test_it_says_what_it_is()


def test_a_variation_has_its_context() -> None:
    class Suite(ModelSuite):
        model = Newest
        variations = {"learning_rate": Vary(0.1, where={"loss": "squared"})}

    Suite().test_every_hyper_parameter_matters("learning_rate")


class ManyKinds(ModelConfig):
    count: int = Field(3, ge=3, le=4)
    share: float = Field(0.5, ge=0, lt=1)
    flag: bool = False
    perhaps: float | None = None
    choice: Literal["a", "b", "c"] = "b"


def test_other_values_stay_within_bounds_and_types() -> None:
    found = {key: other_values(ManyKinds, {}, key) for key in ManyKinds.model_fields}
    assert found["count"] == [4] and found["flag"] == [True] and found["choice"] == ["a", "c"]
    assert found["share"] == [0.25, 0.75, 0.0]
    assert found["perhaps"] and None not in found["perhaps"]
    assert None in other_values(ManyKinds, {"perhaps": 0.5}, "perhaps") or len(found["perhaps"]) == 3


def test_made_up_data_keep_the_promises_of_training_data() -> None:
    for data in (made_up_data(), made_up_data(users=4, items=4, longest=4, seed=3), made_up_data(200, 90, 40)):
        values = data.train.items.values
        assert values.min() >= 1 and values.max() <= data.n_items
        np.testing.assert_array_equal(np.bincount(values, minlength=data.n_items + 1), data.item_counts)
        assert (np.diff(data.item_counts[1:]) <= 0).all() and data.item_counts[-1] == 0
        assert len(set(data.item_ids)) == data.n_items + 1 and len(set(data.train.users)) == len(data.train.items)
        assert data.train.timestamps is not None and len(data.train.timestamps) == len(values)
        for feature in data.item_features.values():
            assert len(feature.values) == data.n_items + 1 and feature.values.lengths[0] == 0
            assert feature.values.values.min() >= 1 and feature.values.values.max() <= len(feature.names)
        assert data.user_keys is not None and len(set(data.user_keys)) == len(data.user_keys) > data.valid.users.max()
        seen = np.isin(data.valid.users, data.train.users)
        assert seen.any() and not seen.all() and len(set(data.valid.users)) == len(data.valid)
        graph = data.graph
        assert graph is not None and max(graph.heads.max(), graph.tails.max()) == graph.n_entities
    again = made_up_data()
    assert again.fingerprint == made_up_data().fingerprint != made_up_data(seed=1).fingerprint


ELSEWHERE = """
from benchbed.models.item_knn import ItemKNN
from benchbed.testing import ModelSuite

class TestMine(ModelSuite):
    model = ItemKNN
    parameters = {"neighbours": 4}
"""


def test_it_works_in_another_project(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(ELSEWHERE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert run.returncode == 0, run.stdout
    assert "18 passed" in run.stdout, run.stdout  # 15 checks that concern it, and three hyper-parameters
