"""Train one RecBole model on a given log and keep its validation scores after every epoch, in RecBole's own environment.

usage: recbole_curve.py MODEL FOLDER NAME EPOCHS THREADS OUT.npz

FOLDER/NAME/NAME.inter holds user_id, item_id and a timestamp that no two events of a user share; the last event of each user
is its validation target. OUT holds `users`, `items` (raw ids), `scores` (epoch, user, item; float32), `wall` and `cpu`
(seconds of training of every epoch).
"""

import os
import sys
import time

name, folder, dataset, epochs, threads, out = sys.argv[1:7]
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = threads
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
sys.argv = sys.argv[:1]  # RecBole reads the command line by itself

import numpy as np  # noqa: E402  # threads are set before the first import
import torch  # noqa: E402

torch.set_num_threads(int(threads))
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402

config = Config(
    model=name,
    dataset=dataset,
    config_dict={
        "data_path": folder,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "embedding_size": 64,
        "hidden_size": 128,
        "num_layers": 1,
        "dropout_prob": 0.3,
        "loss_type": "CE",
        "train_neg_sample_args": None,
        "train_batch_size": 2048,
        "eval_batch_size": 2048,
        "learner": "adam",
        "learning_rate": 1e-3,
        "MAX_ITEM_LIST_LENGTH": 50,
        "eval_args": {"split": {"LS": "valid_only"}, "order": "TO", "mode": "full", "group_by": "user"},
        "show_progress": False,
        "seed": 2020,
    },
)
init_seed(config["seed"], config["reproducibility"])
prepared = create_dataset(config)
train, valid, _ = data_preparation(config, prepared)
print(f"{len(train.dataset)} training targets, {len(valid.dataset)} validation cases", flush=True)
model = get_model(name)(config, train.dataset).to(config["device"])
trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
users: list[str] = []
wall, cpu, curve = [], [], []
for epoch in range(int(epochs)):
    started, used = time.perf_counter(), time.process_time()
    loss = trainer._train_epoch(train, epoch)  # the loop that fit() calls, without its logging
    wall.append(time.perf_counter() - started)
    cpu.append(time.process_time() - used)
    model.eval()
    users, rows = [], []
    with torch.no_grad():
        for batch in valid:
            interaction = batch[0]
            rows.append(model.full_sort_predict(interaction).view(len(interaction), -1).numpy())
            users += list(prepared.id2token("user_id", interaction["user_id"].numpy()))
    curve.append(np.concatenate(rows))
    print(f"epoch {epoch + 1}: {wall[-1]:.1f} s wall, {cpu[-1]:.1f} s cpu, loss {loss:.4f}", flush=True)
    items = prepared.id2token("item_id", np.arange(curve[-1].shape[1]))
    np.savez(out, users=np.array(users), items=items.astype(str), scores=np.stack(curve), wall=wall, cpu=cpu)
