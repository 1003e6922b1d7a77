"""Hyper-parameters of MKR: variants, labels, and what does not go together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from benchbed.models.mkr import MKR, MKRConfig


@pytest.mark.parametrize(
    ("keys", "label"),
    [
        ({}, "authors"),
        ({"variant": "paper"}, "paper"),
        ({"variant": "recbole"}, "recbole"),
        ({"kge_rate": 0.5}, "authors"),
        ({"kge_rate": None}, "authors, one Adam"),
        ({"activation": "sigmoid"}, "authors, changed"),
        ({"kge_negatives": 1}, "authors, changed"),
        ({"kge_interval": 0}, "authors, no graph steps"),
        ({"variant": "recbole", "kge_interval": 0}, "recbole, no graph steps"),
        ({"shuffle_tails": True, "output": "mlp"}, "authors, mlp output, tails shuffled"),
        ({"variant": "recbole", "output": "mlp_sigmoid"}, "recbole, mlp sigmoid output"),
        ({"negatives": "given"}, "authors, listed negatives"),
    ],
)
def test_the_label_says_what_makes_another_model(keys: dict[str, Any], label: str) -> None:
    assert MKR.variant(MKRConfig(**keys)) == label


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"kge_interval": 0, "shuffle_tails": True}, "shuffle_tails has no effect"),
        ({"kge_interval": 0, "kge_rate": 0.2}, "kge_rate .* must be null"),
        ({"kge_interval": 0, "high_layers": 2}, "high_layers must be 1"),
        ({"kge_interval": 0, "variant": "paper"}, "variant authors"),
        ({"output": "mlp_sigmoid"}, "needs activation: sigmoid"),
        ({"batch_size": 1}, "batch_size"),
        ({"variant": "peper"}, "variant"),
    ],
)
def test_what_has_no_effect_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MKRConfig(**keys)


def test_a_given_key_wins_over_its_variant() -> None:
    config = MKRConfig(variant="recbole", activation="relu")
    assert (config.activation, config.unit_biases, config.kge_rate) == ("relu", "scalars", None)
