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


def against_recbole(model: str, split: Path, peer: str, pairs: int) -> dict[str, Any]:
    """RecBole and ours in turn: training, full ranking and memory."""
    mine, peers = [], []
    with tempfile.TemporaryDirectory() as folder:
        write_atomic(load(split), Path(folder))
        for _ in range(pairs):
            peers.append(theirs(peer, PEERS[model], 3 if model == "mkr" else 2, Path(folder)))
            mine.append(ours(model, split, 4, script="own_pairs.py", **SETTINGS[model]))
            print(f"  epoch: ours {epoch_of(mine[-1]):.2f} s, RecBole {epoch_of(peers[-1]):.2f} s", flush=True)
    counts = [{key: each[key] for key in ("targets", "triples", "users", "items")} for each in (*mine, *peers)]
    epochs = [statistics.median(map(epoch_of, side)) for side in (mine, peers)]
    rankings = [middle(each["ranking"] for each in side) for side in (mine, peers)]
    rankings_cpu = [middle(each["ranking_cpu"] for each in side) for side in (mine, peers)]
    peaks = [max(each["peak_mb"] for each in side) for side in (mine, peers)]
    cpu = [cpu_of(side) for side in (mine, peers)]
    found = {
        **counts[0],
        "same_work": all(each == counts[0] for each in counts),
        "ours": round(epochs[0], 3),
        "peer": round(epochs[1], 3),
        "ratio": round(epochs[1] / epochs[0], 1),
        "cpu_ours": round(cpu[0], 3),
        "cpu_peer": round(cpu[1], 3),
        "ratio_of_cpu": round(cpu[1] / cpu[0], 1),
        "targets_per_cpu_second_ours": round(counts[0]["targets"] / cpu[0]),
        "targets_per_cpu_second_peer": round(counts[-1]["targets"] / cpu[1]),
        "ranking_ours": round(rankings[0], 4),
        "ranking_peer": round(rankings[1], 4),
        "ranking_ratio": round(rankings[1] / rankings[0], 1),
        "ranking_ratio_of_cpu": round(rankings_cpu[1] / rankings_cpu[0], 1),
        "peak_mb_ours": peaks[0],
        "peak_mb_peer": peaks[1],
    }
    folded = ("fold_in", "fold_in_users", "fold_in_events", "fold_in_steps", "peak_mb_with_fold_in")
    found |= {key: mine[-1][key] for key in folded}
    claim = CLAIMS.get(model)
    if claim:
        found["claim"], found["ranking_claim"] = claim["epoch"], claim["ranking"]
        fast = found["ratio_of_cpu"] >= claim["epoch"] and found["ranking_ratio_of_cpu"] >= claim["ranking"]
        found["holds"] = fast and found["same_work"] and peaks[0] <= peaks[1]
    return found
