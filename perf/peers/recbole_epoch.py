"""Time one RecBole model on MovieLens-100K through its public classes, in RecBole's own environment.

usage: recbole_epoch.py MODEL EPOCHS THREADS [FOLDER]

Sequence models train on RecBole's own copy of the data. Those of user and item pairs (MKR, ConvNCF, BPR) train on the pairs in
FOLDER/pairs/: atomic files of training and validation, and for MKR the graph, whose part follows every epoch.

Prints one JSON line last: `targets` of an epoch (and `triples`), `users` and `items` that are ranked, `epochs` and `cpu`
(seconds of each, wall and CPU), `ranking` and `ranking_cpu` (of each full ranking of all validation users, metrics included:
three, or one of pairs, which takes long) and `peak_mb` (of the whole process).
"""

import json
import os
import resource
import sys
import time

name, epochs, threads, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], (*sys.argv[4:], None)[0]
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = threads
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
sys.argv = sys.argv[:1]  # RecBole reads the command line by itself

import torch  # noqa: E402  # threads are set before the first import

torch.set_num_threads(int(threads))
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402

GRU = {
    "embedding_size": 64,
    "hidden_size": 128,
    "num_layers": 1,
    "dropout_prob": 0.3,
    "loss_type": "CE",
    "train_neg_sample_args": None,
}
SETTINGS = {
    "GRU4Rec": GRU,
    "GRU4RecF": GRU
    | {
        "selected_features": ["class"],
        "pooling_mode": "sum",
        "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]},
    },
}
PAIRS = {
    "data_path": folder,
    "benchmark_filename": ["train", "valid", "test"],
    "embedding_size": 64,
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0},
    "load_col": {"inter": ["user_id", "item_id"]},
}
SETTINGS |= {
    "BPR": PAIRS,
    "ConvNCF": PAIRS
    | {
        "cnn_channels": [1, 32, 32, 32, 32],
        "cnn_kernels": [4, 4, 2, 2],
        "cnn_strides": [4, 4, 2, 2],
        "dropout_prob": 0.2,
        "reg_weights": [0.1, 0.1],
        "train_method": "no_pretrain",
    },
    "MKR": PAIRS
    | {
        "low_layers_num": 1,
        "high_layers_num": 1,
        "reg_weight": 1e-6,
        "use_inner_product": True,
        "kge_interval": 1,
        "dropout_prob": 0.0,
        "load_col": {
            "inter": ["user_id", "item_id"],
            "kg": ["head_id", "relation_id", "tail_id"],
            "link": ["item_id", "entity_id"],
        },
    },
}
config = Config(
    model=name,
    dataset="pairs" if folder else "ml-100k",
    config_dict={
        "train_batch_size": 2048,
        "eval_batch_size": 4096,
        "learner": "adam",
        "learning_rate": 1e-3,
        "MAX_ITEM_LIST_LENGTH": 50,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
        "metrics": ["Hit", "NDCG"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "show_progress": False,
        "seed": 2020,
    }
    | SETTINGS[name],
)
init_seed(config["seed"], config["reproducibility"])
train, valid, _ = data_preparation(config, create_dataset(config))
model = get_model(name)(config, train._dataset).to(config["device"])
trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
seconds, cpu, ranking, ranking_cpu = [], [], [], []
for epoch in range(epochs):
    started, used = time.perf_counter(), time.process_time()
    trainer._train_epoch(train, epoch)  # the loop that fit() calls, without its logging
    seconds.append(time.perf_counter() - started)
    cpu.append(time.process_time() - used)
for _ in range(1 if folder else 3):
    started, used = time.perf_counter(), time.process_time()
    trainer.evaluate(valid, load_best_model=False)
    ranking.append(time.perf_counter() - started)
    ranking_cpu.append(time.process_time() - used)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
made = {
    "targets": len(train._dataset),
    "triples": len(train._dataset.kg_feat) if name == "MKR" else 0,
    "users": len(valid._dataset),
    "items": train._dataset.item_num - 1,
    "epochs": seconds,
    "cpu": cpu,
    "ranking": ranking,
    "ranking_cpu": ranking_cpu,
    "peak_mb": round(peak),
}
print(json.dumps(made))
