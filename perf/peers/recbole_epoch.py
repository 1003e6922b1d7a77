"""Time training epochs of one RecBole model on MovieLens-100K through its public classes, in RecBole's own environment.

usage: recbole_epoch.py MODEL EPOCHS THREADS   -> one JSON line last: {"targets": ..., "epochs": [seconds, ...]}
"""

import json
import os
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

SETTINGS = {
    "GRU4Rec": {
        "embedding_size": 64,
        "hidden_size": 128,
        "num_layers": 1,
        "dropout_prob": 0.3,
        "loss_type": "CE",
        "train_neg_sample_args": None,
    }
}
config = Config(
    model=name,
    dataset="ml-100k",
    config_dict=SETTINGS[name]
    | {
        "train_batch_size": 2048,
        "learner": "adam",
        "learning_rate": 1e-3,
        "MAX_ITEM_LIST_LENGTH": 50,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
        "show_progress": False,
        "seed": 2020,
    },
)
init_seed(config["seed"], config["reproducibility"])
train, valid, _ = data_preparation(config, create_dataset(config))
model = get_model(name)(config, train.dataset).to(config["device"])
trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
seconds = []
for epoch in range(epochs):
    started = time.perf_counter()
    trainer._train_epoch(train, epoch)  # the loop that fit() calls, without its logging
    seconds.append(time.perf_counter() - started)
print(json.dumps({"targets": len(train.dataset), "epochs": seconds}))
