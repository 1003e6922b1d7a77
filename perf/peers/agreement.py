"""Do our forms of other libraries' models compute what these compute? The same weights and the same batch go through both.

usage: agreement.py --kept FOLDER | --recbole PYTHON --recpack PYTHON

PYTHON is that of an environment with the peer (recbole.txt, recpack.txt); recbole_weights.py, recbole_pairs.py and
recpack_weights.py run there now and write weights-GRU4Rec.npz, weights-GRU4RecF.npz, pairs-MKR.npz, pairs-ConvNCF.npz and
recpack.npz. FOLDER has such files of before. All without dropout, in float64; our negatives are the peer's. Writes AGREEMENT.md
beside this file, prints one JSON line last, and ends with 1 when a difference is above its limit.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from compare import LIMITS, Dump, Row, furthest, made_up, relative
from pair_models import convncf, mkr
from torch import Tensor

from benchbed import __version__
from benchbed.data.dataset import Features, Ragged, TrainingData
from benchbed.data.histories import Histories
from benchbed.models.gru4rec import GRU4Rec
from benchbed.models.gru4recf import GRU4RecF, SubnetBatch
from benchbed.models.windows import SequenceBatch
from benchbed.workspace import replacing

HERE = Path(__file__).resolve().parent
DUMPS = {
    "weights-GRU4Rec": ("recbole", "recbole_weights.py", "GRU4Rec"),
    "weights-GRU4RecF": ("recbole", "recbole_weights.py", "GRU4RecF"),
    "pairs-MKR": ("recbole", "recbole_pairs.py", "MKR"),
    "pairs-ConvNCF": ("recbole", "recbole_pairs.py", "ConvNCF"),
    "recpack": ("recpack", "recpack_weights.py"),
}
PLACES = {"recbole": "PYTHON", "recpack": "PYTHON", "kept": "FOLDER"}
Model = GRU4Rec | GRU4RecF

RECBOLE = {
    "GRU4Rec": {"item_embedding.": "embedding.", "gru_layers.": "gru.", "dense.": "project."},
    "GRU4RecF": {
        "item_embedding.": "embedding.",
        "feature_embed_layer.token_seq_embedding_table.item.0.": "features.embedding.",
        "item_gru_layers.": "subnets.item.",
        "feature_gru_layers.": "subnets.features.",
        "dense_layer.": "project.",
    },
}
RECPACK = {"emb.": "embedding.", "rnn.": "gru.", "lin.weight": "output.weight", "lin.bias": "item_bias.weight"}


def ours(dump: Dump, group: str, names: Mapping[str, str], pad_last: bool) -> dict[str, Tensor]:
    """The arrays of a group (``weight``, ``gradient:bpr``, ...) under our names; item tables with the pad row in front."""
    found = {}
    for key in dump:
        if not key.startswith(f"{group}:"):
            continue
        theirs = key.removeprefix(f"{group}:")
        name = next(new + theirs.removeprefix(old) for old, new in names.items() if theirs.startswith(old))
        value = torch.as_tensor(dump[key])
        if pad_last and name.split(".")[0] in ("embedding", "output", "item_bias"):
            value = value.roll(1, 0)
        found[name] = value[:, None] if name == "item_bias.weight" else value
    return found


@contextmanager
def negatives_are(drawn: Callable[[], Tensor]) -> Iterator[None]:
    """Within, a model that draws negatives gets these."""

    def instead(targets: Tensor, n_items: int, n_negatives: int) -> Tensor:
        taken = drawn()
        assert taken.shape == (len(targets), n_negatives)
        return taken

    with (
        mock.patch("benchbed.models.gru4rec.uniform_except", instead),
        mock.patch("benchbed.models.gru4recf.uniform_except", instead),
    ):
        yield


def weigh(
    model: Model, weights: dict[str, Tensor], rows: list[list[int]], scores: Tensor, loss: Callable[[], Tensor], want: float
) -> tuple[float, float, float, dict[str, Tensor]]:
    """Copy the weights; differences of scores (float32, float64) and of the loss, and our gradients."""
    histories = Histories.of(np.arange(len(rows)), Ragged.of(rows))
    model.eval()
    differences = []
    for kind in (torch.float32, torch.float64):
        model.to(kind)
        missing, unknown = model.load_state_dict(weights, strict=False)
        assert not unknown and set(missing) <= {"epochs_begun"}, (missing, unknown)
        with torch.inference_mode():
            differences.append(float((model.scores(histories)[:, 1:] - scores).abs().max()))
    value = loss()
    value.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return differences[0], differences[1], abs(value.item() - want) / abs(want), gradients


# ----- the peers ----------------------------------------------------------------------------------------------------------


def recbole(dump: Dump, name: str) -> list[Row]:
    """Every loss of one of RecBole's models."""
    weights = ours(dump, "weight", RECBOLE[name], pad_last=False)
    sequences, lengths, targets, drawn = (torch.as_tensor(dump[k]) for k in ("sequences", "lengths", "targets", "negatives"))
    rows = [row[:length].tolist() for row, length in zip(sequences, lengths.tolist(), strict=True)]
    n_items = len(weights["embedding.weight"]) - 1
    places = torch.arange(len(rows)) * sequences.shape[1] + lengths - 1
    batch = SequenceBatch(sequences, lengths, places, targets)
    sizes = {
        "variant": "recbole",
        "embedding_size": weights["embedding.weight"].shape[1],
        "hidden_size": weights["project.weight"].shape[1] // (2 if name == "GRU4RecF" else 1),
        "layers": sum("weight_ih" in key for key in weights) // (2 if name == "GRU4RecF" else 1),
        "dropout_embed": 0.0,
    }
    found = []
    for loss in ("cross-entropy", "bpr"):
        if name == "GRU4Rec":
            model: Model = GRU4Rec(GRU4Rec.Config.model_validate(sizes | {"loss": loss}), made_up(n_items, rows))
            given: Any = batch
        else:
            values = Ragged.of([[v for v in item if v] for item in dump["features"].tolist()])
            names = tuple(map(str, range(1, len(weights["features.embedding.weight"]))))
            data = made_up(n_items, rows, {"class": Features("class", values, names)})
            form = {"loss": loss, "batching": "prefixes", "padding_in_softmax": loss == "cross-entropy"}
            model = GRU4RecF(GRU4RecF.Config.model_validate(sizes | form), data)
            given = SubnetBatch(batch, None, tuple(model.subnets), batch.n_targets)
        want = float(dump["loss" if loss == "cross-entropy" else loss])
        scores = torch.as_tensor(dump["scores"])[:, 1:]
        with negatives_are(lambda: drawn[:, None]):
            single, double, loss_off, gradients = weigh(model, weights, rows, scores, lambda m=model, g=given: m.loss(g), want)
        theirs = ours(dump, f"gradient:{loss}", RECBOLE[name], pad_last=False)
        found.append(Row(f"RecBole {name}", loss, double, single, loss_off, relative(gradients, theirs), None))
    return found


