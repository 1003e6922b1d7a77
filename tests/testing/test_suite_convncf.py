"""ConvNCF under the suite: both variants, with and without pre-training; and MF-BPR, its start."""

from __future__ import annotations

from typing import Any

import pytest

from benchbed.data.dataset import TrainingData
from benchbed.models.convncf import ConvNCF
from benchbed.models.mf_bpr import MFBPR
from benchbed.testing import ModelSuite, Vary

SMALL: dict[str, Any] = {"embedding_size": 4, "channels": 8, "batch_size": 30, "fold_in_steps": 2, "pretrain_epochs": 3}
FOR_ALL: dict[str, Any] = {
    "embedding_size": 8,
    "geometry": [4],
    "channels": [2, 3],
}


class FromTriples(ModelSuite):
    def targets_of_an_epoch(self, data: TrainingData) -> int:
        """Every event is a positive, the first of a sequence too."""
        return len(data.train.items.values)


@pytest.mark.fidelity("N7", "N12")
class TestAuthors(FromTriples):
    model = ConvNCF
    parameters = SMALL
    variations = {
        **FOR_ALL,
        # The first epoch of this variant has no penalties and a rate of its own.
        **{key: Vary(value, epochs=2) for key, value in {"lambda1": 1.0, "gamma": 1.0, "lambda3": 5.0}.items()},
        **{key: Vary(0.2, epochs=2) for key in ("learning_rate", "network_learning_rate")},
        "penalty": Vary("norm", epochs=2),
        "optimizer": Vary("adam", epochs=2),
    }


@pytest.mark.fidelity("N7", "N12")
class TestRecBole(FromTriples):
    model = ConvNCF
    parameters = {**SMALL, "variant": "recbole", "pretrain_epochs": 0}
    variations = {
        **FOR_ALL,
        "network_learning_rate": 0.1,
        "pretrain_learning_rate": Vary(0.1, where={"pretrain_epochs": 1}),
        "pretrain_regularisation": Vary(0.5, where={"pretrain_epochs": 1}),
    }


class TestPretrained(FromTriples):
    """What the checks of training say of a run with all that the first epoch can have; the keys are varied above."""

    model = ConvNCF
    parameters = {**SMALL, "pretrain_epochs": 2, "dns": 2, "dropout": 0.3}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "hyper_parameter" in metafunc.fixturenames:
            metafunc.parametrize("hyper_parameter", ["pretrain_epochs"])


@pytest.mark.fidelity("N12")
class TestMFBPR(FromTriples):
    model = MFBPR
    parameters = {"embedding_size": 4, "batch_size": 40, "fold_in_steps": 2}
