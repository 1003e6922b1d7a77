"""GRU4Rec under the suite, one class a variant."""

from __future__ import annotations

import pytest

from benchbed.models.gru4rec import GRU4Rec
from benchbed.testing import ModelSuite, Vary

SHARED = {"shared_negatives": True, "n_negatives": 5}
IN_WINDOWS = {"embedding_size": 6, "hidden_size": 7, "batch_targets": 40, "window": 4, "learning_rate": 0.01}
FOR_ALL = {
    "bpreg": Vary(0.0, where={"loss": "bpr-max", "n_negatives": 5}),
    "elu_alpha": Vary(0.5, where={"n_negatives": 5}),
    "logq": Vary(1.0, where=SHARED),
    "sample_alpha": Vary(0.7, where=SHARED),
    "clip_norm": 0.01,
    "momentum": Vary(0.5, where={"optimizer": "sgd"}),
}


@pytest.mark.fidelity("G4", "G11", "G18", "G20", "G24")
class TestWindows(ModelSuite):
    model = GRU4Rec
    parameters = {**IN_WINDOWS, "burn_in": 2}
    variations = {
        **FOR_ALL,
        "variant": Vary("recbole", where={"burn_in": 0}),
        "batching": Vary("prefixes", where={"burn_in": 0}),
        "embedding_mode": Vary("separate", where={"projection": False, "hidden_size": 6}),
        "projection": Vary(False, where={"hidden_size": 6}),
    }
    refused = frozenset({"bptt", "batch_size"})


@pytest.mark.fidelity("G4", "G11", "G18", "G20", "G24")
class TestRecBole(ModelSuite):
    """Without the place that the port gives to padding in the softmax, where row 0 does learn."""

    model = GRU4Rec
    parameters = {"variant": "recbole", **IN_WINDOWS, "padding_in_softmax": False}
    variations = {
        **FOR_ALL,
        "variant": "windows",
        "batching": "windows",
        "embedding_mode": Vary("separate", where={"projection": False, "hidden_size": 6}),
        "projection": Vary(False, where={"hidden_size": 6}),
    }
    refused = frozenset({"burn_in", "bptt", "batch_size"})


@pytest.mark.fidelity("G4", "G6", "G11", "G18", "G20", "G24")
class TestOfficial(ModelSuite):
    model = GRU4Rec
    parameters = {"variant": "official", "hidden_size": 7, "n_negatives": 5, "batch_size": 6, "bptt": 2}
    variations = {
        **FOR_ALL,
        "sample_alpha": 0.9,
        "variant": Vary("recpack", where={"cell": "reset_before"}),
        "padding_in_softmax": Vary(True, where={"n_negatives": 0, "shared_negatives": False}),
        "cell": Vary("reset_after", where={"batching": "user_chunks"}),
        "embedding_size": Vary(5, where={"projection": True}),
    }
    refused = frozenset({"window", "burn_in", "batch_targets"})


@pytest.mark.fidelity("G4", "G6", "G11", "G18", "G20", "G24")
class TestRecPack(ModelSuite):
    model = GRU4Rec
    parameters = {"variant": "recpack", "embedding_size": 6, "hidden_size": 7, "n_negatives": 5, "batch_size": 6, "bptt": 3}
    variations = {
        **FOR_ALL,
        "variant": Vary("official", where={"cell": "reset_before", "hidden_size": 6}),
        "logq": Vary(1.0, where={**SHARED, "loss": "cross-entropy"}),
        "padding_in_softmax": Vary(True, where={"loss": "cross-entropy", "n_negatives": 0, "padding_in_softmax": False}),
        "embedding_mode": Vary("shared", where={"hidden_size": 6}),
        "projection": Vary(True, where={"embedding_mode": "shared", "hidden_size": 6}),
        "batching": Vary("session_parallel", where={"cell": "reset_before"}),
    }
    refused = frozenset({"window", "burn_in", "batch_targets"})