def recpack(dump: Dump) -> list[Row]:
    """Every loss of RecPack's two classes: one batch whole, then trained in chunks with Adagrad and clipping."""
    weights = ours(dump, "weight", RECPACK, pad_last=True)
    n_items = len(weights["embedding.weight"]) - 1
    drawn = torch.as_tensor(dump["negatives"]) + 1
    rows = [[event + 1 for event in row if event != n_items] for row in dump["sequences"].tolist()]
    width = max(map(len, rows))
    sizes = {
        "variant": "recpack",
        "embedding_size": weights["embedding.weight"].shape[1],
        "hidden_size": weights["output.weight"].shape[1],
        "layers": int(dump["layers"]),
    }
    found = []
    for loss in ("cross-entropy", "bpr", "bpr-max", "top1", "top1-max"):
        form = sizes | {"loss": loss} | ({} if loss == "cross-entropy" else {"n_negatives": drawn.shape[2]})
        data = made_up(n_items, rows)

        def model_of(bptt: int, form: dict[str, Any] = form, data: TrainingData = data) -> GRU4Rec:
            made = GRU4Rec(GRU4Rec.Config.model_validate(form | {"bptt": bptt}), data)
            made.bind(data, "cpu")
            return made

        model = model_of(width)
        (whole,) = model.batches(torch.Generator())
        want, scores = float(dump[f"loss:{loss}"]), torch.as_tensor(dump["scores"])
        with negatives_are(lambda b=whole: drawn[:, : b.inputs.shape[1]].flatten(0, 1)[b.places]):
            single, double, loss_off, gradients = weigh(model, weights, rows, scores, lambda m=model, b=whole: m.loss(b), want)
        theirs = ours(dump, f"gradient:{loss}", RECPACK, pad_last=True)
        model = model_of(int(dump["bptt"])).double()
        model.load_state_dict(weights)
        train(model, drawn)
        after = {name: value.detach() for name, value in model.named_parameters()}
        trained = furthest(after, ours(dump, f"after:{loss}", RECPACK, pad_last=True))
        found.append(Row("RecPack", loss, double, single, loss_off, relative(gradients, theirs), trained))
    return found


