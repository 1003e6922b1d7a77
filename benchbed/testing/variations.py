"""Other values for a hyper-parameter: found by itself for numbers, switches and choices, given by hand for the rest."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import ValidationError

from benchbed.models.base import ModelConfig


@dataclass(frozen=True)
class Vary:
    """How one hyper-parameter is varied.

    Attributes
    ----------
    to
        The other value.
    where
        Hyper-parameters that hold on both sides of the comparison: the context in which this one has an effect.
    epochs
        How many it takes to see it.

    Examples
    --------
    >>> Vary(0.0, where={"loss": "bpr-max"}).where
    {'loss': 'bpr-max'}
    """

    to: Any
    where: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 1


def other_values(kind: type[ModelConfig], parameters: Mapping[str, Any], key: str) -> list[Any]:
    """Values of one hyper-parameter that differ from its present one and that the ``Config`` accepts, the nearest first.

    Parameters
    ----------
    kind
        The ``Config``.
    parameters
        The present configuration.
    key
        Its name.

    Returns
    -------
    list
        Every other choice of a ``Literal``; at most three numbers; empty where none is accepted or the type is another.
    """
    present = getattr(kind.model_validate(dict(parameters)), key)
    annotation = kind.model_fields[key].annotation
    found: list[Any] = []
    for value in _candidates(annotation, present):
        same = value == present and type(value) is type(present)
        if not same and value not in found and accepts(kind, {**parameters, key: value}):
            found.append(value)
    return found if _is_choice(annotation) else found[:3]


def accepts(kind: type[ModelConfig], parameters: Mapping[str, Any]) -> bool:
    """Whether a ``Config`` takes these values together."""
    try:
        kind.model_validate(dict(parameters))
    except ValidationError:
        return False
    return True


def _members(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _is_choice(annotation: Any) -> bool:
    return any(get_origin(member) is Literal for member in _members(annotation))


def _candidates(annotation: Any, present: Any) -> Iterator[Any]:
    for member in _members(annotation):
        if get_origin(member) is Literal:
            yield from get_args(member)
        elif member is bool:
            yield from (True, False)
        elif member is int:
            count = present if isinstance(present, int) else 1
            yield from (count + 1, count - 1, 2 * count, count // 2, 1, 2, 0)
        elif member is float:
            size = float(present) if isinstance(present, int | float) else 0.5
            yield from (2 * size, size / 2, size + 0.25, size - 0.25, 0.5, 1.0, 0.0)
        elif member is type(None):
            yield None
