"""MKR and ConvNCF of variant ``recbole``, against peers written out with torch's own parts."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

USERS, ITEMS, ENTITIES, RELATIONS, SIZE, BATCH = 5, 7, 11, 3, 4, 6
COMMON = {"embedding_size": SIZE, "reg_weight": 0.01, "dropout_prob": 0.3, "learning_rate": 1e-3}

Dump = dict[str, Any]
Losses = dict[str, Callable[[], Tensor]]


@pytest.fixture(scope="module")
def pair_models() -> Iterator[ModuleType]:
    folder = str(Path(__file__).parents[2] / "perf" / "peers")
    sys.path.insert(0, folder)
    yield importlib.import_module("pair_models")
    sys.path.remove(folder)


def kept(form: str, network: nn.Module, scores: Tensor, losses: Losses, batch: dict[str, Tensor]) -> Dump:
    """What recbole_pairs.py keeps of a network."""
    found: Dump = {f"{form}:scores": scores.detach()} | {f"batch:{name}": value for name, value in batch.items()}
    initial = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    found |= {f"{form}:weight:{name}": weight for name, weight in initial.items()}
    for loss, value_of in losses.items():
        network.load_state_dict(initial)
        optimizer = torch.optim.Adam(network.parameters(), lr=COMMON["learning_rate"])
        for step in range(3):
            optimizer.zero_grad()
            value = value_of()
            value.backward()
            if step == 0:
                found[f"{form}:loss:{loss}"] = value.detach()
                learnt = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
                found |= {f"{form}:gradient:{loss}:{name}": gradient.clone() for name, gradient in learnt.items()}
            optimizer.step()
        found |= {f"{form}:after:{loss}:{name}": weight.detach().clone() for name, weight in network.named_parameters()}
    return {name: value.numpy().copy() for name, value in found.items()}


def layers(*sizes: int) -> nn.ModuleDict:
    """Dropout, linear, sigmoid, under RecBole's name."""
    parts = [part for into, out in itertools.pairwise(sizes) for part in (nn.Dropout(), nn.Linear(into, out), nn.Sigmoid())]
    return nn.ModuleDict({"mlp_layers": nn.Sequential(*parts)})


@pytest.fixture
def mkr_dump() -> Dump:
    torch.manual_seed(0)
    tables = {"user": USERS, "item": ENTITIES, "entity": ENTITIES, "relation": RELATIONS + 1}
    unit = nn.ModuleDict({f"fc_{of}": nn.Linear(SIZE, 1) for of in ("vv", "ev", "ve", "ee")})
    network = nn.ModuleDict(
        {f"{name}_embeddings_lookup": nn.Embedding(rows + 1, SIZE) for name, rows in tables.items()}
        | {"user_mlp": layers(SIZE, SIZE), "tail_mlp": layers(SIZE, SIZE), "cc_unit": nn.ModuleDict({"cc_unit0": unit})}
        | {"kge_mlp": layers(2 * SIZE), "kge_pred_mlp": layers(2 * SIZE, SIZE)}
    )
    network.double().eval()
    with torch.no_grad():
        for name in tables:
            network[f"{name}_embeddings_lookup"].weight[0] = 0  # padding

    def mlp(name: str, x: Tensor) -> Tensor:
        return network[name]["mlp_layers"](x)

    def crossed(items: Tensor) -> tuple[Tensor, Tensor]:
        matrix = network["item_embeddings_lookup"](items)[:, :, None] @ network["entity_embeddings_lookup"](items)[:, None]
        sides = [unit[f"fc_v{side}"](matrix) + unit[f"fc_e{side}"](matrix.transpose(1, 2)) for side in "ve"]
        return sides[0].squeeze(2), sides[1].squeeze(2)

    def penalty(*vectors: Tensor) -> Tensor:
        return COMMON["reg_weight"] * torch.stack([vector.square().sum() / 2 for vector in vectors]).sum()

    users, items, heads = (torch.randint(1, most + 1, (BATCH,)) for most in (USERS, ITEMS, ITEMS))
    relations, tails = torch.randint(1, RELATIONS + 1, (BATCH,)), torch.randint(1, ENTITIES + 1, (BATCH,))
    labels = torch.randint(0, 2, (BATCH,)).double()

    def of_pairs() -> Tensor:
        left, right = mlp("user_mlp", network["user_embeddings_lookup"](users)), crossed(items)[0]
        return F.binary_cross_entropy_with_logits((left * right).sum(1), labels) + penalty(left, right)

    def of_triples() -> Tensor:
        head, tail = crossed(heads)[1], mlp("tail_mlp", network["entity_embeddings_lookup"](tails))
        guess = torch.sigmoid(mlp("kge_pred_mlp", torch.cat([head, network["relation_embeddings_lookup"](relations)], 1)))
        return (penalty(head, tail) - torch.sigmoid((tail * guess).sum(1))).sum()

    everyone = mlp("user_mlp", network["user_embeddings_lookup"].weight[1:])
    scores = everyone @ crossed(torch.arange(1, ITEMS + 1))[0].T
    batch = {"user_id": users, "item_id": items, "label": labels, "head_id": heads, "relation_id": relations, "tail_id": tails}
    found = kept("inner", network, scores, {"rs": of_pairs, "kg": of_triples}, batch)
    form = {"use_inner_product": True, "low_layers_num": 1, "high_layers_num": 1}
    found["settings"] = json.dumps({"common": COMMON, "forms": {"inner": form}})
    return found | {"n_entities": ENTITIES, "n_relations": RELATIONS + 1}


