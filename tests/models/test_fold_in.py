"""Fold-in: vectors for users whom training has not seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chisquare
from torch import Tensor, nn
from torch.nn import functional as F

from benchbed.data.dataset import Ragged, TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ModelError
from benchbed.evaluation.protocol import Protocol
from benchbed.evaluation.ranking import Evaluator
from benchbed.models import fold_in
from benchbed.models.base import Recommender
from benchbed.models.counter import Outside
from benchbed.models.fold_in import FoldIn, FoldInConfig
from benchbed.models.registry import MODELS, model_class
from benchbed.testing import made_up_data


class Logistic(FoldIn):
    """A logistic loss with a penalty on every row it is given, plain gradient descent; it keeps what fold-in asks of it."""

    name, reference, Config = "logistic", "Made up for these tests.", FoldInConfig

    def __init__(self, config: Any, data: TrainingData) -> None:
        super().__init__(config, data)
        self.users, self.items = nn.Embedding(self.n_users, 6), nn.Embedding(data.n_items + 1, 6)
        self.penalty = 0.01
        self.asked: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def user_table(self) -> Tensor:
        return self.users.weight

    def fold_in_loss(self, rows: Tensor, owner: Tensor, positives: Tensor, negatives: Tensor, side: None) -> Tensor:
        self.asked.append((owner, positives, negatives))
        met, unmet = ((rows[owner] * self.items(items)).sum(1) for items in (positives, negatives))
        return F.softplus(-met).sum() + F.softplus(unmet).sum() + self.penalty * rows.square().sum()

    def fold_in_optimizer(self, rows: Tensor) -> torch.optim.Optimizer:
        return torch.optim.SGD([rows], lr=self.fold_in_learning_rate)

    def row_scores(self, rows: Tensor, items: Tensor | None, side: None) -> Tensor:
        return rows @ (self.items.weight if items is None else self.items.weight[items]).T


def of_registry() -> list[str]:
    """The models whose users are folded in by steps."""
    return [name for name in MODELS if issubclass(model_class(name), FoldIn)]


KINDS: list[Any] = [Logistic, *of_registry()]


def made(kind: type[FoldIn] | str, data: TrainingData | None = None, seed: int = 0, **keys: Any) -> FoldIn:
    found: type[Recommender] = model_class(kind) if isinstance(kind, str) else kind
    narrow = {"embedding_size": 8} if "embedding_size" in found.Config.model_fields else {}
    torch.manual_seed(seed)
    data = data or made_up_data()
    model = found(found.Config.model_validate({**narrow, "fold_in_steps": 4, **keys}), data)
    model.bind(data, "cpu")
    assert isinstance(model, FoldIn)
    with torch.no_grad():  # rows that tell users apart, as after training
        model.user_table.copy_(torch.randn(model.user_table.shape) * 0.3)
    return model


def ask(histories: list[list[int]], users: list[int] | None = None) -> Histories:
    return Histories.of(np.arange(len(histories)) if users is None else np.array(users), Ragged.of(histories))


def unseen(data: TrainingData) -> int:
    """A user that is in no training sequence."""
    return int(np.setdiff1d(data.valid.users, data.train.users)[0])


def test_three_steps_worked_out_by_hand() -> None:
    model = made(Logistic, fold_in_steps=3, fold_in_learning_rate=0.5)
    model.penalty, model.n_items = 0.0, 4
    with torch.no_grad():
        model.users.weight.zero_()
        model.items = nn.Embedding.from_pretrained(torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1], [-1, 0.5]]))
    model.users.weight.data = model.users.weight.data[:, :2]
    found = []
    with mock.patch.object(Outside, "pick", lambda *_: torch.tensor([2, 4])):
        for steps in (1, 2, 3):
            model.fold_in_steps = steps
            found.append(model.fold_in(ask([[1, 3]], [unseen(made_up_data())]))[0].tolist())
    expected = [[0.75, -0.125], [1.2384122265, -0.2619122499], [1.5889228346, -0.3932461676]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.fidelity("U1")
@pytest.mark.parametrize("kind", KINDS)
def test_an_unseen_user_is_what_the_history_makes_of_it(kind: Any) -> None:
    data = made_up_data()
    model, user = made(kind, data), unseen(data)
    histories = [[3], [4], [3, 4, 5], [7, 2, 9, 11]]
    rows = [model.fold_in(ask([history], [user]))[0] for history in histories]
    mean = model.user_table.detach().mean(0)
    for place, row in enumerate(rows):
        assert torch.equal(model.fold_in(ask([histories[place]], [user]))[0], row)  # the same history, the same row
        assert not torch.allclose(row, mean, atol=1e-6)
        assert not any(torch.allclose(row, other, atol=1e-6) for other in rows[:place])


@pytest.mark.fidelity("U1")
def test_fold_in_starts_from_the_trained_row_or_from_the_mean() -> None:
    data = made_up_data()
    model = made(Logistic, data)
    known = int(data.train.users[5])
    rows, trained = model.start_rows(torch.tensor([known, unseen(data)]))
    assert trained.tolist() == [True, False]
    torch.testing.assert_close(rows, torch.stack([model.user_table[5], model.user_table.mean(0)]).detach())
    anew, _ = model.start_rows(torch.tensor([known]), trained=False)
    torch.testing.assert_close(anew[0], model.user_table.mean(0).detach())


@pytest.mark.fidelity("U1")
@pytest.mark.parametrize("kind", KINDS)
def test_without_steps_nobody_is_scored_by_an_untrained_row(kind: Any) -> None:
    data = made_up_data()
    model = made(kind, data, fold_in_steps=0)
    known = [int(user) for user in data.train.users[:3]]
    torch.testing.assert_close(model.fold_in(ask([[1], [2], []], known)), model.user_table[:3].detach())
    with pytest.raises(ModelError, match="no row for a user") as raised:
        model.fold_in(ask([[1], [2]], [known[0], unseen(data)]))
    assert "fold_in_steps" in str(raised.value.advice)


@pytest.mark.fidelity("U2")
@pytest.mark.parametrize("kind", KINDS)
def test_all_but_the_new_rows_stays_bit_by_bit(kind: Any) -> None:
    data = made_up_data()
    model = made(kind, data).train()
    everything = [*model.named_parameters(), *model.named_buffers()]
    before = {name: (value.detach().clone(), value.requires_grad) for name, value in everything}
    training = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    model.fold_in(Histories.of(data.valid.users, data.valid.histories))
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        assert torch.equal(value, before[name][0]) and value.requires_grad == before[name][1] and value.grad is None, name
    assert [module.training for module in model.modules()] == training
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.fidelity("U3")
@pytest.mark.parametrize("kind", KINDS)
def test_other_targets_same_lists(kind: Any) -> None:
    """What ranking shows a model are histories: under other targets every score is the same."""
    data = made_up_data()
    model, protocol = made(kind, data), Protocol(cutoffs=(5,), select_by="ndcg@5", seen_items="keep")
    targets = Ragged.of([[1 + row % data.n_items] for row in range(len(data.valid))])
    first, second = (
        Evaluator(cases, data.n_items, protocol).rank(model, top=data.n_items)
        for cases in (data.valid, replace(data.valid, targets=targets))
    )
    assert first.top_scores is not None and second.top_scores is not None
    np.testing.assert_array_equal(first.top_items, second.top_items)
    np.testing.assert_array_equal(first.top_scores, second.top_scores)


@pytest.mark.fidelity("U4")
@pytest.mark.parametrize("kind", KINDS)
def test_without_history_the_row_is_that_which_fold_in_starts_from(kind: Any) -> None:
    data = made_up_data()
    model = made(kind, data)
    rows = model.fold_in(ask([[], [0, 0], []], [unseen(data), unseen(data) + 1, int(data.train.users[4])]))
    mean = model.user_table.detach().mean(0)
    torch.testing.assert_close(rows, torch.stack([mean, mean, model.user_table[4].detach()]))
    assert model.scores(ask([[]], [unseen(data)]))[:, 1:].isfinite().all()


@pytest.mark.fidelity("U4")
@pytest.mark.parametrize("kind", KINDS)
def test_whoever_has_had_every_item_keeps_the_row(kind: Any) -> None:
    """There is no negative left to tell the history from, and nothing new to be ranked."""
    data = made_up_data()
    model = made(kind, data)
    every = list(range(1, data.n_items + 1))
    rows = model.fold_in(ask([every, [*every, 0, 3], [3]], [unseen(data)] * 3))
    mean = model.user_table.detach().mean(0)
    torch.testing.assert_close(rows[:2], mean.expand(2, -1))
    assert not torch.allclose(rows[2], mean)


@pytest.mark.fidelity("U5")
@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_not_depend_on_who_is_folded_in_together(kind: Any) -> None:
    data = made_up_data()
    model = made(kind, data)
    together = model.fold_in(Histories.of(data.valid.users, data.valid.histories))
    size = float(together.abs().max())

    def close(found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 * size)

    order = np.random.default_rng(0).permutation(len(data.valid))
    mixed = data.valid.take(order)
    close(model.fold_in(Histories.of(mixed.users, mixed.histories)), together[torch.as_tensor(order)])
    for row in range(0, len(data.valid), 5):
        alone = data.valid.take(np.array([row]))
        close(model.fold_in(Histories.of(alone.users, alone.histories))[0], together[row])
    for events in (1, 40):
        with mock.patch.object(fold_in, "CHUNK_EVENTS", events):
            close(model.fold_in(Histories.of(data.valid.users, data.valid.histories)), together)


@pytest.mark.fidelity("U5")
def test_many_large_steps_do_not_depend_on_it_either() -> None:
    """Adam makes much of last digits, and rectified layers more: with rows in single precision these differed by 1."""
    data = made_up_data(users=120, items=300, longest=60)
    parameters = {"embedding_size": 8, "output": "mlp", "high_layers": 2, "learning_rate": 0.01, "batch_size": 256}
    model = made("mkr", data, fold_in_steps=80, fold_in_learning_rate=0.5, **parameters)
    rng = np.random.default_rng(0)
    histories = [rng.integers(1, 301, size=int(size)).tolist() for size in rng.integers(1, 90, 60)]
    users = [unseen(data)] * 60
    together = model.fold_in(ask(histories, users))
    alone = torch.cat([model.fold_in(ask([history], users[:1])) for history in histories])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_single_pairs_are_entries_of_the_matrix(kind: Any) -> None:
    data = made_up_data()
    model = made(kind, data)
    histories = Histories.of(data.valid.users, data.valid.histories)
    owner, items = torch.tensor([0, 0, 3, 9, 9, 9]), torch.tensor([5, 1, data.n_items, 2, 2, 7])
    scores = model.scores(histories)
    torch.testing.assert_close(model.pair_scores(histories, owner, items), scores[owner, items], rtol=1e-5, atol=1e-6)
    give = model.block_scores(histories)
    torch.testing.assert_close(torch.cat([give(0, 4), give(4, len(histories))])[:, 1:], scores[:, 1:], rtol=1e-5, atol=1e-6)


# Negatives


def negatives_of(model: Logistic, histories: Histories) -> list[list[int]]:
    """The negatives of every step."""
    model.asked.clear()
    model.fold_in(histories)
    return [negatives.tolist() for _, _, negatives in model.asked]


def logistic(data: TrainingData | None = None, seed: int = 0, **keys: Any) -> Logistic:
    model = made(Logistic, data, seed, **keys)
    assert isinstance(model, Logistic)
    return model


def test_each_step_is_asked_for_the_whole_history_with_one_negative_an_event() -> None:
    model = logistic(fold_in_steps=7)
    history = [3, 0, 4, 3, 9]
    negatives = negatives_of(model, ask([history, [], [5]], [50, 51, 52]))
    assert len(negatives) == 7
    for owner, positives, _ in model.asked:
        assert owner.tolist() == [0, 0, 0, 0, 1] and positives.tolist() == [3, 4, 3, 9, 5]
    for step in negatives:
        assert not set(step[:4]) & {0, 3, 4, 9} and step[4] not in (0, 5)


@pytest.mark.fidelity("U3")
def test_negatives_are_uniform_over_all_that_is_not_in_the_history() -> None:
    """The targets are among them, as often as any other item: nobody has said which they are."""
    data = made_up_data(items=12)
    model = logistic(data, fold_in_steps=60, fold_in_learning_rate=1e-6)
    users = 2 * len(data.train.users)
    drawn = np.concatenate(negatives_of(model, ask([[2, 5, 5, 9, 0]] * users)))
    counts = np.bincount(drawn, minlength=13)
    assert not counts[[0, 2, 5, 9]].any()
    assert chisquare(counts[np.flatnonzero(counts)]).pvalue > 1e-4 and (counts > 0).sum() == 9


@pytest.mark.fidelity("U5")
def test_negatives_belong_to_raw_user_step_and_place() -> None:
    data = made_up_data()
    model = logistic(data, fold_in_steps=6)
    history = [3, 4, 5, 6, 7, 8]
    base = negatives_of(model, ask([history], [40]))
    assert negatives_of(model, ask([history], [40])) == base
    assert [step[-6:] for step in negatives_of(model, ask([[1], [], history], [3, 41, 40]))] == base  # whoever stands before
    assert len({tuple(step) for step in base}) == 6  # another step
    assert negatives_of(model, ask([history], [41])) != base  # another user
    assert negatives_of(logistic(data, seed=1, fold_in_steps=6), ask([history], [40])) != base  # another seed
    longer = negatives_of(model, ask([[*history, 3]], [40]))
    assert [step[:6] for step in longer] == base  # events that come after change nothing for those before


def test_the_seed_of_fold_in_is_part_of_the_weights() -> None:
    one, other = logistic(seed=0), logistic(seed=1)
    assert one.fold_in_seed != other.fold_in_seed
    other.load_state_dict(one.state_dict())
    histories = ask([[3, 4], [5]], [40, 41])
    assert torch.equal(one.fold_in(histories), other.fold_in(histories))


def test_raw_ids_are_what_users_are_known_by() -> None:
    """The same user under another number gets the same negatives; without raw ids the numbers stand for them."""
    data = made_up_data()
    assert data.user_keys is not None
    model, history = logistic(data), [3, 4, 5, 6]
    base = negatives_of(model, ask([history], [40]))
    keys = data.user_keys.copy()
    keys[[40, 41]] = keys[[41, 40]]
    assert negatives_of(logistic(replace(data, user_keys=keys)), ask([history], [41])) == base
    assert len(negatives_of(logistic(replace(data, user_keys=None)), ask([history], [40]))) == 4


def test_fold_in_works_where_gradients_are_off() -> None:
    model, histories = logistic(), ask([[3, 4], [5]], [40, 41])
    expected = model.fold_in(histories)
    with torch.no_grad():
        assert torch.equal(model.fold_in(histories), expected)
    with torch.inference_mode():
        assert torch.equal(model.fold_in(ask([[3, 4], [5]], [40, 41])), expected)
        assert torch.equal(
            model.fold_in(Histories(histories.users.clone(), histories.items.clone(), histories.offsets.clone())), expected
        )


def test_seconds_of_fold_in_are_counted() -> None:
    model = logistic()
    assert model.costs["fold_in_seconds"] == 0
    model.fold_in(ask([[3, 4]], [40]))
    assert model.costs["fold_in_seconds"] > 0


def test_a_rate_of_no_steps_is_refused() -> None:
    for name in of_registry():
        config = model_class(name).Config
        if "fold_in_steps" not in config.model_fields:
            continue
        usual = config().fold_in_learning_rate
        assert config.model_validate({"fold_in_steps": 0}).fold_in_learning_rate == usual
        assert config.model_validate(config(fold_in_steps=0).model_dump()).fold_in_learning_rate == usual
        with pytest.raises(ValidationError, match="fold_in_learning_rate has no effect without steps"):
            config.model_validate({"fold_in_steps": 0, "fold_in_learning_rate": 0.3})
        assert config.model_validate({"fold_in_steps": 1, "fold_in_learning_rate": 0.3}).fold_in_steps == 1
