"""MKR: the numbers of a worked example, and what its two tasks may and may not do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchbed.data.dataset import Cases, Graph, Labelled, Ragged, Sequences, TrainingData
from benchbed.models.mkr import MKR, MKRConfig
from benchbed.models.mkr_data import PairBatch, TripleBatch
from benchbed.models.mkr_parts import CrossCompress, graph_loss, half_squares, triple_scores
from benchbed.testing import made_up_data

V, E = [1.0, 2.0], [3.0, -1.0]
W_VV, W_EV, W_VE, W_EE = [0.5, -1.0], [2.0, 1.0], [-0.5, 0.25], [1.0, 0.0]
B_V, B_E = [0.1, -0.2], [0.0, 0.3]
MATRIX = [[0.1, -0.2], [0.3, 0.05], [0.2, 0.2], [-0.1, 0.4]]


def t(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def build(data: TrainingData, **keys: Any) -> MKR:
    torch.manual_seed(0)
    model = MKR(MKRConfig(**keys), data)
    model.bind(data, "cpu")
    return model


def small() -> TrainingData:
    """A user, an item, and the one triple whose head is the item's entity; entity 2 is its tail, entity 3 is named nowhere."""
    graph = Graph(np.array([1]), np.array([1]), np.array([2]), 3, 1, np.array([0, 1, 0]))
    none = Cases(np.zeros(0, np.int64), Ragged.of([]), Ragged.of([]))
    train = Sequences(np.array([1]), Ragged.of([[1]]))
    return TrainingData("small", 2, np.array([0, 1, 0]), ("", "a", "b"), train, none, graph=graph)


def put(parameter: Tensor, values: Any) -> None:
    with torch.no_grad():
        parameter.copy_(t(values))


def example(**keys: Any) -> MKR:
    """The worked example: item 1 with its entity, user 0, one triple."""
    model = build(small(), **{"embedding_size": 2, "kge_interval": 1, **keys}).double()
    for name, values in (("vv", W_VV), ("ev", W_EV), ("ve", W_VE), ("ee", W_EE)):
        put(model.units[0].weights[name], values)
    if model.config.unit_biases == "vectors":
        put(model.units[0].biases["v"], B_V)
        put(model.units[0].biases["e"], B_E)
    put(model.items.items[1], V)
    put(model.entities.items[1], E)
    put(model.users[0], [1.0, -1.0])
    put(model.user_layers.weights[0], np.array([[0.2, -0.4], [0.1, 0.3]]).T)
    put(model.user_layers.biases[0], [0.05, 0.5])
    put(model.relations[0], [0.5, -0.5])
    assert model.entities.others is not None
    put(model.entities.others[0], [0.4, 0.2])
    put(model.graph_layers.weights[0], np.array([[1.0, 0.0], [0.5, -1.0]]).T)
    put(model.graph_layers.biases[0], [0.0, 0.1])
    put(model.triple_layers.weights[0], np.array(MATRIX).T)
    put(model.triple_layers.biases[0], [0.0, 0.1])
    return model


def one_pair(label: float, copies: int = 1) -> PairBatch:
    return PairBatch(torch.zeros(copies, dtype=torch.int64), torch.ones(copies, dtype=torch.int64), t([label] * copies), copies)


def one_triple(copies: int = 1) -> TripleBatch:
    return TripleBatch(torch.zeros(copies, dtype=torch.int64))


@pytest.mark.fidelity("M1")
def test_a_unit_is_the_compressed_outer_product() -> None:
    unit = example().units[0]
    v, e = unit.item(t([V]), t([E])), unit.entity(t([V]), t([E]))
    torch.testing.assert_close(v, t([[14.6, 0.8]]))
    torch.testing.assert_close(e, t([[1.25, -4.2]]))
    torch.testing.assert_close(unit.item(v, e), t([[108.045, -122.34]]))
    torch.testing.assert_close(unit.entity(v, e), t([[-6.205, -62.36]]))
    scalars = CrossCompress(2, scalars=True).double()
    for name, values in (("vv", W_VV), ("ev", W_EV), ("ve", W_VE), ("ee", W_EE)):
        put(scalars.weights[name], values)
        put(scalars.biases[name], {"vv": 0.1, "ev": -0.3, "ve": 0.2, "ee": 0.05}[name])
    torch.testing.assert_close(scalars.item(t([V]), t([E])), t([[14.3, 0.8]]))
    torch.testing.assert_close(scalars.entity(t([V]), t([E])), t([[1.5, -4.25]]))


