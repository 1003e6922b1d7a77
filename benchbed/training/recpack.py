"""GRU4Rec under RecPack's two class names, with its parameters and defaults, for use from Python."""

from __future__ import annotations

import math
import numbers
import secrets
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
import torch
from pydantic import ValidationError
from torch import Tensor

from benchbed.data.dataset import Cases, Ragged, TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ModelError, UnknownNameError
from benchbed.evaluation.metrics import metric_values
from benchbed.evaluation.protocol import Protocol
from benchbed.evaluation.ranking import Evaluator
from benchbed.models.gru4rec import GRU4Rec
from benchbed.models.gru4rec_config import GRU4RecConfig
from benchbed.training.fit import Epoch, Fit, FitSpec
from benchbed.workspace import replacing

CRITERIA: dict[str, str] = {"recall": "recall@50", "ndcg": "ndcg@50", "precision": "precision@10", "bpr": "", "warp": ""}
"""RecPack's stopping criteria: a column of ours, or a loss of sampled pairs, which is to become small."""

_PROTOCOL = Protocol(
    metrics=("recall", "ndcg", "precision"), cutoffs=(10, 50), select_by="recall@50", seen_items="keep", unknown_targets="miss"
)


@dataclass(kw_only=True)
class _RecPackGRU4Rec:
    """What both classes share; parameters have RecPack's names and defaults.

    Attributes
    ----------
    num_layers, hidden_size, num_components, dropout
        GRU layers, width of the state, width of the item embedding, one dropout rate for embedding and states.
    optimization_algorithm, momentum, clipnorm, learning_rate
        ``adagrad`` or ``sgd``; momentum goes with ``sgd``; largest norm of the gradient, None for no clipping.
    bptt, batch_size, max_epochs
        Events of one update, users side by side, passes over the data.
    stopping_criterion
        ``recall`` (at 50), ``ndcg`` (at 50), ``precision`` (at 10), ``bpr`` or ``warp`` (losses of sampled pairs) on the
        validation cases, seen items kept. Decides which epoch's weights are kept.
    stop_early, max_iter_no_change
        Whether, and after how many epochs without a better value, training ends.
    min_improvement
        A value is better when it is so by more than this.
    seed
        None draws one, which is then found in ``used_seed``.
    save_best_to_file
        Write the kept weights to the file :attr:`filename` of the current folder.
    keep_last
        Keep the last epoch's weights, not the best's.
    predict_topK
        Keep that many items of every list, in :meth:`predict` and in validation.
    validation_sample_size
        Number of validation cases, drawn once; None takes all.
    """

    num_layers: int = 1
    hidden_size: int = 100
    num_components: int = 250
    dropout: float = 0.0
    optimization_algorithm: str = "adagrad"
    momentum: float = 0.0
    clipnorm: float | None = 1.0
    bptt: int = 1
    batch_size: int = 512
    max_epochs: int = 5
    learning_rate: float = 0.03
    stopping_criterion: str = "recall"
    stop_early: bool = False
    max_iter_no_change: int = 5
    min_improvement: float = 0.0
    seed: int | None = None
    save_best_to_file: bool = False
    keep_last: bool = False
    predict_topK: int | None = None
    validation_sample_size: int | None = None

    values: list[float] = field(default_factory=list, init=False, repr=False)
    """The stopping criterion after every epoch."""
    best_value: float = field(default=math.nan, init=False, repr=False)
    used_seed: int = field(default=-1, init=False, repr=False)
    model: GRU4Rec | None = field(default=None, init=False, repr=False)

    _loss: ClassVar[dict[str, str]]
    """Parameters of the loss -> keys of ``gru4rec``."""

    def __post_init__(self) -> None:
        if self.stopping_criterion not in CRITERIA:
            raise UnknownNameError("stopping criterion", self.stopping_criterion, CRITERIA)
        if self.optimization_algorithm not in (known := ("adagrad", "sgd")):
            raise UnknownNameError("optimization_algorithm", self.optimization_algorithm, known)
        least = {"max_epochs": 1, "max_iter_no_change": 1, "predict_topK": 1, "validation_sample_size": 1, "seed": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value is None and name not in ("max_epochs", "max_iter_no_change"):
                continue
            if not isinstance(value, numbers.Integral) or value < low:
                raise ModelError(f"{name} must be a whole number, at least {low} (it is {value!r}).")
        if not isinstance(self.min_improvement, numbers.Real) or not math.isfinite(self.min_improvement):
            raise ModelError(f"min_improvement must be a finite number (it is {self.min_improvement!r}).")
        try:
            GRU4RecConfig.model_validate(self.parameters)
        except ValidationError as error:
            said = "; ".join(f"{'.'.join(map(str, e['loc']))} {e['msg'].removeprefix('Value error, ')}" for e in error.errors())
            raise ModelError(f"{type(self).__name__}: {said.strip()}.") from None

    @property
    def parameters(self) -> dict[str, Any]:
        """The same in the words of the model ``gru4rec``, for a search space."""
        return {
            "variant": "recpack",
            "loss": "cross-entropy",
            "layers": self.num_layers,
            "hidden_size": self.hidden_size,
            "embedding_size": self.num_components,
            "dropout_embed": self.dropout,
            "dropout_hidden": self.dropout,
            "optimizer": self.optimization_algorithm,
            "momentum": self.momentum,
            "clip_norm": self.clipnorm or None,  # RecPack takes 0 for "no clipping", too
            "bptt": self.bptt,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
        } | {ours: getattr(self, theirs) for theirs, ours in self._loss.items()}

    @property
    def filename(self) -> str:
        """Where ``save_best_to_file`` puts the weights."""
        return f"{type(self).__name__}_loss_{self.best_value}.trch"

    def fit(self, data: TrainingData, device: str = "cpu") -> _RecPackGRU4Rec:
        """Train on the training sequences; the validation cases choose the epoch.

        Raises
        ------
        ModelError
            There are no validation cases, or training diverged at once.
        """
        if not len(data.valid):
            raise ModelError(f"{type(self).__name__} chooses its epoch on validation cases, and there are none.")
        self.used_seed = secrets.randbits(31) if self.seed is None else self.seed
        generator = np.random.default_rng(self.used_seed)
        n = len(data.valid)
        if self.validation_sample_size is not None and self.validation_sample_size < n:
            chosen = np.sort(generator.choice(n, self.validation_sample_size, replace=False))
            data = replace(data, valid=data.valid.take(chosen))
        protocol = _PROTOCOL.model_dump(mode="json")
        spec = FitSpec("gru4rec", self.parameters, self.used_seed, self.max_epochs, None, None, protocol)
        minimise = not CRITERIA[self.stopping_criterion]
        self.values, self.best_value = [], math.inf if minimise else -math.inf
        kept: dict[str, Tensor] | None = None
        unchanged = 0
        with tempfile.TemporaryDirectory(prefix="benchbed-recpack-") as folder:
            fit = Fit(spec, data, device=device, folder=Path(folder))
            while fit.finished is None and not (self.stop_early and unchanged >= self.max_iter_no_change):
                value = self._value(fit.step(), fit, data, seed=self.used_seed)
                self.values.append(value)
                gain = self.best_value - value if minimise else value - self.best_value
                unchanged = 0 if gain > self.min_improvement else unchanged + 1
                if gain > self.min_improvement:
                    self.best_value = value
                    kept = {name: weight.detach().clone() for name, weight in fit.model.state_dict().items()}
        if kept is None:
            raise ModelError(f"{type(self).__name__} diverged in its first epoch.", advice="Lower learning_rate.")
        assert isinstance(fit.model, GRU4Rec)
        self.model = fit.model.eval()
        if not self.keep_last:
            self.model.load_state_dict(kept)
        if self.save_best_to_file:
            with replacing(Path(self.filename)) as path:
                torch.save({"parameters": self.parameters, "weights": self.model.state_dict()}, path)
        return self

    def load(self, filename: str | Path, data: TrainingData) -> _RecPackGRU4Rec:
        """Take the weights of a file that ``save_best_to_file`` wrote, for the same training data.

        Raises
        ------
        ModelError
            The file holds a model of other parameters, or of other data.
        """
        stored = torch.load(filename, map_location="cpu", weights_only=True)  # it may have been trained on a GPU
        if stored["parameters"] != self.parameters:
            raise ModelError(f"{filename} holds a model of other parameters: {stored['parameters']}.")
        model = GRU4Rec(GRU4RecConfig.model_validate(self.parameters), data).eval()
        here, there = model.state_dict(), stored["weights"]
        if any(name not in there or there[name].shape != weight.shape for name, weight in here.items()):
            raise ModelError(f"{filename} holds a model of other data: its tables do not fit {data.n_items} items.")
        model.load_state_dict(there)
        self.model = model
        return self

    @torch.inference_mode()
    def predict(self, histories: Histories) -> scipy.sparse.csr_array:
        """Scores of all items, or of the first ``predict_topK`` ones.

        Returns
        -------
        scipy.sparse.csr_array
            (n_histories, n_items + 1); column 0 is padding and holds nothing.

        Raises
        ------
        ModelError
            Before :meth:`fit` or :meth:`load`.
        """
        if self.model is None:
            raise ModelError(f"{type(self).__name__} has not been fitted.", advice="Call fit(data) first.")
        n_items = self.model.n_items
        size = n_items if self.predict_topK is None else min(self.predict_topK, n_items)
        values, items = [], []
        for start in range(0, len(histories), self.batch_size):
            block = histories.block(start, min(start + self.batch_size, len(histories)))
            best = self.model.scores(block)[:, 1:].topk(size, dim=1)
            values.append(best.values.cpu().numpy())
            items.append(best.indices.cpu().numpy() + 1)
        rows = np.arange(len(histories) + 1) * size
        flat = [np.concatenate(parts).ravel() if parts else np.zeros(0) for parts in (values, items)]
        return scipy.sparse.csr_array((flat[0], flat[1].astype(np.int64), rows), shape=(len(histories), n_items + 1))

    # ----- validation -----------------------------------------------------------------------------------------------

    def _value(self, epoch: Epoch, fit: Fit, data: TrainingData, seed: int) -> float:
        column = CRITERIA[self.stopping_criterion]
        if not math.isfinite(epoch.value):
            return math.nan  # never better
        if not column:
            return self._loss_of_pairs(fit, data.valid, data.n_items, seed)
        if self.predict_topK is None or self.predict_topK >= int(column.partition("@")[2]):
            return epoch.metrics[column]
        ranks = Evaluator(data.valid, data.n_items, _PROTOCOL, fit.device).rank(fit.model).ranks
        listed = Ragged(np.where(ranks.values <= self.predict_topK, ranks.values, 0), ranks.offsets)
        return float(metric_values(listed, [column])[column].mean())

    @torch.inference_mode()
    def _loss_of_pairs(self, fit: Fit, cases: Cases, n_items: int, seed: int) -> float:
        """Every known target against sampled items that are no targets of its case: 1 for ``bpr``, 20 for ``warp``.

        ``warp`` takes the negative score for a distance (margin 1.9), so that a good model has a small loss; RecPack passes
        scores as distances, which turns its criterion around. Negatives are the same in every epoch.
        """
        generator = np.random.default_rng(seed)
        drawn = 1 if self.stopping_criterion == "bpr" else 20
        losses = []
        for start in range(0, len(cases), self.batch_size):
            block = cases.take(np.arange(start, min(start + self.batch_size, len(cases))))
            scores = fit.model.scores(Histories.of(block.users, block.histories, fit.device)).cpu()
            row, target = block.targets.row_of_value, block.targets.values
            taken = np.zeros((len(block), n_items + 1), dtype=bool)
            taken[row, target] = True
            known = (target > 0) & (taken[:, 1:].sum(1)[row] < n_items)
            row, target = row[known], target[known]
            negatives = generator.integers(1, n_items + 1, (len(row), drawn))
            while (wrong := taken[row[:, None], negatives]).any():
                negatives[wrong] = generator.integers(1, n_items + 1, int(wrong.sum()))
            index = torch.as_tensor(row)
            behind = scores[index[:, None], torch.as_tensor(negatives)] - scores[index, torch.as_tensor(target)][:, None]
            if drawn == 1:
                losses.append(torch.nn.functional.softplus(behind[:, 0]))
            else:
                violation = behind + 1.9
                weight = ((violation > 0).sum(1) * n_items / drawn + 1).log()
                losses.append(violation.amax(1).clamp(min=0) * weight)
        return float(torch.cat(losses).mean())


@dataclass(kw_only=True)
class GRU4RecCrossEntropy(_RecPackGRU4Rec):
    """GRU4Rec with cross-entropy over all items, as RecPack's class of this name.

    The parameters are RecPack's; see :class:`benchbed.models.gru4rec.GRU4Rec`, variant ``recpack``, for what is kept of it.

    Examples
    --------
    >>> GRU4RecCrossEntropy(hidden_size=32).parameters["loss"]
    'cross-entropy'
    """

    _loss: ClassVar[dict[str, str]] = {}


@dataclass(kw_only=True)
class GRU4RecNegSampling(_RecPackGRU4Rec):
    """GRU4Rec with sampled negatives of each target's own, as RecPack's class of this name.

    Attributes
    ----------
    loss_fn
        ``bpr``, ``bpr-max``, ``top1`` or ``top1-max``.
    num_negatives
        Items drawn for every target, uniformly from all others.

    Examples
    --------
    >>> GRU4RecNegSampling(loss_fn="top1-max").parameters["n_negatives"]
    50
    """

    loss_fn: str = "bpr"
    num_negatives: int = 50

    _loss: ClassVar[dict[str, str]] = {"loss_fn": "loss", "num_negatives": "n_negatives"}

    def __post_init__(self) -> None:
        """Refuse what RecPack's class does not have."""
        if self.loss_fn not in (known := ("bpr", "bpr-max", "top1", "top1-max")):
            raise UnknownNameError("loss_fn", self.loss_fn, known)
        super().__post_init__()
