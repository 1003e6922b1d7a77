"""Time one RecBole model on MovieLens-100K through its public classes, in RecBole's own environment.

usage: recbole_epoch.py MODEL EPOCHS THREADS

Prints one JSON line last: `targets` of an epoch, `epochs` and `cpu` (seconds of each, wall and CPU), `ranking` (seconds of each
of three full rankings of all validation users, metrics included) and `peak_mb` (of the whole process).
"""

import json
import os
import resource
import sys
import time

name, epochs, threads = sys.argv[1], int(sys.argv[2]), sys.argv[3]
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
config = Config(
    model=name,
    dataset="ml-100k",
    config_dict=SETTINGS[name]
    | {
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
    },
)
init_seed(config["seed"], config["reproducibility"])
train, valid, _ = data_preparation(config, create_dataset(config))
model = get_model(name)(config, train.dataset).to(config["device"])
trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
seconds, cpu, ranking = [], [], []
for epoch in range(epochs):
    started, used = time.perf_counter(), time.process_time()
    trainer._train_epoch(train, epoch)  # the loop that fit() calls, without its logging
    seconds.append(time.perf_counter() - started)
    cpu.append(time.process_time() - used)
for _ in range(3):
    started = time.perf_counter()
    trainer.evaluate(valid, load_best_model=False)
    ranking.append(time.perf_counter() - started)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"targets": len(train.dataset), "epochs": seconds, "cpu": cpu, "ranking": ranking, "peak_mb": round(peak)}))
