"""Items without training events are candidates under ``candidates: catalogue``, and nobody's negatives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Graph, TrainingData
from benchbed.data.histories import Histories
from benchbed.models.fold_in import FoldIn
from benchbed.models.registry import model_class
from benchbed.testing import made_up_data

KNOWN, LAUNCHED = 30, 20
"""Items with training events, and items without."""

ROWS: list[tuple[str, dict[str, Any]]] = [
    ("mkr", {"embedding_size": 4}),
    ("convncf", {"embedding_size": 4, "pretrain_epochs": 1, "fold_in_steps": 2}),
    ("mf_bpr", {"embedding_size": 4}),
    ("gru4rec", {"loss": "bpr", "n_negatives": 3}),
    ("gru4rec", {"variant": "official", "n_negatives": 40, "sample_alpha": 0.0}),
    ("comirec_sa", {"sampler": "uniform", "n_negatives": 20}),
    ("comirec_sa", {"sampler": "log_uniform", "n_negatives": 20}),
    ("sasrec", {"embedding_size": 8}),
]


def with_launches() -> TrainingData:
    data = made_up_data(users=60, items=KNOWN)
    n_items = KNOWN + LAUNCHED
    counts = np.sort(np.bincount(data.train.items.values, minlength=KNOWN + 1)[1:].clip(1))[::-1]
    ids = (*data.item_ids, *(f"new {number}" for number in range(LAUNCHED)))
    graph = Graph(np.array([1]), np.array([1]), np.array([2]), n_items, 1, np.arange(n_items + 1))
    item_counts = np.concatenate([[0], counts, np.zeros(LAUNCHED)]).astype(np.int64)
    return replace(data, n_items=n_items, item_counts=item_counts, item_ids=ids, graph=graph, item_features={})


def test_they_come_behind_those_that_may_be_drawn() -> None:
    assert with_launches().n_trained == KNOWN


@pytest.mark.parametrize(("name", "parameters"), ROWS)
def test_no_model_learns_from_them(name: str, parameters: dict[str, Any]) -> None:
    """In no batch of an epoch has a row of theirs a gradient, in no table."""
    data, kind = with_launches(), model_class(name)
    torch.manual_seed(0)
    model = kind(kind.Config.model_validate(parameters), data)
    model.bind(data, "cpu")
    touched = torch.zeros(data.n_items + 1, dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    for batch in model.batches(generator):
        model.zero_grad(set_to_none=True)
        model.loss(batch).backward()
        for weight in model.parameters():
            if weight.grad is not None and len(weight) == data.n_items + 1:
                touched |= (weight.grad.to_dense().reshape(len(weight), -1) != 0).any(1)
    assert touched[1 : KNOWN + 1].any() and not touched[KNOWN + 1 :].any()


@pytest.mark.parametrize("name", ["mkr", "convncf", "mf_bpr"])
def test_they_are_no_negatives_of_fold_in(name: str) -> None:
    """Nobody's row depends on what they are; those in a history do count."""
    data, kind = with_launches(), model_class(name)
    torch.manual_seed(0)
    model = kind(kind.Config.model_validate({"embedding_size": 4, "fold_in_steps": 5}), data)
    model.bind(data, "cpu")
    assert isinstance(model, FoldIn)
    asked = Histories.of(data.valid.users, data.valid.histories)
    before = model.fold_in(asked)
    table = model.items.items if name == "mkr" else model.item_embedding.weight  # type: ignore[attr-defined]  # of these models
    with torch.no_grad():
        table[KNOWN + 1 :] += 5.0
    assert torch.equal(model.fold_in(asked), before)
    with torch.no_grad():
        table[1 : KNOWN + 1] += 5.0
    assert not torch.equal(model.fold_in(asked), before)
