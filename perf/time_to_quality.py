"""Claim: the validation ndcg@10 that RecBole's GRU4Rec has after 20 epochs is reached in a tenth of its time.

MovieLens-100K, leave-one-out, one thread, fp32, embedding 64, hidden 128. RecBole's curve was recorded once: it trained on
exactly our training events and its scores after every epoch were ranked by our evaluator, on our validation cases, seen items
kept. Timed is wall time: ours with its validations, RecBole's training alone.

    python perf/time_to_quality.py                            against the recorded curve (its CPU seconds; it ran on one thread)
    python perf/time_to_quality.py --peer-python PYTHON       its epoch timed now, in this run, in place of the recorded one
    python perf/time_to_quality.py --record PYTHON            train RecBole's model for 20 epochs and record its curve anew

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from train_speed import DATA, HERE, THREADS, epoch_of, last_line, ours, split_folder

CURVE = HERE / "peers" / "recbole_gru4rec_curve.json"
EPOCHS = 20
LONGEST = 60
"""Epochs that ours may take."""


def load(folder: Path) -> tuple[Any, Any, list[str]]:
    """Training data and protocol, and the raw ids of the validation users."""
    import pyarrow.parquet as pq

    from benchbed.data.load import load_training_data
    from benchbed.evaluation.protocol import Protocol

    protocol = Protocol(metrics=("hit_rate", "ndcg"), cutoffs=(10,), select_by="ndcg@10", seen_items="keep")
    data = load_training_data(folder, protocol)
    users = pq.read_table(folder.parent.parent / "users.parquet", columns=["index", "id"]).to_pydict()
    ids = dict(zip(users["index"], users["id"], strict=True))
    return data, protocol, [ids[user] for user in data.valid.users]


def write_log(data: Any, users: list[str], folder: Path) -> None:
    """Training events and validation targets as RecBole's atomic file; the position in the history stands for the time."""
    folder.mkdir(parents=True)
    lines = ["user_id:token\titem_id:token\ttimestamp:float"]
    for case, user in enumerate(users):
        events = [*data.valid.histories[case], *data.valid.targets[case]]
        lines += [f"{user}\t{data.item_ids[item] or 'unknown'}\t{place}" for place, item in enumerate(events, 1)]
    (folder / f"{folder.name}.inter").write_text("\n".join(lines) + "\n")


class Recorded:
    """Scores that a peer kept, as a model."""

    name = "recbole"

    def __init__(self, scores: np.ndarray, columns: list[int], rows: dict[int, int]) -> None:
        self.table, self.columns, self.rows = scores, columns, rows

    def scores(self, histories: Any, items: Any = None) -> Any:
        import torch

        made = self.table[[self.rows[int(user)] for user in histories.users]][:, self.columns]
        return torch.as_tensor(np.concatenate([np.zeros((len(made), 1), made.dtype), made], axis=1))


def score_curve(kept: Path, data: Any, protocol: Any, users: list[str]) -> dict[str, Any]:
    """Rank a peer's recorded scores with our evaluator."""
    from benchbed.evaluation.ranking import Evaluator

    found = np.load(kept)
    column = {str(item): place for place, item in enumerate(found["items"])}
    place = {str(user): row for row, user in enumerate(found["users"])}
    rows = {int(user): place[name] for user, name in zip(data.valid.users, users, strict=True)}
    columns = [column[item] for item in data.item_ids[1:]]
    evaluator = Evaluator(data.valid, data.n_items, protocol)
    values = [evaluator.evaluate(Recorded(scores, columns, rows)) for scores in found["scores"]]
    return {
        "what": "RecBole 1.2.1 GRU4Rec on ml-100k leave-one-out, our split and evaluator, seen items kept, 1 thread",
        "cases": len(users),
        "ndcg@10": [round(value["ndcg@10"], 6) for value in values],
        "hit_rate@10": [round(value["hit_rate@10"], 6) for value in values],
        "wall_seconds": [round(float(s), 2) for s in found["wall"]],
        "cpu_seconds": [round(float(s), 2) for s in found["cpu"]],
    }


def record(python: str | None, kept: Path | None, folder: Path) -> None:
    """Let RecBole train where its scores are not given, and write the curve."""
    data, protocol, users = load(folder)
    with tempfile.TemporaryDirectory() as scratch:
        if kept is None:
            assert python is not None
            kept = Path(scratch) / "curve.npz"
            write_log(data, users, Path(scratch) / "ml-100k-ours")
            script = str((HERE / "peers" / "recbole_curve.py").resolve())
            arguments = ["GRU4Rec", scratch, "ml-100k-ours", str(EPOCHS), THREADS, str(kept)]
            subprocess.run([python, script, *arguments], check=True, cwd=scratch)
        curve = score_curve(kept, data, protocol, users)
    CURVE.write_text(json.dumps(curve, indent=1) + "\n")
    print(f"{CURVE}: ndcg@10 {curve['ndcg@10'][-1]:.4f} after {len(curve['ndcg@10'])} epochs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="time RecBole's epoch now with this python")
    parser.add_argument("--record", metavar="PYTHON", help="train RecBole's model with this python and record its curve")
    parser.add_argument("--kept", type=Path, metavar="NPZ", help="record from scores that recbole_curve.py wrote before")
    parser.add_argument("--raw", type=Path, default=DATA, help="folder with u.data, u.item and u.user")
    arguments = parser.parse_args()
    folder = split_folder(arguments.raw)
    if arguments.record or arguments.kept:
        record(arguments.record, arguments.kept, folder)
    curve = json.loads(CURVE.read_text())
    epoch, source = statistics.median(curve["cpu_seconds"]), "recorded CPU seconds"
    if arguments.peer_python:
        script = str((HERE / "peers" / "recbole_epoch.py").resolve())
        epoch = epoch_of(last_line([arguments.peer_python, script, "GRU4Rec", "2", THREADS]))
        source = "timed in this run"
    goal, theirs = curve["ndcg@10"][EPOCHS - 1], EPOCHS * epoch
    measured = ours("gru4rec", folder, LONGEST)
    reached = next((number for number, value in enumerate(measured["values"], 1) if value >= goal), None)
    spent = sum(measured["whole"][:reached]) if reached else None
    made = {
        "what": f"seconds to RecBole's validation ndcg@10 after {EPOCHS} epochs, ml-100k leave-one-out, 1 thread",
        "goal": goal,
        "ours_epochs": reached,
        "ours": round(spent, 2) if spent else None,
        "peer": round(theirs, 1),
        "peer_epoch": source,
        "ratio": round(theirs / spent, 1) if spent else None,
        "claim": 10,
        "holds": bool(spent and theirs / spent >= 10),
    }
    print(json.dumps(made))


if __name__ == "__main__":
    main()
