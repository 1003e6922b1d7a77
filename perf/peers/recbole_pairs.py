"""One batch through a RecBole model of user and item pairs, everything kept, in RecBole's own environment.

usage: recbole_pairs.py MKR|ConvNCF OUT.npz

The data are made up here and written as RecBole's atomic files: interactions, a knowledge graph, and links (every item has
one). OUT holds, in float64 and without dropout, for each FORM of the model (MKR: `inner`, `mlp`; ConvNCF: `tower`): the
weights (`FORM:weight:NAME`), the `FORM:scores` of every user (rows) and item (columns), both without padding, and of each loss
(MKR: `rs` and `kg`; ConvNCF: `bpr`, regularisers included) the value (`FORM:loss:LOSS`), the gradients
(`FORM:gradient:LOSS:NAME`) and all weights after three steps of Adam down that loss alone (`FORM:after:LOSS:NAME`). Beside them
the batch, the `settings` and `versions`.

Numbers are RecBole's: 0 is padding; entities 1..items are the items. Biases, 0 at first, are drawn anew from N(0, 0.1), lest
their places stay unseen. Rows of padding are set to 0: RecBole's ConvNCF counts them in its norms, and nothing else reads them.
"""

import copy
import json
import os
import sys
import tempfile
from pathlib import Path

name, out = sys.argv[1], Path(sys.argv[2]).absolute()
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
sys.argv = sys.argv[:1]  # RecBole reads the command line by itself

import numpy as np  # noqa: E402
import recbole  # noqa: E402
import torch  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.data.interaction import Interaction  # noqa: E402
from recbole.utils import get_model, init_seed  # noqa: E402

USERS, ITEMS, ENTITIES, RELATIONS, BATCH = 40, 60, 90, 5, 64
FORMS = {
    "MKR": {
        "inner": {"use_inner_product": True, "low_layers_num": 2, "high_layers_num": 2},
        "mlp": {"use_inner_product": False, "low_layers_num": 1, "high_layers_num": 1},
    },
    "ConvNCF": {
        "tower": {"cnn_channels": [1, 8, 8, 8], "cnn_kernels": [4, 2, 2], "cnn_strides": [4, 2, 2], "reg_weights": [0.1, 0.2]}
    },
}
COMMON = {
    "embedding_size": 16,
    "reg_weight": 0.01,  # wide enough to be seen; the default 1e-6 drowns in the rest
    "dropout_prob": 0.3,
    "learning_rate": 1e-3,
    "seed": 2020,
    "load_col": {
        "inter": ["user_id", "item_id"],
        "kg": ["head_id", "relation_id", "tail_id"],
        "link": ["item_id", "entity_id"],
    },
}
draw = np.random.default_rng(1)


def write_atomic_files(folder: Path) -> None:
    """Interactions of every user and item, triples of every entity, a link of every item."""
    folder.mkdir()
    pairs = {(number % USERS, number) for number in range(ITEMS)}
    pairs |= set(zip(draw.integers(0, USERS, 500).tolist(), draw.integers(0, ITEMS, 500).tolist(), strict=True))
    triples = [(entity % ITEMS, entity % RELATIONS, entity) for entity in range(ENTITIES)]
    drawn = [draw.integers(0, most, 200).tolist() for most in (ITEMS, RELATIONS, ENTITIES)]
    triples += zip(*drawn, strict=True)
    tables = {
        "inter": ["user_id:token\titem_id:token", *(f"u{user}\ti{item}" for user, item in sorted(pairs))],
        "kg": ["head_id:token\trelation_id:token\ttail_id:token", *(f"e{h}\tr{r}\te{t}" for h, r, t in triples)],
        "link": ["item_id:token\tentity_id:token", *(f"i{item}\te{item}" for item in range(ITEMS))],
    }
    for kind, lines in tables.items():
        (folder / f"{folder.name}.{kind}").write_text("\n".join(lines) + "\n")


