"""Pooled embeddings of item features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Features, Ragged, TrainingData
from benchbed.errors import ModelError
from benchbed.models.item_features import ItemFeatures, Pooling, chosen_fields, values_of_items
from tests.models.featured import with_features


def small(ring: TrainingData) -> TrainingData:
    """Four items: two fields, an item without tags, a value (3) that only an item without training events carries."""
    tags = Features("tags", Ragged.of([[], [1, 2], [], [2], [1, 3]]), ("a", "b", "c"))
    kind = Features("kind", Ragged.of([[], [2], [1], [], [1]]), ("x", "y"))
    counts = np.array([0, 5, 3, 2, 0])
    return replace(ring, n_items=4, item_counts=counts, item_features={"tags": tags, "kind": kind})


def test_values_are_numbered_through_all_fields(ring: TrainingData) -> None:
    values, starts = values_of_items(small(ring), ("kind", "tags"))
    assert starts == (0, 2, 5)
    assert [values[row].tolist() for row in range(len(values))] == [[], [], [2], [3, 4], [1], [], [], [4], [1], [3]]


@pytest.mark.fidelity("F3")
def test_values_that_no_training_event_carries_count_as_missing(ring: TrainingData) -> None:
    data = small(ring)
    layer = ItemFeatures(data, ("tags",), 3, "sum")
    unseen = replace(
        data, item_features={"tags": replace(data.item_features["tags"], values=Ragged.of([[], [1, 2], [], [2], [1]]))}
    )
    same = ItemFeatures(unseen, ("tags",), 3, "sum")
    same.load_state_dict(layer.state_dict())
    everything = torch.arange(5)
    assert torch.equal(layer(everything), same(everything))
    assert not layer(torch.tensor([0, 2])).any(), "padding, and an item without values, are zero"


@pytest.mark.fidelity("F2")
@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
def test_pooling_of_many_one_and_no_values(ring: TrainingData, pooling: Pooling) -> None:
    layer = ItemFeatures(small(ring), ("tags", "kind"), 3, pooling)
    table = layer.embedding.weight
    pair = torch.stack([table[1], table[2]])
    expected = {"mean": pair.mean(0), "sum": pair.sum(0), "max": pair.amax(0)}[pooling]
    made = layer.pooled()
    torch.testing.assert_close(made[1], torch.cat([expected, table[5]]))
    torch.testing.assert_close(made[3], torch.cat([table[2], torch.zeros(3)]))
    torch.testing.assert_close(made[2], torch.cat([torch.zeros(3), table[4]]))
    assert not made[0].any()


@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
def test_few_items_and_all_items_are_pooled_alike(ring: TrainingData, pooling: Pooling) -> None:
    layer = ItemFeatures(with_features(ring), ("tags", "group"), 4, pooling).double()
    few = torch.tensor([[7, 0, 3], [7, 7, 40]])
    many = few.repeat(20, 1)
    assert few.numel() < ring.n_items < many.numel()
    torch.testing.assert_close(layer(few), layer.pooled()[few])
    torch.testing.assert_close(layer(many), layer.pooled()[many])
    gradients = [torch.autograd.grad(layer(items).square().mean(), layer.embedding.weight)[0] for items in (few, many)]
    torch.testing.assert_close(*gradients)
    assert not gradients[0][0].any(), "padding is not learnt"


def test_shuffling_moves_whole_rows_and_does_not_depend_on_torch(ring: TrainingData) -> None:
    data = with_features(ring)
    fields = ("group", "tags")
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        made.append(values_of_items(data, fields, shuffle_seed=3)[0])
    assert made[0].values.tolist() == made[1].values.tolist()
    plain, shuffled, other = (values_of_items(data, fields, seed)[0] for seed in (None, 3, 4))

    def rows(values: Ragged) -> list[tuple[list[int], list[int]]]:
        return [(values[2 * item].tolist(), values[2 * item + 1].tolist()) for item in range(ring.n_items + 1)]

    assert rows(shuffled) != rows(plain) != rows(other) != rows(shuffled)
    assert sorted(rows(shuffled)) == sorted(rows(plain))
    assert rows(shuffled)[0] == ([], [])


def test_an_unknown_field_is_refused_with_the_nearest_name(ring: TrainingData) -> None:
    data = with_features(ring)
    assert chosen_fields(data, "all", "m") == ("group", "tags")
    assert chosen_fields(data, ("tags",), "m") == ("tags",)
    with pytest.raises(ModelError, match="did you mean 'tags'") as refused:
        chosen_fields(data, ["tag"], "m")
    assert "group, tags" in str(refused.value)
