"""Presets and their labels."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import ValidationError, model_validator

from benchbed.models.base import ModelConfig
from benchbed.models.variants import fill, label

PRESETS = {"paper": {"layers": 1}, "port": {"layers": 2}}


class Config(ModelConfig):
    variant: Literal["paper", "port"]
    layers: int
    width: int = 8

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        return fill(values, PRESETS, "paper")


def test_a_variant_decides_defaults_and_given_values_win() -> None:
    assert Config.model_validate({}).layers == 1
    assert Config.model_validate({"variant": "port"}).layers == 2
    assert Config.model_validate({"variant": "port", "layers": 5}).layers == 5


def test_the_given_mapping_stays_as_it_is() -> None:
    given = {"variant": "port"}
    fill(given, PRESETS, "paper")
    assert given == {"variant": "port"}


@pytest.mark.parametrize("values", [{"variant": "other"}, {"variant": ["port"]}, ["no mapping"]])
def test_what_cannot_be_filled_is_refused_by_the_schema(values: Any) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate(values)


def test_the_label_tells_a_changed_form_but_not_a_tuned_width() -> None:
    labels = [label(Config.model_validate(v), ["layers"]) for v in ({}, {"width": 9}, {"layers": 3}, {"variant": "port"})]
    assert labels == ["paper", "paper", "paper, changed", "port"]
