"""ComiRec-SA: batching, choice of the interest, loss, scores and retrieval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from benchbed.data.dataset import Ragged, Sequences, TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ModelError
from benchbed.evaluation.protocol import Protocol
from benchbed.models.comirec_sa import ComiRecSA, ComiRecSAConfig
from benchbed.models.cuts import PrefixBatch, RandomCuts
from benchbed.training.fit import Fit, FitSpec


def by_count(data: TrainingData) -> TrainingData:
    """The same world with items numbered by falling count, as prepared data have them."""
    order = np.argsort(-data.item_counts[1:], kind="stable") + 1
    number = np.zeros(data.n_items + 1, np.int64)
    number[order] = np.arange(1, data.n_items + 1)
    items = data.train.items
    train = Sequences(data.train.users, Ragged(number[items.values], items.offsets))
    return replace(data, item_counts=np.concatenate([[0], data.item_counts[order]]), train=train)


@pytest.fixture
def world(ring: TrainingData) -> TrainingData:
    """60 users with 3 to 29 events, 40 items."""
    return by_count(ring)


SMALL: dict[str, Any] = {"embedding_size": 6, "attention_size": 5, "interests": 3, "window": 40, "n_negatives": 8}


def comirec(data: TrainingData, **options: Any) -> ComiRecSA:
    torch.manual_seed(0)
    options = SMALL | options
    if options.get("sampler") == "full" or options.get("variant") == "article":
        options["n_negatives"] = 0
    model = ComiRecSA(ComiRecSAConfig(**options), data)
    model.bind(data, "cpu")
    with torch.no_grad():  # larger than at the start of training, so that interests differ
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter))
            if name == "embedding.weight":
                parameter[0] = 0.0
    return model


def histories(rows: list[list[int]]) -> Histories:
    return Histories.of(np.arange(len(rows)), Ragged.of(rows))


def gradients(loss: Tensor, model: ComiRecSA) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(model.parameters()))
    return dict(zip((name for name, _ in model.named_parameters()), found, strict=True))


def epoch_loss(model: ComiRecSA) -> Tensor:
    """Mean over the targets of an epoch, as the training loop forms it."""
    parts = [
        (model.loss(batch) * batch.n_targets, batch.n_targets) for batch in model.batches(torch.Generator().manual_seed(0))
    ]
    return torch.stack([loss for loss, _ in parts]).sum() / sum(n for _, n in parts)


def every_cut(model: ComiRecSA, data: TrainingData, weight: str) -> Tensor:
    """The exact expectation of the loss over the authors' draws: users and cuts uniformly (``event``: all cuts alike)."""
    drawn = RandomCuts(data.train.items, window=model.config.window, batch_size=1, device="cpu")
    users = []
    for user, length in enumerate(drawn.lengths.tolist()):
        cuts = torch.arange(4, length)
        losses = [model.loss(drawn.batch(torch.tensor([user]), cut[None])) for cut in cuts]
        users.append(torch.stack(losses))
    return torch.stack([losses.mean() for losses in users]).mean() if weight == "user" else torch.cat(users).mean()


@pytest.fixture
def small(make_ring: Callable[..., TrainingData]) -> TrainingData:
    """25 users with 3 to 14 events."""
    return by_count(make_ring(users=25, longest=15))


@pytest.mark.parametrize(
    ("weight", "positions"), [("user", "weights"), ("user", "inputs"), ("user", "none"), ("event", "weights")]
)
def test_every_prefix_is_the_expectation_over_the_authors_cuts(small: TrainingData, weight: str, positions: str) -> None:
    model = comirec(small, sampler="full", batching="every_prefix", weight=weight, batch_size=20, positions=positions).double()
    ours, theirs = epoch_loss(model), every_cut(model, small, weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=0)
    found, expected = gradients(ours, model), gradients(theirs, model)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-8, atol=1e-12, msg=name)


def test_every_prefix_is_another_objective_once_sequences_are_longer(small: TrainingData) -> None:
    model = comirec(small, sampler="full", batching="every_prefix", window=8).double()
    assert not torch.isclose(epoch_loss(model), every_cut(model, small, "user"), rtol=1e-6)