def batches(model: torch.nn.Module) -> dict:
    """One batch of each loss, by its name; numbers without padding. Heads are items, as in ours."""
    users, items, negatives = (torch.as_tensor(draw.integers(1, most + 1, BATCH)) for most in (USERS, ITEMS, ITEMS))
    if name == "ConvNCF":
        return {"bpr": {model.USER_ID: users, model.ITEM_ID: items, model.NEG_ITEM_ID: negatives}}
    heads, relations, tails = (torch.as_tensor(draw.integers(1, most + 1, BATCH)) for most in (ITEMS, RELATIONS, ENTITIES))
    labels = torch.as_tensor(draw.integers(0, 2, BATCH)).double()
    return {
        "rs": {model.USER_ID: users, model.ITEM_ID: items, model.LABEL: labels},
        "kg": {model.HEAD_ENTITY_ID: heads, model.RELATION_ID: relations, model.TAIL_ENTITY_ID: tails},
    }


def keep(form: str, model: torch.nn.Module, given: dict, kept: dict) -> None:
    """Scores, losses, gradients and steps of one form."""
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):
                parameter.copy_(torch.as_tensor(draw.normal(0, 0.1, tuple(parameter.shape))))
            elif "embedding" in key:
                parameter[0] = 0
        every = torch.cartesian_prod(torch.arange(1, USERS + 1), torch.arange(1, ITEMS + 1))
        scores = model.predict(Interaction({model.USER_ID: every[:, 0], model.ITEM_ID: every[:, 1]}))
    kept[f"{form}:scores"] = scores.view(USERS, ITEMS).numpy()
    kept |= {f"{form}:weight:{key}": parameter.detach().numpy().copy() for key, parameter in model.named_parameters()}
    losses = {
        "rs": lambda: model.calculate_rs_loss(Interaction(given["rs"])),
        "kg": lambda: model.calculate_kg_loss(Interaction(given["kg"])),
        "bpr": lambda: model.calculate_loss(Interaction(given["bpr"])),
    }
    initial = copy.deepcopy(model.state_dict())
    for loss in given:
        model.load_state_dict(initial)
        optimizer = torch.optim.Adam(model.parameters(), lr=COMMON["learning_rate"])
        for step in range(3):
            optimizer.zero_grad()
            value = losses[loss]()
            value.backward()
            if step == 0:
                kept[f"{form}:loss:{loss}"] = value.item()
                found = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.grad is not None}
                kept.update({f"{form}:gradient:{loss}:{key}": gradient.numpy().copy() for key, gradient in found.items()})
            optimizer.step()
        after = {f"{form}:after:{loss}:{key}": parameter.detach().numpy().copy() for key, parameter in model.named_parameters()}
        kept.update(after)


kept: dict = {}
with tempfile.TemporaryDirectory() as folder:
    write_atomic_files(Path(folder) / "made-up")
    given = None
    for form, settings in FORMS[name].items():
        config = Config(model=name, dataset="made-up", config_dict=COMMON | settings | {"data_path": folder})
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        train, _, _ = data_preparation(config, dataset)
        model = get_model(name)(config, train._dataset).double().eval()  # no dropout
        assert (dataset.user_num - 1, dataset.item_num - 1) == (USERS, ITEMS)
        given = given or batches(model)
        keep(form, model, given, kept)
kept |= {f"batch:{key}": value.numpy() for columns in given.values() for key, value in columns.items()}
if name == "MKR":
    kept |= {"n_entities": dataset.entity_num - 1, "n_relations": dataset.relation_num - 1}
kept["settings"] = json.dumps({"common": COMMON, "forms": FORMS[name]})
kept["versions"] = f"RecBole {recbole.__version__}, torch {torch.__version__}"
np.savez_compressed(out, **kept)
print(f"{name}: {USERS} users, {ITEMS} items; " + ", ".join(f"{k} {v:.6f}" for k, v in kept.items() if ":loss:" in k))