def train(model: GRU4Rec, drawn: Tensor) -> None:
    """One epoch as our training loop does it, with (rows, columns, n) negatives."""
    (optimizer,) = model.optimizers()
    left = 0
    for chunk in model.batches(torch.Generator()):
        n, width = chunk.inputs.shape
        own = drawn[:n, left : left + width].flatten(0, 1)[chunk.places]
        left += width
        optimizer.zero_grad()
        with negatives_are(lambda own=own: own):
            model.loss(chunk).backward()
        model.after_backward()
        optimizer.step()


READERS: Mapping[str, Callable[[Dump], list[Row]]] = {
    "weights-GRU4Rec": lambda dump: recbole(dump, "GRU4Rec"),
    "weights-GRU4RecF": lambda dump: recbole(dump, "GRU4RecF"),
    "pairs-MKR": mkr,
    "pairs-ConvNCF": convncf,
    "recpack": recpack,
}


# ----- the page -----------------------------------------------------------------------------------------------------------

PAGE = """# The same weights, the same numbers

Written by `python perf/peers/agreement.py {words}` on {date}: benchbed {version}, torch {torch}; {peers}.

Weights and one batch come from the peer: its own classes and initial weights (for RecPack wider ones, so that its losses
differ; for MKR and ConvNCF with biases that are not 0 and penalties that count). They go through our model in the variant of
the same name. No dropout; float64, and scores in float32 too; negatives are the peer's. *Scores*: largest absolute difference,
all histories (or users) by all items. *Loss*: relative, regularisers included; MKR's `rs` is that of recommendation, `kg` that
of the graph. *Gradients*: of all weights, largest difference over the largest gradient. *Trained*: largest absolute difference
of any weight after training; for RecPack one epoch on the batch by the peer's own training, and ours, in chunks of 4 columns
(carried state, Adagrad, clipping); for MKR and ConvNCF three steps of Adam down that loss.

| peer | loss | scores | scores, float32 | loss | gradients | trained | holds |
|---|---|---|---|---|---|---|---|
{table}

Limits: {limits}.

Where ours differ on purpose, whatever the weights:

- Padding is never recommended: the column of padding that the peers score has no meaning here and is not compared. It has its
  place in the softmax of `recbole` and `recpack` with cross-entropy, as with the peers.
- GRU4RecF of variant `recbole` is RecBole's network; that it is trained on prefixes with padding in the softmax must be said
  (`batching: prefixes`, `padding_in_softmax: true`, the form compared above). Its defaults are windows without padding.
- GRU4Rec and GRU4RecF draw negatives uniformly from all items but the own target. RecBole's avoid the user's other items too
  (as those of our MKR and ConvNCF do), so here the draws of the peer were put in their place.
- RecBole adds 1e-10 inside the logarithm of `bpr`, we add nothing (the form in use is exact). RecPack's `bpr-max` takes the
  logarithm of 0 where a target is far behind; ours has the floor 1e-24.
- Max pooling over an item without values is a zero vector here, about -1e9 in RecBole. Pooling compared: sum.
- RecBole's MKR with an mlp is `output: mlp_sigmoid`; with `output: mlp` the last layer is linear, so that scores are logits.
- MKR and ConvNCF have no row of padding for users; RecBole's ConvNCF counts those rows in its norms, and its optimiser shrinks
  them. They were 0 on both sides.
- RecBole's MKR moves all rows of its tables in every step, by what is left of older gradients; here entities that are no items
  rest in steps of recommendation. So the two losses were followed one at a time.
- The bias of ConvNCF's output cancels in the loss. Adam makes whole steps of what rounding leaves of its gradient in RecBole;
  here it has none and stays. It is not compared after training.
- RecBole's ConvNCF loss is log(1 + exp(-difference)), infinite from a difference of -710 on (-89 in float32); ours has the same
  value below that and stays finite.
"""


