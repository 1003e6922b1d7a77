"""MKR and ConvNCF of variant ``recbole`` against what recbole_pairs.py wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from compare import Dump, Row, furthest, made_up, relative
from torch import Tensor

from benchbed.data.dataset import Graph, Ragged
from benchbed.data.histories import Histories
from benchbed.models.convncf import REGULAR, ConvNCF
from benchbed.models.fold_in import FoldIn
from benchbed.models.mkr import MKR
from benchbed.models.mkr_data import PairBatch, TripleBatch
from benchbed.models.pairwise import Triples

Arrays = dict[str, Tensor]


def group(dump: Dump, name: str) -> Arrays:
    """The arrays of a group (``inner:weight``, ``tower:gradient:bpr``, ...) under RecBole's names."""
    keys = [key for key in dump if key.startswith(f"{name}:")]
    return {key.removeprefix(f"{name}:"): torch.as_tensor(dump[key]) for key in keys}


def compare(
    form: str,
    dump: Dump,
    model: FoldIn,
    batches: Mapping[str, Any],
    renamed: Callable[[Arrays, FoldIn], Arrays],
    title: str,
    objective: Callable[[Any], Tensor] | None = None,
    adrift: frozenset[str] = frozenset(),
) -> list[Row]:
    """A row for each loss of a form.

    ``objective`` is what is minimised, if it is not the loss that is shown; ``adrift`` names weights whose gradient is 0 but
    for rounding: Adam makes whole steps of that, and where they end means nothing.
    """
    weights = renamed(group(dump, f"{form}:weight"), model)
    shapes = {name: value.shape for name, value in model.named_parameters()}
    assert {name: value.shape for name, value in weights.items()} == shapes, weights.keys() ^ shapes.keys()
    scores = torch.as_tensor(dump[f"{form}:scores"])
    everyone = Histories.of(np.arange(len(scores)), Ragged.of([[]] * len(scores)))
    model.eval()  # no dropout
    model.fold_in_steps = 0
    single, double = (_scores_off(model.to(kind), weights, everyone, scores) for kind in (torch.float32, torch.float64))
    found = []
    for loss, batch in batches.items():
        model.load_state_dict(weights, strict=False)
        model.zero_grad()
        value = (objective or model.loss)(batch)
        value.backward()
        want = float(dump[f"{form}:loss:{loss}"])
        gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
        theirs = group(dump, f"{form}:gradient:{loss}")
        untouched = {n: torch.zeros_like(v) for n, v in group(dump, f"{form}:weight").items() if n not in theirs}
        off = relative(gradients, renamed(theirs | untouched, model))
        sides = (_stepped(model, batch), renamed(group(dump, f"{form}:after:{loss}"), model))
        trained = furthest(*({name: value for name, value in side.items() if name not in adrift} for side in sides))
        found.append(Row(title, loss, double, single, abs(value.item() - want) / abs(want), off, trained))
    return found


def _scores_off(model: FoldIn, weights: Arrays, everyone: Histories, scores: Tensor) -> float:
    model.load_state_dict(weights, strict=False)
    with torch.inference_mode():
        return float((model.scores(everyone)[:, 1:] - scores).abs().max())


def _stepped(model: FoldIn, batch: Any) -> Arrays:
    """All weights after three steps of the model's own optimisers."""
    optimizers = model.optimizers()
    for _ in range(3):
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        model.loss(batch).backward()
        model.after_backward()
        for optimizer in optimizers:
            optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


# ----- MKR ----------------------------------------------------------------------------------------------------------------

_LAYERS = {
    "user_mlp": "user_layers",
    "tail_mlp": "graph_layers",
    "kge_mlp": "triple_layers",
    "kge_pred_mlp": "triple_layers",
    "rs_mlp": "pair_layers",
    "rs_pred_mlp": "pair_layers",
}
"""RecBole's networks under our names; one that ends in ``pred_mlp`` has the last layer of ours."""