@pytest.mark.fidelity("S4")
@pytest.mark.parametrize("batching", ["random_cut", "every_prefix"])
def test_an_interest_that_never_wins_learns_nothing_in_its_head(world: TrainingData, batching: str) -> None:
    model = comirec(world, sampler="full", batching=batching, batch_size=1)
    batch = next(iter(model.batches(torch.Generator().manual_seed(1))))
    loss = model.loss(batch)
    touched = gradients(loss, model)["attention.heads.weight"].abs().sum(1) > 0
    assert torch.equal(touched, model.wins > 0)
    assert int(model.wins.sum()) == batch.n_targets and float(model.win_shares.sum()) == pytest.approx(1)
    assert batching == "every_prefix" or int(touched.sum()) == 1


@pytest.mark.fidelity("S7", "S8")
@pytest.mark.parametrize("logq", [True, False])
@pytest.mark.parametrize("batching", ["random_cut", "every_prefix"])
def test_loss_is_the_sampled_softmax_of_the_chosen_interest(world: TrainingData, batching: str, logq: bool) -> None:
    model = comirec(world, batching=batching, weight="user", logq=logq, n_negatives=20).requires_grad_(False)
    batch = next(iter(model.batches(torch.Generator().manual_seed(1))))
    if isinstance(batch, PrefixBatch):
        batch = replace(batch, weights=None)
    torch.manual_seed(5)
    found = model.loss(batch)
    torch.manual_seed(5)
    assert model.sampler is not None
    drawn, tries = model.sampler.draw_unique(20)
    table = model.embedding.weight
    logits = model.chosen(batch, table[batch.inputs], table[batch.targets])[0] @ table.T
    if logq:
        logits[:, 1:] -= model.sampler.log_expected_count(torch.arange(1, 41), tries)
    losses = [
        row[sorted({*drawn.tolist(), target})].logsumexp(0) - row[target]
        for row, target in zip(logits, batch.targets.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(losses).mean())
    assert len(set(batch.targets.tolist()) & set(drawn.tolist())) > 1  # accidental hits are among them


@pytest.mark.parametrize("batching", ["random_cut", "every_prefix"])
@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_loss_and_gradient_are_finite_at_extreme_logits(world: TrainingData, batching: str, scale: float) -> None:
    model = comirec(world, batching=batching)
    with torch.no_grad():
        model.attention.heads.weight.mul_(scale)
        model.embedding.weight.mul_(10)
    loss = epoch_loss(model)
    assert bool(loss.isfinite())
    assert all(bool(gradient.isfinite().all()) for gradient in gradients(loss, model).values())


@pytest.mark.fidelity("S5", "S6")
def test_scores_are_the_maximum_over_interests(world: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    model = comirec(world).eval().requires_grad_(False)
    rows = [[3, 9, 4], [], [1, 2, 3, 4, 5, 6, 7], [0, 5, 0], [40], [8, 8], [2]]
    scores = model.scores(histories(rows))
    assert scores.shape == (7, 41)
    vectors = model.interests(histories(rows))
    for row in range(7):
        for item in (1, 17, 40):
            best = max(float(vectors[row, k] @ model.embedding.weight[item]) for k in range(3))
            assert float(scores[row, item]) == pytest.approx(best, rel=1e-5, abs=1e-6)
        torch.testing.assert_close(model.scores(histories(rows[row : row + 1])), scores[row : row + 1])
    subset = torch.tensor([40, 3, 3, 17])
    torch.testing.assert_close(model.scores(histories(rows), subset), scores[:, subset])
    assert bool((scores[1] == 0).all())  # nothing known: all items equal
    monkeypatch.setattr("benchbed.models.comirec_sa.BLOCK_NUMBERS", 2 * 3 * 41)
    torch.testing.assert_close(model.scores(histories(rows)), scores)
    assert model.scores(histories([])).shape == (0, 41)


def test_only_the_newest_events_count(world: TrainingData) -> None:
    model = comirec(world, window=4).eval()
    torch.testing.assert_close(*model.scores(histories([[9, 8, 1, 2, 3, 4], [1, 2, 0, 3, 4]])))


@pytest.mark.fidelity("S11")
@pytest.mark.parametrize("exclude_seen", [False, True])
def test_retrieval_by_interests_is_ranking_by_the_maximum(
    world: TrainingData, exclude_seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = comirec(world, interests=4, window=5).eval()
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 41, rng.integers(1, 12)).tolist() for _ in range(30)]
    scores = model.scores(histories(rows))
    scores[:, 0] = -torch.inf
    for row, seen in enumerate(rows):
        scores[row, seen if exclude_seen else []] = -torch.inf
    monkeypatch.setattr("benchbed.models.comirec_sa.BLOCK_NUMBERS", 7 * 4 * 41)
    for n in (1, 5, 20, 40, 60):
        items, found = model.retrieve(histories(rows), n, exclude_seen=exclude_seen)
        candidates = model.candidates(histories(rows), n, exclude_seen=exclude_seen)
        assert items.shape == found.shape == (30, n) and candidates.shape == (30, 4 * n)
        expected, order = scores.topk(min(n, 40), dim=1)
        torch.testing.assert_close(found[:, : min(n, 40)], expected)
        assert torch.equal(items[:, : min(n, 40)], order.masked_fill(expected == -torch.inf, 0))
        for row in range(30):
            kept = candidates[row][candidates[row] > 0]
            assert len(kept.unique()) == len(kept)
            assert set(items[row].tolist()) <= {*kept.tolist(), 0}
            assert not exclude_seen or not set(rows[row]) & set(kept.tolist())


@pytest.mark.fidelity("S11")
@pytest.mark.parametrize("batching", ["random_cut", "every_prefix"])
@pytest.mark.parametrize("sampler", ["log_uniform", "uniform", "full"])
def test_padding_is_never_learnt(world: TrainingData, sampler: str, batching: str) -> None:
    model = comirec(world, sampler=sampler, batching=batching)
    assert gradients(epoch_loss(model), model)["embedding.weight"][0].abs().sum() == 0


@pytest.mark.fidelity("S12")
def test_initial_item_vectors_are_symmetric_around_zero(make_ring: Callable[..., TrainingData]) -> None:
    torch.manual_seed(1)
    table = ComiRecSA(ComiRecSAConfig(sampler="full"), make_ring(items=2000)).embedding.weight.detach()[1:]
    bound = (6 / (2001 + 64)) ** 0.5
    assert abs(float(table.mean())) < 0.01 * bound
    assert 0.99 * bound < float(table.max()) <= bound and -bound <= float(table.min()) < -0.99 * bound


@pytest.mark.fidelity("S9")
def test_log_uniform_wants_items_by_falling_count(ring: TrainingData) -> None:
    with pytest.raises(ModelError, match="falling number of training events"):
        comirec(ring)
    comirec(ring, sampler="uniform")


@pytest.mark.fidelity("S10")
def test_the_number_of_negatives_is_its_own_and_fits_the_catalogue(world: TrainingData) -> None:
    for batch_size in (1, 17):
        model = comirec(world, batch_size=batch_size)
        assert model.sampler is not None
        drawn = model.sampler.draw_unique(model.config.n_negatives)[0]
        assert len(drawn.unique()) == len(drawn) == 8 and int(drawn.min()) >= 1
    with pytest.raises(ModelError, match="n_negatives is 40, but the catalogue has 40 items"):
        comirec(world, n_negatives=40)


@pytest.mark.fidelity("S14")
def test_a_world_of_short_users_trains_to_nothing(world: TrainingData) -> None:
    short = replace(world, train=Sequences(np.array([1, 2]), Ragged.of([[1, 2, 3, 4], [5]])))
    for batching in ("random_cut", "every_prefix"):
        assert list(comirec(short, batching=batching).batches(torch.Generator())) == []
    assert next(iter(comirec(world, batch_size=500).batches(torch.Generator()))).n_targets <= 60


@pytest.mark.fidelity("S16")
def test_same_seed_same_training(world: TrainingData, tmp_path: Path) -> None:
    protocol = Protocol(seen_items="keep").model_dump(mode="json")
    curves = []
    for place, seed in enumerate((1, 1, 2)):
        fit = Fit(FitSpec("comirec_sa", SMALL, seed, 2, None, None, protocol), world, folder=tmp_path / str(place))
        while fit.finished is None:
            fit.step()
        curves.append([epoch.loss for epoch in fit.history])
    assert curves[0] == curves[1] != curves[2]


@pytest.mark.parametrize("batching", ["random_cut", "every_prefix"])
def test_it_learns_which_item_comes_next(world: TrainingData, batching: str) -> None:
    model = comirec(world, batching=batching, sampler="full", learning_rate=0.03, batch_size=64).train()
    optimizer, losses = model.optimizers()[0], []
    for epoch in range(8):
        total = count = 0.0
        for batch in model.batches(torch.Generator().manual_seed(epoch)):
            optimizer.zero_grad()
            loss = model.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total, count = total + float(loss.detach()) * batch.n_targets, count + batch.n_targets
        losses.append(total / count)
    assert losses[-1] < 0.75 * np.log(40)


def test_presets_say_what_they_change() -> None:
    authors, paper, article = (ComiRecSAConfig(variant=name) for name in ("authors", "paper", "article"))
    assert (authors.positions, authors.biases, authors.sampler, authors.n_negatives) == ("weights", True, "log_uniform", 1280)
    assert (paper.positions, paper.biases, paper.sampler) == ("inputs", False, "log_uniform")
    assert (article.positions, article.biases, article.sampler, article.n_negatives) == ("none", False, "full", 0)
    labels = {
        "authors": authors,
        "article": article,
        "paper, changed": ComiRecSAConfig(variant="paper", biases=True),
        "authors, every_prefix": ComiRecSAConfig(batching="every_prefix"),
        "authors, changed, every_prefix": ComiRecSAConfig(batching="every_prefix", sampler="full"),
    }
    assert all(ComiRecSA.variant(config) == said for said, config in labels.items())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sampler": "full", "n_negatives": 10}, "n_negatives must be 0"),
        ({"n_negatives": 0}, "n_negatives of 1 or more"),
        ({"sampler": "uniform", "logq": True}, "changes nothing"),
        ({"sampler": "full", "logq": True}, "changes nothing"),
        ({"batching": "every_prefix", "window": 3}, "window of 4 or more"),
        ({"weight": "event"}, "needs batching 'every_prefix'"),
        ({"variant": "authour"}, "'authors', 'paper' or 'article'"),
    ],
)
def test_combinations_without_effect_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ComiRecSAConfig(**options)


