"""The search space of a model: what is varied, between which bounds, under which conditions, and who says so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import Field, model_validator

from benchbed.config import Schema, canonical, fingerprint

if TYPE_CHECKING:
    import optuna

Scalar: TypeAlias = bool | int | float | str | None
Labels: TypeAlias = dict[str, Any]
"""What Optuna stores of a configuration: dimension -> number, or the label of a choice. Inactive dimensions are absent."""

Conditions: TypeAlias = dict[str, Scalar | list[Scalar]]


class Range(Schema):
    """One searched hyper-parameter: an interval, or a list of choices.

    Attributes
    ----------
    low, high
        Ends of the interval, both included.
    log
        Whether to draw on a logarithmic scale.
    step
        Distance of the values; None for every value in between.
    choices
        The values themselves, in place of an interval.
    when
        ``{other: value}`` or ``{other: [values]}``: searched only while the other dimension has (one of) these values; else the
        hyper-parameter keeps its default.
    source
        Where the range comes from.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | float | None = Field(None, gt=0)
    choices: list[Scalar | list[Scalar]] | None = None
    when: Conditions = Field(default_factory=dict)
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _one_form(self) -> Range:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.step is not None or self.log:
                raise ValueError("give either choices, or low and high (with log or step), not both")
            if len(self.choices) < 2:
                raise ValueError("a parameter with a single choice is not searched; write it under 'defaults'")
            if len({canonical(choice) for choice in self.choices}) < len(self.choices):
                raise ValueError("a choice stands twice")
            return self
        if self.low is None or self.high is None:
            raise ValueError("give low and high, or choices")
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be smaller than high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low above 0 (it is {self.low})")
        if self.log and self.step is not None:
            raise ValueError("a logarithmic range has no step")
        if self.step is not None:
            steps = (self.high - self.low) / self.step
            if abs(steps - round(steps)) > 1e-9 * max(1.0, steps):
                last = self.low + math.floor(steps) * self.step
                raise ValueError(f"high ({self.high:g}) is never reached: steps of {self.step:g} end at {last:g}")
        return self


class Joint(Schema):
    """A dimension whose choices set several hyper-parameters at once.

    Attributes
    ----------
    choices
        Label -> the hyper-parameters it sets; every choice sets the same ones.
    when, source
        As in :class:`Range`.
    """

    choices: dict[str, dict[str, Any]] = Field(min_length=2)
    when: Conditions = Field(default_factory=dict)
    source: str = Field(min_length=1)

    @model_validator(mode="after")
    def _same_keys(self) -> Joint:
        keys = [frozenset(values) for values in self.choices.values()]
        if not keys[0] or len(set(keys)) > 1:
            raise ValueError("every choice must set the same hyper-parameters, at least one")
        return self

    @property
    def sets(self) -> tuple[str, ...]:
        """The hyper-parameters that this dimension decides."""
        return tuple(next(iter(self.choices.values())))