@pytest.fixture
def convncf_dump() -> Dump:
    torch.manual_seed(0)
    tower = nn.Sequential(nn.Conv2d(1, 3, 2, 2), nn.ReLU(), nn.Conv2d(3, 5, 2, 2), nn.ReLU())
    tables = {"user_embedding": nn.Embedding(USERS + 1, SIZE), "item_embedding": nn.Embedding(ITEMS + 1, SIZE)}
    network = nn.ModuleDict(tables | {"cnn_layers": nn.ModuleDict({"cnn_layers": tower})})
    network["predict_layers"] = nn.ModuleDict({"mlp_layers": nn.Sequential(nn.Dropout(), nn.Linear(5, 1))})
    network.double().eval()
    with torch.no_grad():
        for table in tables.values():
            table.weight[0] = 0  # padding

    def scored(users: Tensor, items: Tensor) -> Tensor:
        maps = tables["user_embedding"](users)[:, None, :, None] * tables["item_embedding"](items)[:, None, None]
        return network["predict_layers"]["mlp_layers"](tower(maps).flatten(1)).squeeze(1)

    users, positives, negatives = (torch.randint(1, most + 1, (BATCH,)) for most in (USERS, ITEMS, ITEMS))

    def objective() -> Tensor:
        of_tables = sum(table.weight.norm() for table in tables.values())
        of_network = sum(w.norm() for name, w in network.named_parameters() if "layers" in name and name.endswith("weight"))
        pairs = torch.log(1 + torch.exp(scored(users, negatives) - scored(users, positives))).sum()
        return pairs + 0.1 * of_tables + 0.2 * of_network

    every = torch.cartesian_prod(torch.arange(1, USERS + 1), torch.arange(1, ITEMS + 1))
    batch = {"user_id": users, "item_id": positives, "neg_item_id": negatives}
    scores = scored(every[:, 0], every[:, 1]).view(USERS, ITEMS)
    form = {"cnn_channels": [1, 3, 5], "cnn_kernels": [2, 2], "cnn_strides": [2, 2], "reg_weights": [0.1, 0.2]}
    settings = json.dumps({"common": COMMON, "forms": {"tower": form}})
    return kept("tower", network, scores, {"bpr": objective}, batch) | {"settings": settings}


def test_mkr_is_recboles_mathematics(pair_models: ModuleType, mkr_dump: Dump) -> None:
    assert [row.holds for row in pair_models.mkr(mkr_dump)] == [True, True]


def test_convncf_is_recboles_mathematics(pair_models: ModuleType, convncf_dump: Dump) -> None:
    assert [row.holds for row in pair_models.convncf(convncf_dump)] == [True]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("user_embeddings_lookup.weight", [True, False]),
        ("cc_unit.cc_unit0.fc_ev.bias", [True, False]),
        ("kge_pred_mlp.mlp_layers.1.bias", [False, True]),
    ],
)
def test_a_changed_weight_of_mkr_is_noticed(pair_models: ModuleType, mkr_dump: Dump, name: str, rows: list[bool]) -> None:
    """By the tasks that it takes part in."""
    mkr_dump[f"inner:weight:{name}"].ravel()[-1] += 1e-3
    found = pair_models.mkr(mkr_dump)
    assert [row.trained > 1e-4 for row in found] == [True, True]
    assert [row.loss > 1e-7 for row in found] == rows


@pytest.mark.parametrize(
    "name", ["loss:bpr", "scores", "gradient:bpr:user_embedding.weight", "after:bpr:cnn_layers.cnn_layers.2.bias"]
)
def test_another_number_of_the_peer_is_noticed(pair_models: ModuleType, convncf_dump: Dump, name: str) -> None:
    convncf_dump[f"tower:{name}"] = np.asarray(convncf_dump[f"tower:{name}"]) * (1 + 1e-3)
    assert not pair_models.convncf(convncf_dump)[0].holds
