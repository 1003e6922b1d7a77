"""RecPack's two classes: their parameters, and that each of them does something."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ModelError, UnknownNameError
from benchbed.testing import made_up_data
from benchbed.training.fit import Fit
from benchbed.training.recpack import GRU4RecCrossEntropy, GRU4RecNegSampling

SMALL: dict[str, Any] = {
    "hidden_size": 7, "num_components": 6, "batch_size": 16, "bptt": 5, "learning_rate": 0.1, "max_epochs": 2, "seed": 1,
}  # fmt: skip


def sampling(data: TrainingData, **options: Any) -> GRU4RecNegSampling:
    made = GRU4RecNegSampling(**{"num_negatives": 5} | SMALL | options)
    made.fit(data)
    return made


def scores(made: GRU4RecNegSampling | GRU4RecCrossEntropy, data: TrainingData) -> np.ndarray:
    dense: np.ndarray = made.predict(Histories.of(data.valid.users, data.valid.histories)).toarray()
    return dense


def test_parameters_and_defaults_are_recpacks() -> None:
    defaults = {f.name: f.default for f in fields(GRU4RecNegSampling) if f.init}
    assert defaults == {
        "num_layers": 1, "hidden_size": 100, "num_components": 250, "dropout": 0.0, "loss_fn": "bpr",
        "optimization_algorithm": "adagrad", "momentum": 0.0, "clipnorm": 1.0, "bptt": 1, "num_negatives": 50,
        "batch_size": 512, "max_epochs": 5, "learning_rate": 0.03, "stopping_criterion": "recall", "stop_early": False,
        "max_iter_no_change": 5,
        "min_improvement": 0.0, "seed": None, "save_best_to_file": False, "keep_last": False, "predict_topK": None,
        "validation_sample_size": None,
    }  # fmt: skip
    others = {f.name: f.default for f in fields(GRU4RecCrossEntropy) if f.init}
    assert others == {name: value for name, value in defaults.items() if name not in ("loss_fn", "num_negatives")}


CHANGES: dict[str, Any] = {
    "num_layers": 2, "hidden_size": 9, "num_components": 9, "dropout": 0.3, "loss_fn": "top1-max", "clipnorm": 0.001,
    "optimization_algorithm": "sgd", "bptt": 2, "num_negatives": 2, "batch_size": 7, "learning_rate": 0.3, "seed": 2,
    "max_epochs": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.fidelity("G18")
def test_every_parameter_of_the_model_changes_what_is_learnt(name: str, ring: TrainingData) -> None:
    base = {"keep_last": True}
    first, second = (sampling(ring, **base, **more) for more in ({}, {name: CHANGES[name]}))
    assert not np.array_equal(scores(first, ring), scores(second, ring))


@pytest.mark.fidelity("G18")
def test_momentum_goes_with_sgd(ring: TrainingData) -> None:
    sgd = {"optimization_algorithm": "sgd", "keep_last": True}
    first, second = (sampling(ring, **sgd, momentum=momentum) for momentum in (0.0, 0.9))
    assert not np.array_equal(scores(first, ring), scores(second, ring))
    with pytest.raises(ModelError, match="momentum has no effect"):
        GRU4RecCrossEntropy(momentum=0.5)


@pytest.mark.parametrize("criterion", ["recall", "ndcg", "precision", "bpr", "warp"])
def test_stopping_criteria_decide_by_their_own_value(criterion: str, ring: TrainingData) -> None:
    made = GRU4RecCrossEntropy(**SMALL | {"stopping_criterion": criterion})
    made.fit(ring)
    assert len(made.values) == 2 and made.best_value == (min if criterion in ("bpr", "warp") else max)(made.values)
    if criterion == "recall":  # at 50, among 40 items
        assert made.values == [1.0, 1.0]


@pytest.mark.parametrize(("criterion", "perfect", "flat"), [("bpr", 0.0, math.log(2)), ("warp", 0.0, 1.9 * math.log(41))])
def test_losses_of_pairs_are_small_for_a_good_model(criterion: str, perfect: float, flat: float, ring: TrainingData) -> None:
    values = []
    for height in (100.0, 0.0, -100.0):

        def scores(histories: Histories, height: float = height) -> torch.Tensor:
            made = torch.zeros(len(histories), 41)
            rows = np.searchsorted(ring.valid.users, histories.users.numpy())
            made[torch.arange(len(rows)), torch.as_tensor(ring.valid.targets.values[rows])] = height
            return made

        fit = SimpleNamespace(model=SimpleNamespace(scores=scores), device="cpu")
        made = GRU4RecCrossEntropy(**SMALL | {"stopping_criterion": criterion})
        values.append(made._loss_of_pairs(fit, ring.valid, 40, seed=0))  # type: ignore[arg-type]
    assert values[:2] == pytest.approx([perfect, flat], abs=1e-6) and values[2] > 99


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Values that the stopping criterion will have, epoch by epoch."""
    script: list[float] = []
    monkeypatch.setattr(GRU4RecNegSampling, "_value", lambda self, *_, **__: script[len(self.values)])
    return script


def test_the_best_epoch_is_kept_or_the_last(scripted: list[float], ring: TrainingData) -> None:
    scripted += [0.1, 0.9, 0.2]
    best = scores(sampling(ring, max_epochs=3), ring)
    last = scores(sampling(ring, max_epochs=3, keep_last=True), ring)
    second = scores(sampling(ring, max_epochs=2, keep_last=True), ring)
    assert np.array_equal(best, second) and not np.array_equal(best, last)