@pytest.mark.fidelity("M1")
def test_it_costs_no_matrix_and_is_the_same() -> None:
    torch.manual_seed(0)
    unit, v, e = CrossCompress(7).double(), torch.randn(9, 7).double(), torch.randn(9, 7).double()
    for bias in unit.biases.values():
        torch.nn.init.normal_(bias)
    crossed = v[:, :, None] * e[:, None, :]
    w, b = unit.weights, unit.biases
    torch.testing.assert_close(unit.item(v, e), crossed @ w["vv"] + crossed.mT @ w["ev"] + b["v"])
    torch.testing.assert_close(unit.entity(v, e), crossed @ w["ve"] + crossed.mT @ w["ee"] + b["e"])


@pytest.mark.fidelity("M8")
def test_the_loss_of_recommendation_is_that_of_the_example() -> None:
    with torch.no_grad():
        assert float(example(l2=0.0).loss(one_pair(1))) == pytest.approx(0.1060853267, abs=1e-9)
        assert float(example(l2=0.0).loss(one_pair(0))) == pytest.approx(2.2960853267, abs=1e-9)
        model = example(l2=0.01)
        assert float(model.loss(one_pair(1))) == pytest.approx(1.2145103266, abs=1e-9)
        vectors = half_squares([t([0.15, 0.0]), t([14.6, 0.8])])
        weights = half_squares([*model.user_layers.weights, *model.units[0].weights.values()])
        assert float(vectors + weights) == pytest.approx(110.8425, abs=1e-9)
        twice = 0.1060853267 + 0.01 * float(2 * vectors + weights)
        assert float(model.loss(one_pair(1, copies=2))) == pytest.approx(twice, abs=1e-8)
        bare = example(l2=0.01, penalty="vectors")
        assert float(bare.loss(one_pair(1))) == pytest.approx(0.1060853267 + 0.01 * float(vectors), abs=1e-8)
        for bias in (*model.user_layers.biases, *model.units[0].biases.values()):
            assert not any(bias is penalised for penalised in (*model.user_layers.penalised(), *model.units.penalised()))


@pytest.mark.fidelity("M4")
def test_predicted_tails_are_those_of_the_example() -> None:
    model, head = example(), t([[1.25, -4.2]])
    with torch.no_grad():
        torch.testing.assert_close(model.predicted_tails(head, t([[0.5, -0.5]])), t([[0.5, 0.5]]))
        torch.testing.assert_close(model.predicted_tails(head, t([[9.0, 9.0]])), t([[0.5, 0.9935678915]]), rtol=0, atol=1e-9)
        tail = model.tail_features(t([[0.4, 0.2]]))
        torch.testing.assert_close(tail, t([[0.5, 0.0]]))
        assert float(triple_scores(tail, t([[0.5, 0.5]]))) == pytest.approx(0.5621765009, abs=1e-9)
        sigmoids = example(activation="sigmoid")
        found = sigmoids.predicted_tails(head, t([[9.0, 9.0]]))
        torch.testing.assert_close(found, t([[0.6086208917, 0.7297920714]]), rtol=0, atol=1e-9)
        paper = example(variant="paper")
        plain = torch.sigmoid(paper.triple_layers(torch.cat([head, t([[0.5, -0.5]])], 1)))
        torch.testing.assert_close(plain, t([[0.2719008017, 0.3869858239]]), rtol=0, atol=1e-9)
        raw = t([[0.4, 0.2]])
        assert paper.tail_features(raw) is raw, "in the article's form the tail passes no layer"
        put(paper.graph_layers.weights[0], [[2.0, 0.0], [0.0, 2.0]])
        moved = torch.relu(2 * t([[0.5, -0.5]]) + t([0.0, 0.1]))  # the relation does
        expected = torch.sigmoid(paper.triple_layers(torch.cat([head, moved], 1)))
        torch.testing.assert_close(paper.predicted_tails(head, t([[0.5, -0.5]])), expected)


