"""What MKR learns from: entities numbered behind items, triples, and drawn negatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Graph, Ragged, Sequences
from benchbed.errors import ModelError
from benchbed.models.mkr_data import DrawnPairs, pairs, read_triples
from benchbed.models.mkr_probe import Probe, spread_out
from benchbed.testing import made_up_data


def graph(triples: list[tuple[int, int, int]], item_entity: list[int], entities: int = 9, relations: int = 3) -> Graph:
    heads, names, tails = (np.array(column) for column in zip(*triples, strict=True))
    return Graph(heads, names, tails, entities, relations, np.array([0, *item_entity]))


@pytest.mark.fidelity("M9")
def test_an_item_and_its_entity_have_one_number() -> None:
    # Item 1 is entity 5, item 2 has none, item 3 is entity 2. Relation 2 and entity 9 are named by no kept triple.
    found = read_triples(graph([(5, 1, 2), (2, 3, 8), (7, 2, 9), (5, 3, 7)], [5, 0, 2]), 3)
    assert found.item_rows.tolist() == [0, 1, 2, 3] and found.n_entities == 5 and found.n_relations == 2
    assert found.items.tolist() == found.heads.tolist() == [1, 3, 1]
    assert found.tails.tolist() == [3, 5, 4] and found.relations.tolist() == [0, 1, 1]
    assert found.left_out == 1 and len(found) == 3


@pytest.mark.fidelity("M9")
def test_any_head_counts_where_it_is_asked_for() -> None:
    found = read_triples(graph([(5, 1, 2), (7, 2, 9)], [5, 0, 2]), 3, any_head=True)
    assert found.items.tolist() == found.heads.tolist() == [1, 4] and found.tails.tolist() == [3, 5]
    assert found.left_out == 0 and found.n_entities == 5


@pytest.mark.fidelity("M9")
def test_items_of_one_entity_share_its_row_and_its_triples() -> None:
    found = read_triples(graph([(5, 1, 2), (2, 1, 5)], [5, 2, 5]), 3)
    assert found.item_rows.tolist() == [0, 1, 2, 1]
    rows = sorted(zip(found.items.tolist(), found.heads.tolist(), found.tails.tolist(), strict=True))
    assert rows == [(1, 1, 2), (2, 2, 1), (3, 1, 2)]


def test_exchanged_tails_stay_with_their_relation() -> None:
    rng = np.random.default_rng(0)
    rows = [(1 + n % 20, 1 + n % 3, 21 + 10 * (n % 3) + int(rng.integers(10))) for n in range(300)]
    data = graph(rows, list(range(1, 21)), entities=50)
    plain, mixed = read_triples(data, 20), read_triples(data, 20, shuffle_tails=True)
    assert torch.equal(plain.heads, mixed.heads) and torch.equal(plain.relations, mixed.relations)
    for relation in range(3):
        of = plain.relations == relation
        assert torch.equal(plain.tails[of].sort().values, mixed.tails[of].sort().values)
        assert float((plain.tails[of] != mixed.tails[of]).double().mean()) > 0.8
    assert torch.equal(mixed.tails, read_triples(data, 20, shuffle_tails=True).tails), "the same in every run"


@pytest.mark.fidelity("M11")
def test_negatives_are_all_items_that_training_does_not_hold() -> None:
    data = replace(made_up_data(), train=Sequences(np.array([4, 2]), Ragged.of([[1, 3, 3, 5] * 200, [2] * 900])), n_items=6)
    made, generator = DrawnPairs(data, 100, "cpu"), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    epochs = [list(made(generator)) for _ in range(2)]
    assert [batch.n_targets for batch in epochs[0]] == [50] * 34
    for user, met in ((0, {1, 3, 5}), (1, {2})):
        for batches in epochs:
            users, items, labels = (torch.cat([getattr(b, key) for b in batches]) for key in ("users", "items", "labels"))
            positive = items[(users == user) & (labels == 1)]
            assert sorted(positive.tolist()) == sorted(data.train.items[user].tolist()), "each event once"
            counts = torch.bincount(items[(users == user) & (labels == 0)], minlength=7)
            assert int(counts.sum()) == len(positive) and set(counts.nonzero().flatten().tolist()) == set(range(1, 7)) - met
            expected = len(positive) / (6 - len(met))
            assert float((counts[counts > 0] - expected).abs().max()) < 5 * expected**0.5
    assert not torch.equal(epochs[0][0].items, epochs[1][0].items), "drawn anew in every epoch"


@pytest.mark.fidelity("M11")
def test_what_comes_in_validation_is_drawn_like_anything_else() -> None:
    data = made_up_data()
    torch.manual_seed(0)
    both = []
    for valid in (data.valid, data.valid.take(np.zeros(0, np.int64))):
        torch.manual_seed(0)
        batches = DrawnPairs(replace(data, valid=valid), 64, "cpu")(torch.Generator().manual_seed(0))
        both.append(torch.cat([batch.items for batch in batches]))
    assert torch.equal(*both)


def test_who_has_met_every_item_has_no_negative() -> None:
    data = replace(made_up_data(), train=Sequences(np.array([1, 2]), Ragged.of([[1, 2, 3], [1]])), n_items=3)
    (batch,) = DrawnPairs(data, 100, "cpu")(torch.Generator().manual_seed(0))
    assert batch.n_targets == 4 and len(batch.items) == len(batch.labels) == 5
    assert int(batch.users[batch.labels == 0]) == 1 and int(batch.items[batch.labels == 0]) in (2, 3)


def test_a_split_without_listed_negatives_is_refused() -> None:
    with pytest.raises(ModelError, match="click_through"):
        pairs(made_up_data(), "given", 10, "cpu")


@pytest.mark.parametrize("n", [2**24 + 4, 2**26 + 3, 3 * 10**9])
def test_places_of_the_probe_stay_inside_of_large_data(n: int) -> None:
    places = spread_out(n, 1000)
    assert int(places[0]) == 0 and int(places[-1]) == n - 1 and bool((places.diff() > 0).all())


def test_places_of_the_probe_are_all_of_small_data() -> None:
    assert [spread_out(n, 5).tolist() for n in (0, 1, 4)] == [[], [0], [0, 1, 2, 3]]
    assert spread_out(9, 1).tolist() == [0]


@pytest.mark.fidelity("M6")
def test_the_probe_tells_order_and_constancy() -> None:
    data = made_up_data()
    probe = Probe(data, "cpu")
    met = torch.zeros(30, data.n_items + 1)
    met[torch.as_tensor(data.train.items.row_of_value), torch.as_tensor(data.train.items.values)] = 1.0
    assert probe.auc(lambda users, items: met[users, items]) == 1 and probe.auc(lambda users, items: -met[users, items]) == 0
    assert probe.auc(lambda users, items: torch.zeros(len(users))) == 0.5
    assert probe.constant_users(lambda users, items: (users % 3 == 0) * items.double()) == pytest.approx(2 / 3)
