"""MKR under the suite: all variants, both outputs, listed negatives, and without steps on the graph."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from benchbed.data.dataset import Labelled, TrainingData
from benchbed.models.mkr import MKR
from benchbed.models.mkr_config import PRESETS
from benchbed.testing import ModelSuite, Vary

SMALL = {"embedding_size": 5, "batch_size": 40, "kge_interval": 2, "learning_rate": 0.01, "fold_in_steps": 3}
FOR_ALL = {"kge_interval": Vary(1, epochs=2), "l2": 0.01, "fold_in_steps": 6, "dropout": 0.3}


class OfEvents(ModelSuite):
    """Every training event is a target, the first of a user too. The rows that a click-through split would list lie beside.

    ``varied`` are the hyper-parameters whose effect is looked for, where it is not all of them.
    """

    model = MKR
    varied: ClassVar[tuple[str, ...]] = tuple(MKR.Config.model_fields)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "hyper_parameter" in metafunc.fixturenames:
            metafunc.parametrize("hyper_parameter", self.varied)

    def data(self) -> TrainingData:
        data = super().data()
        users, items = np.repeat(data.train.users, 4), np.arange(4 * len(data.train.users)) % (data.n_items + 1)
        return replace(data, labelled=Labelled(users, items, np.tile([1, 0, 0, 1], len(data.train.users))))

    def targets_of_an_epoch(self, data: TrainingData) -> int:
        return len(data.train.items.values)


@pytest.mark.fidelity("M5")
class TestAuthors(OfEvents):
    parameters = SMALL
    variations = FOR_ALL


@pytest.mark.fidelity("M5")
class TestPaper(OfEvents):
    parameters = {**SMALL, "variant": "paper", "low_layers": 2, "activation": "leaky_relu"}
    variations = FOR_ALL
    varied = ("variant", "low_layers", "high_layers", "kge_form", "kge_negatives", "kge_rate", "heads", "l2", "shuffle_tails")


@pytest.mark.fidelity("M5")
class TestRecBole(OfEvents):
    parameters = {**SMALL, "variant": "recbole"}
    variations = FOR_ALL
    varied = (*PRESETS["recbole"], "variant", "kge_interval", "l2", "shuffle_tails")


@pytest.mark.fidelity("M5")
class TestMlp(OfEvents):
    parameters = {**SMALL, "output": "mlp", "high_layers": 2, "activation": "leaky_relu"}
    variations = FOR_ALL
    varied = ("output", "high_layers", "l2", "dropout", "fold_in_steps")


@pytest.mark.fidelity("M5")
class TestWithoutGraphSteps(OfEvents):
    parameters = {**SMALL, "kge_interval": 0}
    variations = {**FOR_ALL, "kge_interval": 1, "variant": "recbole", "high_layers": Vary(2, where={"output": "mlp"})}
    refused = frozenset({"kge_form", "kge_negatives", "kge_rate", "heads", "shuffle_tails"})
    varied = (*sorted(refused), "variant", "kge_interval", "low_layers", "high_layers", "output", "penalty")


class TestListedNegatives(OfEvents):
    parameters = {**SMALL, "negatives": "given"}
    variations = FOR_ALL
    varied = ("negatives", "batch_size", "l2")

    def targets_of_an_epoch(self, data: TrainingData) -> int:
        assert data.labelled is not None
        return int((data.labelled.items > 0).sum())