@pytest.mark.fidelity("M4")
@pytest.mark.parametrize(
    ("keys", "low", "high"),
    [
        ({}, 0.5, 1.0),
        ({"variant": "recbole"}, 0.5, 1 / (1 + math.exp(-1))),
        ({"variant": "paper"}, 0.0, 1.0),
    ],
)
def test_the_range_of_predictions_is_that_of_the_variant(keys: dict[str, Any], low: float, high: float) -> None:
    model = build(made_up_data(), embedding_size=6, **keys)
    with torch.no_grad():
        found = model.predicted_tails(20 * torch.randn(500, 6), 20 * torch.randn(500, 6))
    assert low <= float(found.min()) < low + 0.02 and high - 0.05 < float(found.max()) <= high + 1e-6


@pytest.mark.fidelity("M4")
@pytest.mark.parametrize("keys", [{}, {"output": "mlp"}, {"variant": "recbole"}])
def test_logits_are_no_probabilities(keys: dict[str, Any]) -> None:
    model = build(made_up_data(), embedding_size=6, **keys)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8)
        logits = model.row_scores(model.users, None, model.item_side())[:, 1:]
    assert float(logits.max()) > 10 and float(logits.min()) < -10 and MKR.logits


@pytest.mark.fidelity("M7", "M8")
def test_the_loss_of_the_graph_is_a_sum_and_pays_the_penalty_for_each_triple() -> None:
    with torch.no_grad():
        assert float(example(l2=0.0).loss(one_triple())) == pytest.approx(-0.5621765009, abs=1e-9)
        model = example(l2=0.01)
        vectors = half_squares([t([1.25, -4.2]), t([0.5, 0.0])])
        weights = half_squares([*model.graph_layers.weights, *model.triple_layers.weights, *model.units[0].weights.values()])
        for copies in (1, 3):
            expected = -0.5621765009 * copies + copies * 0.01 * float(copies * vectors + weights)
            assert float(model.loss(one_triple(copies))) == pytest.approx(expected, abs=1e-8)


def test_a_graph_of_one_entity_is_learnt_without_corrupted_tails() -> None:
    none = Cases(np.zeros(0, np.int64), Ragged.of([]), Ragged.of([]))
    graph = Graph(np.array([1]), np.array([1]), np.array([1]), 1, 1, np.array([0, 1]))
    data = TrainingData("one", 1, np.array([0, 1]), ("", "a"), Sequences(np.array([1]), Ragged.of([[1]])), none, graph=graph)
    model = build(data, variant="paper", kge_interval=1)
    assert model._triples.n_entities == 1
    losses = [model.loss(batch) for batch in model.batches(torch.Generator().manual_seed(0)) if isinstance(batch, TripleBatch)]
    assert len(losses) == 1 and bool(losses[0].isfinite())


@pytest.mark.fidelity("M7")
def test_against_a_corrupted_tail_the_loss_is_a_difference() -> None:
    true, other = (
        t([0.5621765009]),
        triple_scores(torch.relu(t([[-0.3, 0.6]]) @ t([[1, 0], [0.5, -1]]) + t([0, 0.1])), t([[0.5, 0.5]])),
    )
    assert float(graph_loss(true, other[:, None], 0.0, [], [])) == pytest.approx(-0.0621765009, abs=1e-9)
    model = example(variant="paper", l2=0.0)
    with torch.no_grad():
        assert float(model.loss(one_triple(5))) != 0
        for row in model.entities.items[1:]:
            row.copy_(model.entities.others[0])  # type: ignore[index]  # there is a tail that is no item
        assert float(model.loss(one_triple(5))) == pytest.approx(0, abs=1e-12), "equal tails, no loss"


@pytest.mark.fidelity("M7")
def test_a_true_tail_is_not_drawn_against_itself() -> None:
    model = example(variant="paper", l2=0.0)
    model._triples = replace(model._triples, tails=torch.tensor([2]))
    seen = []
    forward = type(model.entities).forward

    def watch(table: Any, rows: Tensor) -> Tensor:
        seen.append(rows)
        return forward(table, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.entities), "forward", watch)
        model.loss(one_triple(400))
    tails = next(rows for rows in seen if rows.dim() == 2)
    assert set(tails[:, 0].tolist()) == {2} and set(tails[:, 1].tolist()) == {1, 3}