def page(rows: list[Row], words: str, peers: str) -> str:
    """The text of AGREEMENT.md."""
    table = [
        f"| {r.peer} | {r.form} | {r.scores:.1e} | {r.scores_single:.1e} | {r.loss:.1e} | {r.gradients:.1e} | "
        f"{'-' if r.trained is None else f'{r.trained:.1e}'} | {'yes' if r.holds else '**no**'} |"
        for r in rows
    ]
    return PAGE.format(
        words=words,
        date=datetime.date.today(),
        version=__version__,
        torch=torch.__version__,
        peers="; ".join(dict.fromkeys(peers.split("; "))),
        table="\n".join(table),
        limits=", ".join(f"{name} {limit:g}" for name, limit in LIMITS.items()),
    )


def dumps(chosen: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Dump]]:
    """What the peers computed, by the name of the file."""
    for name, (peer, *command) in DUMPS.items():
        path = (chosen.kept or folder) / f"{name}.npz"
        if not chosen.kept:
            python = str(Path(getattr(chosen, peer)).absolute())
            subprocess.run([python, str(HERE / command[0]), *command[1:], str(path)], check=True, cwd=folder)
        with np.load(path) as stored:
            yield name, dict(stored)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recbole", metavar="PYTHON", help="of an environment with RecBole")
    parser.add_argument("--recpack", metavar="PYTHON", help="of an environment with RecPack")
    parser.add_argument("--kept", metavar="FOLDER", type=Path, help="with the files of before")
    chosen = parser.parse_args()
    if bool(chosen.recbole) != bool(chosen.recpack) or bool(chosen.kept) == bool(chosen.recbole):
        parser.error("give --kept, or both --recbole and --recpack")
    absent = [name for name in DUMPS if chosen.kept and not (chosen.kept / f"{name}.npz").is_file()]
    if absent:
        parser.error(f"{chosen.kept} lacks {', '.join(f'{name}.npz' for name in absent)}")
    rows, versions = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, dump in dumps(chosen, Path(folder)):
            rows += READERS[name](dump)
            versions.append(str(dump["versions"]))
    given = [f"--{option} {word}" for option, word in PLACES.items() if getattr(chosen, option)]
    text = page(rows, " ".join(given), "; ".join(versions))
    with replacing(HERE / "AGREEMENT.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
    holds = all(row.holds for row in rows)
    print(json.dumps({"what": "agreement with peers", "holds": holds, "limits": LIMITS, "rows": [asdict(row) for row in rows]}))
    return int(not holds)


if __name__ == "__main__":
    sys.exit(main())
