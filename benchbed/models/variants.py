"""Presets of hyper-parameters: one word for a known form of a model, and a label that says when it was changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from benchbed.models.base import ModelConfig


def fill(values: Any, presets: Mapping[str, Mapping[str, Any]], default: str) -> Any:
    """Put the preset of ``variant`` under the values that were given; a given value wins.

    Meant for a ``model_validator(mode="before")``: what is no mapping, and a variant that does not exist, are handed on as
    they are, so that pydantic says what is wrong with them.

    Parameters
    ----------
    values
        What was given.
    presets
        Variant -> the keys whose defaults it decides.
    default
        The variant when none is given.

    Returns
    -------
    dict
        A new mapping; ``values`` stays as it is.

    Examples
    --------
    >>> presets = {"paper": {"layers": 1, "bias": True}, "port": {"layers": 2, "bias": False}}
    >>> fill({"variant": "port", "bias": True}, presets, "paper")
    {'variant': 'port', 'layers': 2, 'bias': True}
    >>> fill({}, presets, "paper")
    {'variant': 'paper', 'layers': 1, 'bias': True}
    """
    if not isinstance(values, Mapping):
        return values
    chosen = values.get("variant", default)
    preset = presets.get(chosen, {}) if isinstance(chosen, str) else {}
    return {"variant": chosen, **preset, **values}


def label(config: ModelConfig, form: Collection[str], alike: Collection[str] = ()) -> str:
    """The variant's name, with ``, changed`` behind it where a key of ``form`` is not what the variant says.

    Parameters
    ----------
    config
        A configuration with a field ``variant`` whose other fields all have defaults.
    form
        The keys that make another model when they change (a loss, a way of batching), not those that tune it (a width, a rate).
    alike
        Keys that the variant leaves open although other defaults follow from them: the variant is taken with the same values.
    """
    said: str = config.variant  # type: ignore[attr-defined]  # every config with variants has the field; the base has not
    preset = type(config).model_validate({"variant": said, **{key: getattr(config, key) for key in alike}})
    return f"{said}, changed" if any(getattr(config, key) != getattr(preset, key) for key in form) else said