@pytest.mark.fidelity("M2")
@pytest.mark.parametrize("keys", [{}, {"variant": "paper"}, {"variant": "recbole"}, {"low_layers": 2, "output": "mlp"}])
def test_each_task_leaves_the_other_one_alone(keys: dict[str, Any]) -> None:
    model = build(
        made_up_data(), embedding_size=4, batch_size=50, kge_interval=1, activation="leaky_relu", learning_rate=0.1, **keys
    )
    optimizers, generator = model.optimizers(), torch.Generator().manual_seed(0)
    own = {
        "recommendation": ("users", "user_layers", "pair_layers"),
        "graph": ("relations", "graph_layers", "triple_layers", "entities.others", "items.others"),
    }
    done = set()
    for _ in range(2):
        for batch in model.batches(generator):
            task, other = ("recommendation", "graph") if isinstance(batch, PairBatch) else ("graph", "recommendation")
            before = {name: value.clone() for name, value in model.named_parameters()}
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            model.loss(batch).backward()
            for optimizer in optimizers:
                optimizer.step()
            moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
            assert not [name for name in moved if name.startswith(own[other])]
            assert {"items.items", "entities.items"} <= moved and any(name.startswith(own[task]) for name in moved)
            done.add(task)
    assert done == {"recommendation", "graph"}


@pytest.mark.fidelity("M2")
def test_what_both_tasks_share_is_moved_by_one_optimiser_at_a_time() -> None:
    model = build(made_up_data(), batch_size=10**6, kge_interval=1)
    recommends, learns_graph = optimizers = model.optimizers()
    for place, batch in enumerate(model.batches(torch.Generator().manual_seed(0))):
        model.zero_grad(set_to_none=True)
        model.loss(batch).backward()
        for optimizer in optimizers:
            optimizer.step()
        steps = [float(optimizer.state[model.items.items].get("step", 0)) for optimizer in (recommends, learns_graph)]
        assert steps == [[1, 0], [1, 1]][place]


def test_the_two_optimisers_have_rates_of_their_own() -> None:
    data = made_up_data()
    assert [o.defaults["lr"] for o in build(data, learning_rate=0.01, kge_rate=0.5).optimizers()] == [0.01, 0.005]
    assert [o.defaults["lr"] for o in build(data, learning_rate=0.01, variant="recbole").optimizers()] == [0.01]


@pytest.mark.fidelity("M3")
@pytest.mark.parametrize(("interval", "expected"), [(3, [0, 3, 6, 9]), (1, list(range(10))), (0, [])])
def test_the_graph_is_learnt_in_the_epochs_that_the_interval_names(interval: int, expected: list[int]) -> None:
    model, generator = build(made_up_data(), kge_interval=interval, batch_size=16), torch.Generator().manual_seed(0)
    found = []
    for epoch in range(10):
        batches = list(model.batches(generator))
        triples = [batch for batch in batches if isinstance(batch, TripleBatch)]
        assert batches[len(batches) - len(triples) :] == triples, "triples come after all pairs"
        if triples:
            found.append(epoch)
            assert sorted(torch.cat([batch.places for batch in triples]).tolist()) == list(range(28))
    assert found == expected


@pytest.mark.fidelity("M10")
@pytest.mark.parametrize("keys", [{}, {"kge_interval": 0}])
def test_without_triples_recommendations_are_learnt_alone(keys: dict[str, Any]) -> None:
    data = made_up_data()
    assert data.graph is not None
    # All heads are entities that are no items, so that no triple is left.
    nothing = replace(data, graph=replace(data.graph, heads=np.full(len(data.graph.heads), data.graph.n_entities)))
    model = build(nothing if not keys else data, **keys)
    assert model.costs == {"fold_in_seconds": 0.0, "triples": 0.0, "triples_left_out": 0.0 if keys else 31.0}
    (optimizer,) = model.optimizers()
    before = {name: value.clone() for name, value in model.named_parameters()}
    for batch in model.batches(torch.Generator().manual_seed(0)):
        assert isinstance(batch, PairBatch)
        model.zero_grad(set_to_none=True)
        model.loss(batch).backward()
        optimizer.step()
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters()), "no parameter is idle"


