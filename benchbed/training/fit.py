"""The one training loop: seeds, device, epochs, validation, patience, NaN, checkpoints and exact continuation."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchbed.config import fingerprint
from benchbed.data.dataset import Cases, TrainingData
from benchbed.errors import ModelError
from benchbed.evaluation.protocol import Protocol, parse_column
from benchbed.evaluation.ranking import Evaluator, NanScores
from benchbed.models.base import Recommender
from benchbed.models.fold_in import FoldIn
from benchbed.models.registry import model_class
from benchbed.training.checkpoint import read_best, read_checkpoint, write_best, write_checkpoint
from benchbed.training.fold_in import fold_in_agreement
from benchbed.training.memory import PeakMemory
from benchbed.training.precision import Validation
from benchbed.training.result import TestResult, chosen_weight, make_result, make_variety


@dataclass(frozen=True)
class FitSpec:
    """All that decides a training run, besides the data. Plain values: it travels as JSON.

    Attributes
    ----------
    model
        Name of the model.
    parameters
        Hyper-parameters that differ from the defaults of the model's ``Config``.
    seed
        Of initial weights, batch order and dropout.
    max_epochs
        Cap of epochs.
    patience
        Epochs without a better validation value before the run stops; None never stops for that.
    seconds
        Cap of wall time, training and validation together, over all attempts; None for no cap.
    protocol
        The evaluation block, as JSON.
    """

    model: str
    parameters: dict[str, Any]
    seed: int
    max_epochs: int
    patience: int | None
    seconds: float | None
    protocol: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FitSpec:
        """From plain values."""
        return cls(**values)


@dataclass(frozen=True)
class Epoch:
    """One finished epoch.

    ``value`` is ``select_by`` on validation, NaN when training diverged; ``metrics`` holds every column of the protocol on
    validation; ``loss`` is the mean over training targets; times are seconds of wall time of this epoch.
    """

    number: int
    value: float
    metrics: dict[str, float]
    loss: float
    seconds: float
    train_seconds: float
    validate_seconds: float

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Epoch:
        """From plain values."""
        return cls(**values)


@dataclass
class _Progress:
    """What a checkpoint holds besides weights and optimisers."""

    epochs: list[Epoch] = field(default_factory=list)
    finished: str | None = None


def can_continue(folder: Path) -> bool:
    """Whether a folder holds a run that can be read, and so continued."""
    return read_checkpoint(folder) is not None


class Fit:
    """One training run, epoch by epoch. The model is shown the training events, never the validation cases.

    Parameters
    ----------
    spec
        What to train and how.
    data
        Training events and validation cases.
    device
        Such as ``cpu`` or ``cuda:0``.
    folder
        Where checkpoints lie. A run found there is continued: same numbers as if it had never stopped (on the same device
        and number of threads). One that cannot be read is set aside and begins anew.

    Raises
    ------
    ModelError
        The data lack what the model needs, or the folder holds a run of another spec or other data.
    """

    def __init__(self, spec: FitSpec, data: TrainingData, *, device: str = "cpu", folder: Path) -> None:
        self.spec, self.data, self.device, self.folder = spec, data, torch.device(device), folder
        self.protocol = Protocol.model_validate(spec.protocol)
        kind = model_class(spec.model)
        self.config = kind.Config.model_validate(spec.parameters)
        self._identity = fingerprint(replace(spec, max_epochs=0, seconds=None).to_json(), data.fingerprint)
        self._memory = PeakMemory(self.device)
        self._progress = _Progress()
        with self._own_random_numbers():
            torch.manual_seed(spec.seed)
            shown = replace(data, valid=data.valid.take(np.zeros(0, np.int64)))
            self.model: Recommender = kind(self.config, shown)
            self.model.bind(shown, self.device)
            self._save_random_state()
        self._generator = torch.Generator().manual_seed(spec.seed)
        self._evaluator = Evaluator(data.valid, data.n_items, self.protocol, self.device)
        self._validation = Validation(self._evaluator)
        self._optimizers = self.model.optimizers() if kind.trained_by == "gradient" else []
        self._iterates = kind.trained_by != "counting"
        self._fitted = False
        self._spent: dict[str, float] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._continue()

    @property
    def history(self) -> list[Epoch]:
        """All epochs of the run, also those before it was continued."""
        return self._progress.epochs

    @property
    def finished(self) -> str | None:
        """None while running, else ``max_epochs``, ``patience``, ``seconds``, ``nan`` or ``fitted``."""
        return self._progress.finished

    @property
    def best(self) -> Epoch | None:
        """The first epoch with the best validation value."""
        finite = [epoch for epoch in self.history if math.isfinite(epoch.value)]
        return max(finite, key=lambda epoch: (epoch.value, -epoch.number), default=None)

    @property
    def facts(self) -> dict[str, Any]:
        """Costs and sizes of the run so far."""
        best = self.best
        return {
            "parameters": self.model.size,
            "peak_memory_mb": round(self._memory.megabytes(), 1),
            "epochs": len(self.history),
            "best_epoch": best.number if best else 0,
            "train_seconds": sum(e.train_seconds for e in self.history),
            "validate_seconds": sum(e.validate_seconds for e in self.history),
            "seconds": sum(e.seconds for e in self.history),
            "train_targets": int((self.data.train.items.lengths - 1).clip(0).sum()),
            "finished": self.finished or "",
            **self._costs,
        }

    @property
    def _costs(self) -> dict[str, float]:
        """What the model says of its costs, seconds of earlier parts of the run included."""
        now = {**self.model.costs, **self._validation.facts}
        return {name: value + (self._spent.get(name, 0.0) if name.endswith("_seconds") else 0.0) for name, value in now.items()}

    def step(self) -> Epoch:
        """Train one epoch, validate, write the checkpoint, and only then return.

        Raises
        ------
        ModelError
            The run has finished.
        """
        if self.finished is not None:
            raise ModelError(f"This run of {self.spec.model} has finished ({self.finished}).")
        started = time.perf_counter()
        with self._own_random_numbers():
            loss = self._train(started)
            self._synchronise()
            trained = time.perf_counter()
            metrics = self._validate(loss)
            self._save_random_state()
        ended = time.perf_counter()
        epoch = Epoch(
            len(self.history) + 1,
            metrics[self.protocol.select_by],
            metrics,
            loss,
            ended - started,
            trained - started,
            ended - trained,
        )
        self.history.append(epoch)
        self._progress.finished = self._why_finished()
        if self.best is epoch and self._iterates:
            write_best(self.folder, epoch.number, self.model.state_dict())
        self._checkpoint()
        return epoch

    def test(self, cases: Cases, top: int = 100) -> TestResult:
        """Rank the given cases with the weights of the best epoch, and keep the first ``top`` items of every list or more.

        Raises
        ------
        ModelError
            No epoch ended with a finite validation value.
        """
        if self.best is None:
            raise ModelError(f"{self.spec.model} has no epoch with a finite validation value; there is nothing to test.")
        started = time.perf_counter()
        if self._iterates:
            self.model.load_state_dict(read_best(self.folder, self.best.number))
        else:
            self._fit_once()
        self.model.eval()
        self._validation.confirm(self.model)
        evaluator = Evaluator(cases, self.data.n_items, self.protocol, self.device)
        variety = make_variety(cases, self.protocol, self.data, self.device, self._weight_of_variety())
        # Coverage is counted up to the cutoff that decides.
        widest = max(top, parse_column(self.protocol.select_by)[1], variety.said.cutoff if variety else 0)
        ranked = evaluator.rank(self.model, top=widest, variety=variety)
        result = make_result(cases, ranked, self.protocol, self.data, seconds=time.perf_counter() - started, variety=variety)
        result.facts.update(self._validation.facts)
        if isinstance(self.model, FoldIn):
            # Kept with the result, so that a run continued after its test tells the same; the comparison itself does not count.
            result.facts["fold_in_seconds"] = self.model.fold_in_seconds + self._spent.get("fold_in_seconds", 0.0)
            result.facts.update(fold_in_agreement(self.model, self.data))
        return result

    def _weight_of_variety(self) -> float:
        """The weight behind the rows of the leaderboard: chosen on validation where the protocol asks for re-ranked rows."""
        said = self.protocol.diversity
        if said is None or said.apply != "validation":
            return 0.0
        variety = make_variety(self.data.valid, self.protocol, self.data, self.device)
        assert variety is not None
        ranked = self._evaluator.rank(
            self.model, top=max(said.cutoff, parse_column(self.protocol.select_by)[1]), variety=variety
        )
        return chosen_weight(variety, ranked, self.protocol, self.data.valid.repeats)

    def _train(self, started: float) -> float:
        if not self._iterates:
            self._fit_once()
            return 0.0
        self.model.train()
        if not self._optimizers:
            return self.model.solve(self._generator)
        spent = sum(epoch.seconds for epoch in self.history)
        total, targets, learnt = torch.zeros((), device=self.device, dtype=torch.float64), 0, False
        for batch in self.model.batches(self._generator):
            for optimizer in self._optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss = self.model.loss(batch)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
            self.model.after_backward()
            for optimizer in self._optimizers:
                optimizer.step()
            total += loss.detach() * batch.n_targets
            targets += batch.n_targets
            learnt = True
            if self.spec.seconds is not None and spent + time.perf_counter() - started > self.spec.seconds:
                if targets == 0:
                    raise ModelError(
                        f"{self.spec.model} spent its {self.spec.seconds:g} seconds on pre-training: nothing else has learnt.",
                        advice="Raise search.seconds_per_trial, or lower the epochs of pre-training in the search space.",
                    )
                break  # an epoch that outlasts the cap is cut: what was learnt so far is validated
        if not learnt:
            raise ModelError(
                f"{self.spec.model} finds nothing to learn from: an epoch has no batch, for want of long training sequences, "
                "or of items that somebody has not met.",
                advice="Weights that nothing has trained would rank at random. Take a larger log, or another batching.",
            )
        return float(total) / max(1, targets)

    def _fit_once(self) -> None:
        if not self._fitted:
            self.model.fit()
            self._fitted = True

    def _validate(self, loss: float) -> dict[str, float]:
        """Metrics of the protocol; all NaN where training diverged, be it in the last update, which no loss has seen."""
        diverged = dict.fromkeys(self.protocol.columns, math.nan)
        if not math.isfinite(loss):
            return diverged
        self.model.eval()
        try:
            return self._validation.evaluate(self.model)
        except NanScores:
            if not self._iterates:
                raise
            return diverged

    def _why_finished(self) -> str | None:
        newest, best, spec = self.history[-1], self.best, self.spec
        if not math.isfinite(newest.value):
            return "nan"
        if not self._iterates:
            return "fitted"
        since = 0 if best is None else newest.number - max(best.number, self.model.warm_up_epochs)
        if spec.patience is not None and best is not None and since >= spec.patience:
            return "patience"
        if spec.seconds is not None and sum(epoch.seconds for epoch in self.history) >= spec.seconds:
            return "seconds"
        return "max_epochs" if newest.number >= spec.max_epochs else None

    def _checkpoint(self) -> None:
        state: dict[str, Any] = {
            "identity": self._identity,
            "epochs": [epoch.to_json() for epoch in self.history],
            "finished": self.finished,
            "costs": self._costs,
            "random": self._random,
            "generator": self._generator.get_state(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "weights": self.model.state_dict() if self._iterates else {},
        }
        write_checkpoint(self.folder, state, self.best.number if self.best and self._iterates else None)

    def _continue(self) -> None:
        state = read_checkpoint(self.folder)
        if state is None:
            return
        if state["identity"] != self._identity:
            raise ModelError(
                f"{self.folder} holds a run of other settings or other data.", advice="Give each run a folder of its own."
            )
        self._progress = _Progress([Epoch.from_json(values) for values in state["epochs"]], state["finished"])
        if self._progress.finished == "max_epochs" and len(self.history) < self.spec.max_epochs:
            self._progress.finished = None
        self._spent = state.get("costs", {})
        self._validation.go_on(self._spent, len(self.history))
        self._random = state["random"]
        self._generator.set_state(state["generator"])
        if self._iterates:
            self.model.load_state_dict(state["weights"])
            for optimizer, values in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(values)

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _own_random_numbers(self) -> _OwnRandomNumbers:
        return _OwnRandomNumbers(self)

    def _save_random_state(self) -> None:
        self._random = [torch.get_rng_state()]
        if self.device.type == "cuda":
            self._random.append(torch.cuda.get_rng_state(self.device))

    _random: list[torch.Tensor] = []  # noqa: RUF012  # set per run by _save_random_state before any use


class _OwnRandomNumbers:
    """Inside, torch's global generators are this run's; outside they are as they were."""

    def __init__(self, fit: Fit) -> None:
        self.fit = fit

    def __enter__(self) -> None:
        cuda = self.fit.device.type == "cuda"
        self.before = [torch.get_rng_state()] + ([torch.cuda.get_rng_state(self.fit.device)] if cuda else [])
        self._set(self.fit._random or self.before)

    def __exit__(self, *_: object) -> None:
        self._set(self.before)

    def _set(self, states: list[torch.Tensor]) -> None:
        torch.set_rng_state(states[0])
        if len(states) > 1:
            torch.cuda.set_rng_state(states[1], self.fit.device)
