"""The comparison with peers, against a peer written out with torch's own parts."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

N_ITEMS, SIZE, HIDDEN, ROWS, LONGEST = 11, 4, 5, 6, 7


@pytest.fixture(scope="module")
def agreement() -> Iterator[ModuleType]:
    """The script, which imports its neighbours as a script does."""
    folder = str(Path(__file__).parents[2] / "perf" / "peers")
    sys.path.insert(0, folder)
    yield importlib.import_module("agreement")
    sys.path.remove(folder)


@pytest.fixture
def dump() -> dict[str, Any]:
    torch.manual_seed(0)
    parts = {
        "item_embedding": nn.Embedding(N_ITEMS + 1, SIZE),
        "gru_layers": nn.GRU(SIZE, HIDDEN, bias=False, batch_first=True),
        "dense": nn.Linear(HIDDEN, SIZE),
    }
    network = nn.ModuleDict(parts).double()
    lengths = torch.randint(1, LONGEST + 1, (ROWS,))
    sequences = torch.randint(1, N_ITEMS + 1, (ROWS, LONGEST)) * (torch.arange(LONGEST) < lengths[:, None])
    targets, negatives = torch.randint(1, N_ITEMS + 1, (2, ROWS))
    kept = {"sequences": sequences, "lengths": lengths, "targets": targets, "negatives": negatives}
    for form in ("cross-entropy", "bpr"):
        network.zero_grad()
        states = parts["gru_layers"](F.embedding(sequences, parts["item_embedding"].weight, padding_idx=0))[0]
        scores = parts["dense"](states[torch.arange(ROWS), lengths - 1]) @ parts["item_embedding"].weight.T
        pairs = scores.gather(1, targets[:, None]) - scores.gather(1, negatives[:, None])
        loss = F.cross_entropy(scores, targets) if form == "cross-entropy" else -F.logsigmoid(pairs).mean()
        loss.backward()
        kept["loss" if form == "cross-entropy" else form] = loss.detach()
        kept |= {f"gradient:{form}:{name}": weight.grad.clone() for name, weight in network.named_parameters()}
    kept |= {f"weight:{name}": weight.detach() for name, weight in network.named_parameters()} | {"scores": scores.detach()}
    return {name: value.numpy().copy() for name, value in kept.items()}


def test_the_same_mathematics_holds(agreement: ModuleType, dump: dict[str, Any]) -> None:
    assert [row.holds for row in agreement.recbole(dump, "GRU4Rec")] == [True, True]


@pytest.mark.parametrize("name", ["item_embedding.weight", "gru_layers.weight_hh_l0", "dense.bias"])
def test_a_changed_weight_is_noticed(agreement: ModuleType, dump: dict[str, Any], name: str) -> None:
    dump[f"weight:{name}"].ravel()[-1] += 1e-3
    assert not any(row.holds for row in agreement.recbole(dump, "GRU4Rec"))


@pytest.mark.parametrize("name", ["loss", "bpr", "scores", "gradient:cross-entropy:dense.bias"])
def test_another_number_of_the_peer_is_noticed(agreement: ModuleType, dump: dict[str, Any], name: str) -> None:
    dump[name] = np.asarray(dump[name]) * (1 + 1e-4)
    rows = agreement.recbole(dump, "GRU4Rec")
    assert [row.holds for row in rows] == {"scores": [False, False], "bpr": [True, False]}.get(name, [False, True])
