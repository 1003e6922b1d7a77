"""One batch through a RecBole sequence model with its initial weights, everything kept, in RecBole's own environment.

usage: recbole_weights.py GRU4Rec|GRU4RecF OUT.npz

OUT holds the weights (`weight:NAME`), the batch (`sequences` right-padded with 0, `lengths`, `targets`), what came out
without dropout in float64 (`scores`: a row a sequence, a column an id, 0 is padding; `loss`: cross-entropy; `bpr`: with
`negatives`), the gradient of both losses (`gradient:cross-entropy:NAME`, `gradient:bpr:NAME`), for GRU4RecF the categories of
every item (`features`, padded with 0), and which `versions` made it.
"""

import os
import sys

name, out = sys.argv[1:3]
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
sys.argv = sys.argv[:1]  # RecBole reads the command line by itself

import numpy as np  # noqa: E402
import recbole  # noqa: E402
import torch  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.data.interaction import Interaction  # noqa: E402
from recbole.model.loss import BPRLoss  # noqa: E402
from recbole.utils import get_model, init_seed  # noqa: E402

settings = {
    "embedding_size": 24,
    "hidden_size": 40,
    "num_layers": 2,
    "dropout_prob": 0.3,
    "loss_type": "CE",
    "train_neg_sample_args": None,
    "MAX_ITEM_LIST_LENGTH": 50,
    "load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]},
    "selected_features": ["class"],
    "pooling_mode": "sum",
    "seed": 2020,
}
config = Config(model=name, dataset="ml-100k", config_dict=settings)
init_seed(config["seed"], config["reproducibility"])
dataset = create_dataset(config)
train, _, _ = data_preparation(config, dataset)
model = get_model(name)(config, train.dataset).double().eval()  # no dropout

generator = np.random.default_rng(1)
pick = torch.as_tensor(generator.choice(len(train.dataset), 256, replace=False))
batch = train.dataset[pick]
sequences, lengths, targets = batch[model.ITEM_SEQ], batch[model.ITEM_SEQ_LEN], batch[model.POS_ITEM_ID]
negatives = torch.as_tensor(generator.integers(1, dataset.item_num, len(targets)))
asked = Interaction(
    {model.ITEM_SEQ: sequences, model.ITEM_SEQ_LEN: lengths, model.POS_ITEM_ID: targets, model.NEG_ITEM_ID: negatives}
)
kept = {
    "sequences": sequences.numpy(),
    "lengths": lengths.numpy(),
    "targets": targets.numpy(),
    "negatives": negatives.numpy(),
    "scores": model.full_sort_predict(asked).view(len(targets), -1).detach().numpy(),
}
kept |= {f"weight:{key}": parameter.detach().numpy() for key, parameter in model.named_parameters()}


def keep(form: str) -> None:
    model.zero_grad()
    loss = model.calculate_loss(asked)
    loss.backward()
    kept["loss" if form == "cross-entropy" else form] = loss.item()
    kept.update({f"gradient:{form}:{key}": parameter.grad.numpy().copy() for key, parameter in model.named_parameters()})


keep("cross-entropy")
model.loss_type, model.loss_fct = "BPR", BPRLoss()
keep("bpr")
kept["versions"] = f"RecBole {recbole.__version__}, torch {torch.__version__}"
if name == "GRU4RecF":
    kept["features"] = dataset.get_item_feature()["class"].numpy()
np.savez_compressed(out, **kept)
print(f"{name}: {dataset.item_num - 1} items, {len(targets)} sequences, loss {kept['loss']:.6f}")