CHANGES: dict[str, dict[str, Any]] = {
    "variant": {"variant": "paper"},
    "interests": {"interests": 2},
    "embedding_size": {"embedding_size": 7},
    "attention_size": {"attention_size": None},
    "window": {"window": 7},
    "positions": {"positions": "none"},
    "biases": {"biases": False},
    "learning_rate": {"learning_rate": 0.02},
    "sampler": {"sampler": "uniform"},
    "n_negatives": {"n_negatives": 9},
    "logq": {"logq": False},
    "batching": {"batching": "random_cut"},
    "batch_size": {"batch_size": 30},
    "weight": {"weight": "event"},
}


@pytest.mark.parametrize("name", ComiRecSAConfig.model_fields)
def test_every_hyper_parameter_matters(name: str, world: TrainingData) -> None:
    base = SMALL | {"batching": "every_prefix", "batch_size": 60}
    outcomes = []
    for options in (base, base | CHANGES[name]):
        torch.manual_seed(0)
        model = ComiRecSA(ComiRecSAConfig(**options), world)
        model.bind(world, "cpu")
        optimizer = model.optimizers()[0]
        for batch in model.batches(torch.Generator().manual_seed(0)):
            optimizer.zero_grad()
            model.loss(batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        outcomes.append(model.eval().scores(histories([list(range(1, 20))])))
    assert not torch.equal(*outcomes)