def mkr_names(theirs: Arrays, model: FoldIn) -> Arrays:
    """Under our names; without padding of users and relations, and without the relation that stands for interactions."""
    assert isinstance(model, MKR)
    n, found = model.items.n_items, {}
    for name, value in theirs.items():
        first, *rest = name.split(".")
        if first == "user_embeddings_lookup":
            found["users"] = value[1:]
        elif first == "relation_embeddings_lookup":
            found["relations"] = value[1:-1]
        elif first in ("item_embeddings_lookup", "entity_embeddings_lookup"):
            table = "items" if first.startswith("item") else "entities"
            found[f"{table}.items"], found[f"{table}.others"] = value[: n + 1], value[n + 1 :]
        elif first == "cc_unit":
            unit, of, kind = rest
            key = f"units.{unit.removeprefix('cc_unit')}.{'weights' if kind == 'weight' else 'biases'}.{of.removeprefix('fc_')}"
            found[key] = value[0]
        else:
            last = len(model.get_submodule(_LAYERS[first]).weights) - 1
            place = last if first.endswith("pred_mlp") else (int(rest[1]) - 1) // 3
            found[f"{_LAYERS[first]}.{'weights' if rest[2] == 'weight' else 'biases'}.{place}"] = value
    return found


def mkr(dump: Dump) -> list[Row]:
    """Both losses of both outputs."""
    said = json.loads(str(dump["settings"]))
    common, n_users, n_items = said["common"], *dump["inner:scores"].shape
    n_entities, n_relations = int(dump["n_entities"]), int(dump["n_relations"]) - 1
    heads, relations, tails = (dump[f"batch:{column}_id"] for column in ("head", "relation", "tail"))
    # Behind the batch a triple for every entity and relation: what no triple names has no row here.
    every = np.arange(max(n_entities, n_relations))
    graph = Graph(
        heads=np.concatenate([heads, np.ones(len(every), np.int64)]),
        relations=np.concatenate([relations, every % n_relations + 1]),
        tails=np.concatenate([tails, every % n_entities + 1]),
        n_entities=n_entities,
        n_relations=n_relations,
        item_entity=np.arange(n_items + 1),
    )
    labels = torch.as_tensor(dump["batch:label"])
    users, items = torch.as_tensor(dump["batch:user_id"]) - 1, torch.as_tensor(dump["batch:item_id"])
    batches = {"rs": PairBatch(users, items, labels, len(labels)), "kg": TripleBatch(torch.arange(len(heads)))}
    found = []
    for form, settings in said["forms"].items():
        values = {
            "variant": "recbole",
            "embedding_size": common["embedding_size"],
            "low_layers": settings["low_layers_num"],
            "high_layers": settings["high_layers_num"],
            "output": "inner_product" if settings["use_inner_product"] else "mlp_sigmoid",
            "l2": common["reg_weight"],
            "learning_rate": common["learning_rate"],
            "dropout": common["dropout_prob"],
        }
        model = MKR(MKR.Config.model_validate(values), made_up(n_items, [[1]] * n_users, graph=graph))
        found += compare(form, dump, model, batches, mkr_names, f"RecBole MKR, {values['output'].replace('_', ' ')}")
    return found


# ----- ConvNCF ------------------------------------------------------------------------------------------------------------


def convncf_names(theirs: Arrays, model: FoldIn) -> Arrays:
    """Under our names; without padding of users."""
    found = {}
    for name, value in theirs.items():
        first, *rest = name.split(".")
        if first == "cnn_layers":  # a ReLU stands between two
            found[f"tower.{'weights' if rest[2] == 'weight' else 'biases'}.{int(rest[1]) // 2}"] = value
        elif first == "predict_layers":
            found[f"head.{rest[2]}"] = value
        else:
            found[name] = value[1:] if first == "user_embedding" else value
    return found


def convncf(dump: Dump) -> list[Row]:
    """The pairwise loss with its penalties."""
    said = json.loads(str(dump["settings"]))
    common, settings = said["common"], said["forms"]["tower"]
    n_users, n_items = dump["tower:scores"].shape
    values = {
        "variant": "recbole",
        "embedding_size": common["embedding_size"],
        "geometry": settings["cnn_kernels"],
        "channels": settings["cnn_channels"][1:],
        "lambda1": settings["reg_weights"][0],
        "lambda3": settings["reg_weights"][1],
        "learning_rate": common["learning_rate"],
        "dropout": common["dropout_prob"],
    }
    model = ConvNCF(ConvNCF.Config.model_validate(values), made_up(n_items, [[1]] * n_users))
    users, positives, negatives = (torch.as_tensor(dump[f"batch:{column}"]) for column in ("user_id", "item_id", "neg_item_id"))
    batch = Triples(users - 1, positives, negatives[:, None], REGULAR)
    adrift = frozenset({"head.bias"})  # it cancels in a difference of scores
    return compare("tower", dump, model, {"bpr": batch}, convncf_names, "RecBole ConvNCF", model.objective, adrift)
