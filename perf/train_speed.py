"""Claims: an epoch takes at most 1/25 of RecBole's (GRU4Rec, GRU4RecF), ranking is not slower, memory not above; the fast form
learns no worse than the prefix form; ComiRec-SA's one-pass form trains on 10 times the targets per second of its random cuts.
MKR: an epoch at most 1/5 and a full ranking at most 1/300 of RecBole's, ConvNCF: 1/3 and 1/3, memory not above.

MovieLens-100K, leave-one-out, every training target once an epoch, one thread, fp32, embedding 64, hidden 128. Every measured
run is a process of its own.

    python perf/train_speed.py gru4rec --peer-python .perf-peer/bin/python     the peer and ours in turn
    python perf/train_speed.py gru4recf --quality 20                           validation after equal epochs, against prefixes
    python perf/train_speed.py comirec_sa                                      every_prefix and random_cut in turn
    python perf/train_speed.py mkr --peer-python .perf-peer/bin/python         the same pairs (and graph) for both, in turn

The last line is JSON. For mkr, convncf and mf_bpr both train on our training pairs, each with a negative drawn anew, in batches
of 2,048 rows (MKR) or triples; MKR on the items that are linked to the graph, and on all its triples after every epoch. Both
rank all items but those of the history for every validation user, ours by the trained rows. What our protocol adds to ranking,
the fold-in of histories, is timed for some users and told beside. Ratios that decide are of CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pair_speed
from measured import HERE, THREADS, cpu_of, epoch_of, middle, ours, theirs

DATA = HERE.parents[1] / "shared" / "data" / "ml-100k"
PEERS = {"gru4rec": "GRU4Rec", "gru4recf": "GRU4RecF"}
CLAIMS = {"gru4rec": 25, "gru4recf": 25, "comirec_sa": 10}


def split_folder(raw: Path, *, linked: bool = False) -> Path:
    """The leave-one-out split of MovieLens-100K, made in a new workspace; ``linked``: of items in the graph alone."""
    from benchbed.data.card import load_card
    from benchbed.data.prepare import prepare
    from benchbed.data.split.make import split_dataset
    from benchbed.data.split.spec import SplitSpec
    from benchbed.workspace import Workspace

    workspace = Workspace.open(tempfile.mkdtemp(prefix="benchbed-perf-"))
    card = load_card("ml-100k-recbole" if linked else "ml-100k")
    if linked:
        card = card.model_copy(update={"clean": card.clean.model_copy(update={"linked_items": True})})
    return split_dataset(prepare(card, workspace, raw), SplitSpec(kind="leave_one_out"), 42).folder


def against_peer(model: str, folder: Path, peer: str, pairs: int) -> dict[str, Any]:
    """The peer and ours in turn."""
    ratios, mine, peers = [], [], []  # CPU seconds beside: a machine with other work stretches walls unevenly
    for _ in range(pairs):
        peers.append(theirs(peer, PEERS[model], 2))
        mine.append(ours(model, folder, 4))
        ratios.append(epoch_of(peers[-1]) / epoch_of(mine[-1]))
        print(f"  ours {epoch_of(mine[-1]):.2f} s, RecBole {epoch_of(peers[-1]):.2f} s, {ratios[-1]:.1f}x", flush=True)
    rankings = [middle(each["ranking"] for each in side) for side in (mine, peers)]
    targets = {each["targets"] for each in (*mine, *peers)}
    peaks = [max(each["peak_mb"] for each in side) for side in (mine, peers)]
    ratio = statistics.median(ratios)
    return {
        "targets": sorted(targets),
        "ours": round(statistics.median(map(epoch_of, mine)), 3),
        "peer": round(statistics.median(map(epoch_of, peers)), 3),
        "ratio": round(ratio, 1),
        "ratio_of_cpu": round(cpu_of(peers) / cpu_of(mine), 1),
        "claim": CLAIMS[model],
        "ranking_ours": round(rankings[0], 4),
        "ranking_peer": round(rankings[1], 4),
        "peak_mb_ours": peaks[0],
        "peak_mb_peer": peaks[1],
        "holds": ratio >= CLAIMS[model] and len(targets) == 1 and rankings[0] <= rankings[1] and peaks[0] <= peaks[1],
    }


def quality(model: str, folder: Path, epochs: int, seeds: list[int]) -> dict[str, Any]:
    """Paired difference of validation ndcg@10 after equal epochs, users and seeds both counted as noise."""
    import torch

    from benchbed.data.load import load_training_data
    from benchbed.evaluation.metrics import metric_values
    from benchbed.evaluation.protocol import Protocol
    from benchbed.evaluation.ranking import Evaluator
    from benchbed.evaluation.significance import Row, Sample, compare
    from benchbed.training.fit import Fit, FitSpec

    torch.set_num_threads(int(THREADS))
    protocol = Protocol(metrics=("hit_rate", "ndcg"), cutoffs=(10,), select_by="ndcg@10", seen_items="keep")
    data = load_training_data(folder, protocol)
    evaluator = Evaluator(data.valid, data.n_items, protocol)
    rows = []
    for form in ("windows", "prefixes"):
        values = []
        for seed in seeds:
            spec = FitSpec(model, {"batching": form}, seed, epochs, None, None, protocol.model_dump(mode="json"))
            with tempfile.TemporaryDirectory() as scratch:
                fit = Fit(spec, data, folder=Path(scratch))
                while fit.finished is None:
                    fit.step()
                fit.model.eval()
                values.append(metric_values(evaluator.rank(fit.model).ranks, ["ndcg@10"])["ndcg@10"])
            print(f"  {form}, seed {seed}: ndcg@10 {values[-1].mean():.4f} after {epochs} epochs", flush=True)
        rows.append(Row(form, {0: Sample(data.valid.users, np.stack(values))}))
    pair = compare(rows).pairs[0]
    users_only = bool(np.isnan(pair.seed_part))
    error = pair.user_part**0.5 if users_only else pair.standard_error
    return {
        "quality_epochs": epochs,
        "seeds": seeds,
        "windows_ndcg@10": round(rows[0].mean, 4),
        "prefixes_ndcg@10": round(rows[1].mean, 4),
        "difference": round(pair.difference, 4),
        "standard_error": round(error, 4),
        "error_counts": "users" if users_only else "users and seeds",
        "not_below": bool(pair.difference >= -2 * error),
    }


def comirec(folder: Path, pairs: int) -> dict[str, Any]:
    """Targets per second of the one-pass form and of the authors' random cuts, in turn; the former at both batch sizes."""
    forms: dict[str, dict[str, Any]] = {
        "every_prefix": {"batching": "every_prefix", "window": 50},
        "every_prefix of 128": {"batching": "every_prefix", "window": 50, "batch_size": 128},
        "random_cut": {"batching": "random_cut", "window": 50},
    }
    found: dict[str, list[dict[str, Any]]] = {form: [] for form in forms}
    for _ in range(pairs):
        for form, runs in found.items():
            runs.append(ours("comirec_sa", folder, 3, n_negatives=512, **forms[form]))
            print(f"  {form}: {epoch_of(runs[-1]):.2f} s an epoch of {runs[-1]['targets']} targets", flush=True)
    rate = {form: statistics.median(each["targets"] / epoch_of(each) for each in runs) for form, runs in found.items()}
    ratio = rate["every_prefix"] / rate["random_cut"]
    return {
        "window": 50,
        "negatives": 512,
        "batch_of_ours": 1024,
        "batch_of_random_cut": 128,
        "ratio_at_equal_batch": round(rate["every_prefix of 128"] / rate["random_cut"], 1),
        "ours": round(rate["every_prefix"]),
        "peer": round(rate["random_cut"]),
        "ratio": round(ratio, 1),
        "claim": CLAIMS["comirec_sa"],
        "holds": ratio >= CLAIMS["comirec_sa"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=[*CLAIMS, *pair_speed.PEERS])
    parser.add_argument("--peer-python", help="python of an environment made from perf/peers/recbole.txt")
    parser.add_argument("--pairs", type=int, default=3, help="how often the two are timed in turn")
    parser.add_argument("--quality", type=int, default=0, metavar="EPOCHS", help="compare with the prefix form after so many")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--raw", type=Path, default=DATA, help="folder with u.data, u.item and u.user, for mkr RecBole's files")
    arguments = parser.parse_args()
    if arguments.model in PEERS and not arguments.peer_python and not arguments.quality:
        parser.error("give --peer-python, --quality, or both")
    of_pairs = arguments.model in pair_speed.PEERS
    if of_pairs and arguments.quality:
        parser.error(f"--quality compares with the prefix form, which {arguments.model} does not have")
    folder = split_folder(arguments.raw, linked=arguments.model == "mkr")
    if of_pairs:
        made = {"what": f"{arguments.model} training epoch, ml-100k leave-one-out, 1 thread, fp32 (CPU seconds)"}
        made |= pair_speed.against_recbole(arguments.model, folder, arguments.peer_python, arguments.pairs)
    elif arguments.model == "comirec_sa":
        made = {"what": "comirec_sa targets per second, every_prefix against random_cut, ml-100k leave-one-out, 1 thread, fp32"}
        made |= comirec(folder, arguments.pairs)
    else:
        made = {"what": f"{arguments.model} training epoch, ml-100k leave-one-out, 1 thread, fp32 (seconds)"}
        if arguments.peer_python:
            made |= against_peer(arguments.model, folder, arguments.peer_python, arguments.pairs)
        if arguments.quality:
            made |= quality(arguments.model, folder, arguments.quality, arguments.seeds)
    print(json.dumps(made))


if __name__ == "__main__":
    main()
