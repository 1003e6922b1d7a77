"""GRU4RecF under the suite: both variants, and the ways of training its two networks."""

from __future__ import annotations

import pytest

from benchbed.models.gru4recf import GRU4RecF
from benchbed.testing import ModelSuite, Vary

SMALL = {"embedding_size": 5, "hidden_size": 7, "batch_targets": 40, "window": 4, "burn_in": 2, "dropout_embed": 0.2}
FOR_ALL = {
    "features": ["tags"],
    "n_negatives": Vary(3, where={"loss": "bpr", "n_negatives": 2}),
    "batching": Vary("prefixes", where={"burn_in": 0}),
    "item_epochs": Vary(
        1, where={"variant": "paper", "output": "own", "training_mode": "residual", "item_epochs": 2}, epochs=2
    ),
    "training_mode": Vary("interleaving", where={"variant": "paper", "output": "own"}),
    "shuffle_seed": Vary(1, where={"shuffle_features": True}),
}


@pytest.mark.fidelity("G4", "G11", "G18", "G20", "G24")
class TestRecBole(ModelSuite):
    model = GRU4RecF
    parameters = SMALL
    variations = {**FOR_ALL, "learning_rate": 0.1}


@pytest.mark.fidelity("G4", "G11", "G18", "G20", "G24")
class TestPaper(ModelSuite):
    model = GRU4RecF
    parameters = {**SMALL, "variant": "paper", "n_negatives": 4}
    variations = {
        **FOR_ALL,
        "variant": Vary("recbole", where={"n_negatives": 1, "loss": "bpr"}),
        "loss": "bpr",
        "padding_in_softmax": Vary(True, where={"loss": "cross-entropy", "output": "shared", "n_negatives": 0}),
    }


class InTurn(ModelSuite):
    """What the checks of training say of one mode; the keys are varied above."""

    model = GRU4RecF

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "hyper_parameter" in metafunc.fixturenames:
            metafunc.parametrize("hyper_parameter", ["training_mode"])


class TestAlternating(InTurn):
    parameters = {**SMALL, "variant": "paper", "training_mode": "alternating"}


class TestResidual(InTurn):
    parameters = {**SMALL, "variant": "paper", "training_mode": "residual", "item_epochs": 1}
    variations = {"training_mode": Vary("interleaving", where={"item_epochs": 0, "training_mode": "alternating"})}


class TestInterleaving(InTurn):
    parameters = {**SMALL, "variant": "paper", "training_mode": "interleaving"}