def test_min_improvement_decides_what_is_better(scripted: list[float], ring: TrainingData) -> None:
    scripted += [0.1, 0.15, 0.3]
    made = sampling(ring, max_epochs=2, min_improvement=0.1)
    assert made.best_value == 0.1
    assert np.array_equal(scores(made, ring), scores(sampling(ring, max_epochs=1), ring))


def test_stop_early_counts_epochs_without_a_better_value(scripted: list[float], ring: TrainingData) -> None:
    scripted += [0.5, 0.4, 0.6, 0.1, 0.1, 0.9]
    for options, epochs in (({}, 6), ({"stop_early": True}, 6), ({"stop_early": True, "max_iter_no_change": 2}, 5),
                            ({"stop_early": True, "max_iter_no_change": 1}, 2)):  # fmt: skip
        assert len(sampling(ring, max_epochs=6, **options).values) == epochs


def test_a_sample_of_validation_cases(ring: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    made = Fit.__init__

    def watched(self: Fit, spec: Any, data: TrainingData, **options: Any) -> None:
        seen.append(data.valid.users.tolist())
        made(self, spec, data, **options)

    monkeypatch.setattr(Fit, "__init__", watched)
    for options in (
        {},
        {"validation_sample_size": 7},
        {"validation_sample_size": 7, "seed": 5},
        {"validation_sample_size": 999},
    ):
        sampling(ring, max_epochs=1, **options)
    assert [len(users) for users in seen] == [60, 7, 7, 60]
    assert seen[1] != seen[2] and set(seen[1]) <= set(seen[0])


def test_the_first_k_items_of_a_list_in_prediction_and_validation(ring: TrainingData) -> None:
    whole, cut = (sampling(ring, predict_topK=k) for k in (None, 3))
    histories = Histories.of(ring.valid.users, ring.valid.histories)
    everything, head = whole.predict(histories), cut.predict(histories)
    assert everything.shape == head.shape == (60, 41)
    assert np.diff(everything.indptr).tolist() == [40] * 60 and np.diff(head.indptr).tolist() == [3] * 60
    assert 0 not in everything.indices
    best = np.argsort(-scores(cut, ring), axis=1)[:, :3]
    for row in range(60):
        assert set(best[row]) == set(head.indices[head.indptr[row] : head.indptr[row + 1]])
    assert whole.best_value == 1.0  # recall@50 among 40 items
    assert cut.best_value < 1.0


@pytest.mark.fidelity("G24")
def test_saved_weights_load_and_score_the_same(ring: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sampling(ring)
    assert not list(tmp_path.iterdir())
    made = sampling(ring, save_best_to_file=True)
    assert [path.name for path in tmp_path.iterdir()] == [made.filename]
    again = GRU4RecNegSampling(**{"num_negatives": 5, "save_best_to_file": True} | SMALL).load(made.filename, ring)
    assert np.array_equal(scores(made, ring), scores(again, ring))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="other parameters"):
        GRU4RecNegSampling(**SMALL).load(made.filename, ring)
    # Weights that were trained on a GPU are read where there is none.
    places: list[Any] = []

    def watched(*_: Any, map_location: Any = None, **__: Any) -> dict[str, Any]:
        places.append(map_location)
        return {"parameters": {}}

    monkeypatch.setattr(torch, "load", watched)
    with pytest.raises(ModelError, match="other parameters"):
        GRU4RecNegSampling(**SMALL).load(made.filename, ring)
    assert places == ["cpu"]


def test_seeds(ring: TrainingData) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again = sampling(ring), sampling(ring)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(scores(first, ring), scores(again, ring))
    drawn = [sampling(ring, seed=None).used_seed for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_weights_of_another_catalogue_are_refused(ring: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = sampling(ring, save_best_to_file=True)
    again = GRU4RecNegSampling(**{"num_negatives": 5} | SMALL)
    with pytest.raises(ModelError, match="a model of other data"):
        again.load(made.filename, made_up_data(items=ring.n_items + 3))
    assert again.model is None


def test_mistakes_are_told_in_words(ring: TrainingData) -> None:
    with pytest.raises(UnknownNameError, match="stopping criterion"):
        GRU4RecNegSampling(stopping_criterion="recal")
    with pytest.raises(UnknownNameError, match="loss_fn"):
        GRU4RecNegSampling(loss_fn="cross-entropy")
    for other in ("adm", "adam", "Adagrad"):  # RecPack has no Adam
        with pytest.raises(UnknownNameError, match="optimization_algorithm"):
            GRU4RecNegSampling(optimization_algorithm=other)
    wrong = {
        "max_epochs": [0, 1.5, "3", None],
        "predict_topK": [0, 2.5],
        "validation_sample_size": [0.5],
        "seed": [-1, "x", 1.5],
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ModelError, match=f"{name} must be a whole number"):
                GRU4RecCrossEntropy(**{name: value})
    for value in (math.nan, math.inf, "0.1"):
        with pytest.raises(ModelError, match="min_improvement must be a finite number"):
            GRU4RecCrossEntropy(min_improvement=value)
    with pytest.raises(ModelError, match="has not been fitted"):
        GRU4RecCrossEntropy().predict(Histories.of(ring.valid.users, ring.valid.histories))
