"""The same training pairs for both: a split of ours as RecBole's atomic files, and the two timed in turn."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from measured import cpu_of, epoch_of, middle, ours, theirs

from benchbed.data.dataset import TrainingData
from benchbed.data.load import load_training_data
from benchbed.evaluation.protocol import Protocol

PROTOCOL = Protocol(
    metrics=("hit_rate", "ndcg"), cutoffs=(10,), select_by="ndcg@10", seen_items="exclude", unknown_targets="drop"
)
"""Seen items are no candidates, as in RecBole for models of pairs; a target that nobody trained on can be ranked by neither."""

PEERS = {"mkr": "MKR", "convncf": "ConvNCF", "mf_bpr": "BPR"}
SETTINGS: dict[str, dict[str, Any]] = {
    "convncf": {"variant": "recbole"},
    "mf_bpr": {"batch_size": 2048},
    "mkr": {"variant": "recbole", "embedding_size": 64, "batch_size": 2048, "learning_rate": 1e-3, "kge_interval": 1},
}
CLAIMS = {"mkr": {"epoch": 5, "ranking": 300}, "convncf": {"epoch": 3, "ranking": 3}}


def load(folder: Path) -> TrainingData:
    """Training pairs and validation cases of a split."""
    return load_training_data(folder, PROTOCOL)


def write_atomic(data: TrainingData, folder: Path) -> None:
    """Training and validation pairs and the graph as FOLDER/pairs/pairs.*; items are named by their model indices.

    RecBole wants a third part, for testing, which nothing here reads: validation once more.
    """
    into = folder / "pairs"
    into.mkdir()
    rows = data.train.items
    train = zip(data.train.users[rows.row_of_value].tolist(), rows.values.tolist(), strict=True)
    valid = list(
        zip(data.valid.users[data.valid.targets.row_of_value].tolist(), data.valid.targets.values.tolist(), strict=True)
    )
    for part, pairs in (("train", train), ("valid", valid), ("test", valid)):
        lines = ["user_id:token\titem_id:token", *(f"{user}\t{item}" for user, item in pairs)]
        (into / f"pairs.{part}.inter").write_text("\n".join(lines) + "\n")
    if data.graph is None:
        return
    columns = (data.graph.heads.tolist(), data.graph.relations.tolist(), data.graph.tails.tolist())
    triples = [f"{head}\t{relation}\t{tail}" for head, relation, tail in zip(*columns, strict=True)]
    links = [f"{item}\t{entity}" for item, entity in enumerate(data.graph.item_entity.tolist()) if item and entity]
    (into / "pairs.kg").write_text("\n".join(["head_id:token\trelation_id:token\ttail_id:token", *triples]) + "\n")
    (into / "pairs.link").write_text("\n".join(["item_id:token\tentity_id:token", *links]) + "\n")


def against_recbole(model: str, split: Path, peer: str | None, pairs: int) -> dict[str, Any]:
    """RecBole and ours in turn: training, full ranking, memory. Without its python ours alone, and nothing is claimed."""
    mine: list[dict[str, Any]] = []
    peers: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        write_atomic(load(split), Path(folder))
        for _ in range(pairs):
            if peer:
                peers.append(theirs(peer, PEERS[model], 2 if model == "convncf" else 3, Path(folder)))
                print(f"  RecBole: {cpu_of(peers[-1:]):.2f} CPU seconds an epoch", flush=True)
            mine.append(ours(model, split, 4, script="own_pairs.py", **SETTINGS[model]))
            print(f"  ours: {cpu_of(mine[-1:]):.2f} CPU seconds an epoch", flush=True)
    work = [{key: each[key] for key in ("targets", "triples", "users", "items")} for each in (*mine, *peers)]
    folded = ("fold_in", "fold_in_users", "fold_in_events", "fold_in_steps", "peak_mb_with_fold_in")
    found = work[0] | _side("ours", mine) | {key: mine[-1][key] for key in folded}
    if "coarse_cpu" in mine[-1]:
        found["ranking_bf16"] = round(middle(each["coarse_cpu"] for each in mine), 4)
        found["bf16_users_changed"] = max(each["coarse_changed"] for each in mine)
    if not peers:
        return found
    found |= _side("peer", peers) | {"same_work": all(each == work[0] for each in work)}
    for what in ("", "wall_", "ranking_", "ranking_wall_"):
        found[f"{what}ratio"] = round(found[f"{what}peer"] / found[f"{what}ours"], 1)
    claim = CLAIMS.get(model)
    if claim:
        found |= {"claim": claim["epoch"], "ranking_claim": claim["ranking"]}
        fast = found["ratio"] >= claim["epoch"] and found["ranking_ratio"] >= claim["ranking"]
        found["holds"] = fast and found["same_work"] and found["peak_mb_ours"] <= found["peak_mb_peer"]
    return found


def _side(whose: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of one side's runs: CPU seconds, and beside them wall time, which other work stretches unevenly."""
    cpu = cpu_of(runs)
    return {
        whose: round(cpu, 3),
        f"wall_{whose}": round(statistics.median(map(epoch_of, runs)), 3),
        f"targets_per_second_{whose}": round(runs[0]["targets"] / cpu),
        f"ranking_{whose}": round(middle(each["ranking_cpu"] for each in runs), 4),
        f"ranking_wall_{whose}": round(middle(each["ranking"] for each in runs), 4),
        f"peak_mb_{whose}": max(each["peak_mb"] for each in runs),
    }