@pytest.mark.fidelity("M6")
def test_a_dead_network_is_noticed() -> None:
    model, generator = build(made_up_data(), batch_size=64), torch.Generator().manual_seed(0)
    assert "dead_relu" not in model.costs, "before training there is nothing to say"
    for _ in range(2):
        list(model.batches(generator))
    with torch.no_grad():
        model.user_layers.biases[0].fill_(-10.0)
    assert model.costs["constant_users"] == 1 and model.costs["probe_auc"] == 0.5 and model.costs["dead_relu"] == 0
    list(model.batches(generator))
    assert model.costs["dead_relu"] == 1
    with torch.no_grad():
        model.user_layers.biases[0].fill_(1.0)
        torch.nn.init.normal_(model.items.items)
        torch.nn.init.normal_(model.entities.items)
    found, state = model.costs, torch.get_rng_state()
    assert found["constant_users"] == 0 and model.costs == found and model.training
    assert torch.equal(state, torch.get_rng_state()), "to look draws no random numbers"


def test_folding_in_descends_what_training_descends() -> None:
    """A batch that is one user's labelled pairs gives the user's row the gradient that fold-in gives it."""
    data = made_up_data()
    for keys in ({}, {"output": "mlp"}, {"variant": "recbole"}):
        model = build(data, batch_size=6, l2=0.05, embedding_size=4, activation="sigmoid", **keys).double()
        positives, negatives = torch.tensor([1, 2, 3]), torch.tensor([7, 8, 9])
        batch = PairBatch(torch.full((6,), 2), torch.cat([positives, negatives]), t([1, 1, 1, 0, 0, 0]), 3)
        model.loss(batch).backward()
        assert model.users.grad is not None
        rows = model.users.detach()[[4, 2]].requires_grad_()
        owner = torch.tensor([1, 1, 1])
        loss = model.fold_in_loss(rows, owner, positives, negatives, model.item_side().detach())
        (gradient,) = torch.autograd.grad(loss, rows)
        torch.testing.assert_close(gradient[1], model.users.grad[2])
        assert not gradient[0].any()


def test_full_scores_are_those_of_pairs() -> None:
    for keys in ({}, {"output": "mlp", "high_layers": 2}):
        model = build(made_up_data(), embedding_size=4, low_layers=2, activation="leaky_relu", **keys).eval()
        with torch.no_grad():
            side = model.item_side()
            scores = model.row_scores(model.users, None, side)
            users, items = torch.arange(30).repeat_interleave(28), torch.arange(1, 29).repeat(30)
            features = model.user_layers(model.users)[users], model.item_features(items)
            torch.testing.assert_close(scores[users, items], model.pair_logits(*features))
            torch.testing.assert_close(model.row_pair_scores(model.users, users, items, side), scores[users, items])


@pytest.mark.fidelity("M11")
def test_listed_negatives_are_those_of_the_split() -> None:
    data = made_up_data()
    users = data.train.users[[3, 3, 5, 5]]
    listed = Labelled(np.append(users, 999), np.array([1, 9, 2, 0, 4]), np.array([1, 0, 1, 0, 1]))
    model = build(replace(data, labelled=listed), negatives="given", kge_interval=0, batch_size=2)
    for _ in range(2):
        batches = list(model.batches(torch.Generator().manual_seed(1)))
        assert all(isinstance(batch, PairBatch) for batch in batches) and sum(batch.n_targets for batch in batches) == 3
        rows = [row for b in batches if isinstance(b, PairBatch) for row in zip(b.users, b.items, b.labels, strict=True)]
        assert sorted((int(u), int(i), int(y)) for u, i, y in rows) == [(3, 1, 1), (3, 9, 0), (5, 2, 1)]


@pytest.mark.fidelity("M10")
def test_a_graph_without_a_single_triple_leaves_recommendation_alone() -> None:
    data = made_up_data()
    assert data.graph is not None
    none = np.zeros(0, np.int64)
    empty = replace(data.graph, heads=none, relations=none, tails=none)
    model = MKR(MKRConfig(), replace(data, graph=empty))
    model.bind(data, "cpu")
    batches = list(model.batches(torch.Generator()))
    assert batches and all(isinstance(batch, PairBatch) for batch in batches)
    assert model.loss(batches[0]).isfinite()