class SearchSpace(Schema):
    """The search space of one model, as its YAML file says it.

    Attributes
    ----------
    model
        Name of the model.
    variant
        Label that the model must give to the default configuration; None leaves it to the model.
    max_epochs
        Cap of epochs of a search trial.
    final_max_epochs
        Cap of epochs of the row's final runs; None leaves it to the benchmark.
    patience
        Epochs without improvement before a trial ends by itself; None trains up to the cap.
    defaults
        Hyper-parameters that differ from the defaults of the model's Config; together they are trial 0.
    parameters, joint
        The searched dimensions.

    Examples
    --------
    >>> space = SearchSpace(model="ease", max_epochs=1,
    ...                     parameters={"regularisation": {"choices": [10.0, 250.0], "source": "here"}})
    >>> space.size(), list(space.configurations())
    (2, [{'regularisation': 10.0}, {'regularisation': 250.0}])
    """

    model: str
    variant: str | None = None
    max_epochs: int = Field(ge=1)
    final_max_epochs: int | None = Field(None, ge=1)
    patience: int | None = Field(None, ge=1)
    defaults: dict[str, Any] = Field(default_factory=dict)
    parameters: dict[str, Range] = Field(default_factory=dict)
    joint: dict[str, Joint] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _no_clash(self) -> SearchSpace:
        for name in self.joint:
            if name in self.parameters:
                raise ValueError(f"'{name}' stands under parameters and under joint")
        return self

    # ----- shape ----------------------------------------------------------------------------------------------------

    @property
    def dimensions(self) -> dict[str, Range | Joint]:
        """All searched dimensions by name."""
        return {**self.parameters, **self.joint}

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Dimensions, each behind those its condition asks for.

        Raises
        ------
        ValueError
            The conditions form a cycle.
        """
        left = {name: set(dimension.when) & set(self.dimensions) for name, dimension in self.dimensions.items()}
        ordered: list[str] = []
        while left:
            ready = [name for name, parents in left.items() if parents <= set(ordered)]
            if not ready:
                raise ValueError(f"the conditions of {', '.join(sorted(left))} wait for each other")
            ordered += ready
            for name in ready:
                del left[name]
        return tuple(ordered)

    def active(self, name: str, labels: Mapping[str, Any]) -> bool:
        """Whether a dimension is searched, given the dimensions before it."""
        for other, wanted in self.dimensions[name].when.items():
            values = wanted if isinstance(wanted, list) else [wanted]
            if other not in labels or labels[other] not in [label_of(value) for value in values]:
                return False
        return True

    def values(self, name: str) -> list[Any] | None:
        """The labels of one dimension when they are finitely many, else None."""
        dimension = self.dimensions[name]
        if isinstance(dimension, Joint):
            return list(dimension.choices)
        if dimension.choices is not None:
            return [label_of(choice) for choice in dimension.choices]
        low, high, step = _ends(dimension)
        if self.is_integer(name):
            return list(range(int(low), int(high) + 1, int(step or 1)))
        if step is None:
            return None
        return [low + k * step for k in range(math.floor((high - low) / step + 1e-9) + 1)]

    def is_integer(self, name: str) -> bool:
        """Whether an interval holds whole numbers: its Config field is an ``int``."""
        from benchbed.models.registry import model_class

        return model_class(self.model).Config.model_fields[name].annotation is int

    def size(self) -> int | None:
        """Number of different configurations, None when there is no end to them."""
        parents = {other for dimension in self.dimensions.values() for other in dimension.when}

        def count(position: int, labels: Labels) -> int | None:
            if position == len(self.order):
                return 1
            name = self.order[position]
            if not self.active(name, labels):
                return count(position + 1, labels)
            values = self.values(name)
            if values is None:
                return None
            if name not in parents:
                rest = count(position + 1, labels)
                return None if rest is None else len(values) * rest
            counts = [count(position + 1, {**labels, name: value}) for value in values]
            return None if None in counts else sum(c for c in counts if c is not None)

        return count(0, {})

    def configurations(self) -> Iterator[Labels]:
        """Every configuration of a finite space, in the order of the file."""

        def walk(position: int, labels: Labels) -> Iterator[Labels]:
            if position == len(self.order):
                yield dict(labels)
                return
            name = self.order[position]
            if not self.active(name, labels):
                yield from walk(position + 1, labels)
                return
            for value in self.values(name) or []:
                yield from walk(position + 1, {**labels, name: value})

        return walk(0, {})

    # ----- drawing --------------------------------------------------------------------------------------------------

    def suggest(self, trial: optuna.Trial) -> Labels:
        """Draw one configuration, define-by-run; what a trial already holds is kept."""
        labels: Labels = {}
        for name in self.order:
            if self.active(name, labels):
                labels[name] = self._suggest_one(trial, name)
        return labels

    def _suggest_one(self, trial: optuna.Trial, name: str) -> Any:
        dimension = self.dimensions[name]
        if isinstance(dimension, Joint):
            return trial.suggest_categorical(name, list(dimension.choices))
        if dimension.choices is not None:
            return trial.suggest_categorical(name, [label_of(choice) for choice in dimension.choices])
        low, high, step = _ends(dimension)
        if self.is_integer(name):
            return trial.suggest_int(name, int(low), int(high), step=int(step or 1), log=dimension.log)
        return trial.suggest_float(name, low, high, step=step, log=dimension.log)

    def to_parameters(self, labels: Mapping[str, Any]) -> dict[str, Any]:
        """Hyper-parameters of a configuration: the file's defaults, and what the labels stand for."""
        made = dict(self.defaults)
        for name, label in labels.items():
            dimension = self.dimensions[name]
            if isinstance(dimension, Joint):
                made.update(dimension.choices[str(label)])
            elif dimension.choices is not None:
                made[name] = next(choice for choice in dimension.choices if label_of(choice) == label)
            else:
                made[name] = label
        return made

    def default_labels(self) -> Labels:
        """The configuration of trial 0: the file's defaults over those of the model's Config.

        Raises
        ------
        ValueError
            A joint dimension has no choice that is the default.
        """
        config = self.default_config()
        labels: Labels = {}
        for name in self.order:
            if not self.active(name, labels):
                continue
            dimension = self.dimensions[name]
            if isinstance(dimension, Joint):
                labels[name] = next(
                    (label for label, sets in dimension.choices.items() if all(config[k] == v for k, v in sets.items())), None
                )
                if labels[name] is None:
                    raise ValueError(f"no choice of '{name}' is the default configuration")
            else:
                labels[name] = label_of(config[name])
        return labels

    def default_config(self) -> dict[str, Any]:
        """All hyper-parameters of the default configuration."""
        from benchbed.models.registry import model_class

        return model_class(self.model).Config.model_validate(self.defaults).model_dump(mode="json")

    @property
    def default_variant(self) -> str:
        """The label that the model gives to the default configuration."""
        from benchbed.models.registry import model_class

        found = model_class(self.model)
        return found.variant(found.Config.model_validate(self.defaults))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that decides what is searched; words about sources are left out."""
        said = self.model_dump(mode="json", exclude={"max_epochs": True, "final_max_epochs": True})
        for dimension in (*said["parameters"].values(), *said["joint"].values()):
            del dimension["source"]
        return fingerprint(said, self.default_config())


def label_of(value: Any) -> Any:
    """What Optuna stores of a choice: scalars as they are, lists as text.

    Examples
    --------
    >>> label_of([64, 32]), label_of(3)
    ('[64,32]', 3)
    """
    return canonical(value) if isinstance(value, list | tuple | dict) else value


def _ends(dimension: Range) -> tuple[float, float, float | None]:
    assert dimension.low is not None and dimension.high is not None
    return dimension.low, dimension.high, dimension.step
