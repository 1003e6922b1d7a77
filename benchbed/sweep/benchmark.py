"""The benchmark file: dataset + split + evaluation + models + budget + seeds + resources (the question)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, ValidationInfo, field_validator

from benchbed.config import Schema, mistake
from benchbed.data.split.spec import SplitSpec
from benchbed.errors import nearest
from benchbed.evaluation.protocol import Protocol
from benchbed.models.registry import baselines_of


def _plain(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,79}", name):
        raise ValueError(
            f"'{name}' cannot name a folder: take up to 80 small letters, digits, '.', '_' and '-', a letter or digit first"
        )
    return name


Name = Annotated[str, AfterValidator(_plain)]
LARGEST_SEED = 2**53
"""Of final runs: the storage of studies keeps larger numbers inexactly."""

Seeds = Annotated[tuple[int, ...], Field(min_length=1)]


class SearchBudget(Schema):
    """The search stage: the same for every model.

    Attributes
    ----------
    trials
        Optuna trials of every model (fewer only where a space holds fewer configurations).
    seconds_per_trial
        Cap of one trial in seconds of wall time, training and validation included; None for no cap.
    sampler, pruner
        Of Optuna.
    seed
        Of the sampler, and of the trials' own random numbers.
    max_epochs
        Cap of epochs; None takes each model's own from its search space.
    """

    trials: int = Field(20, ge=1)
    seconds_per_trial: float | None = Field(600, gt=0)
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["successive_halving", "median", "none"] = "successive_halving"
    seed: int = Field(0, ge=0, lt=2**63)
    max_epochs: int | None = Field(None, ge=1)


class FinalStage(Schema):
    """The final stage: the best configuration of each model, several training seeds, each opening the test set once.

    ``max_epochs`` caps final runs; by default they stop by patience alone (at most ten times the search's cap).
    """

    seeds: Seeds = (1, 2, 3)
    patience: int = Field(10, ge=1)
    max_epochs: int | None = Field(None, ge=1)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a seed stands twice")
        wrong = next((place for place, seed in enumerate(value) if not 0 <= seed <= LARGEST_SEED), None)
        if wrong is not None:
            raise mistake(f"{value[wrong]} is no seed of training; give whole numbers from 0 to {LARGEST_SEED}", at=(wrong,))
        return value


class Shares(Schema):
    """Resources of one trial. ``gpu`` may be a fraction."""

    cpu: float = Field(1, gt=0)
    gpu: float = Field(0, ge=0)

    @field_validator("gpu")
    @classmethod
    def _whole(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("a trial gets a share of one GPU (up to 1), or several whole ones")
        return value


class Published(Schema):
    """Published values of a row, on the same data and protocol; the leaderboard compares the row with them.

    Attributes
    ----------
    row
        Name of a row of this benchmark.
    values
        Column, as in ``hit_rate@10``, to value.
    source
        Where they stand.
    """

    row: str
    values: dict[str, float] = Field(min_length=1)
    source: str = Field(min_length=1)


class Benchmark(Schema):
    """A benchmark file.

    Attributes
    ----------
    models
        Names of search spaces, one leaderboard row each: those in ``search_spaces/`` beside this file, in the current folder,
        or shipped. A space says which model it is of, so that two forms of one model can be compared.

    Examples
    --------
    >>> b = Benchmark(name="try", dataset="bazaar", split={"kind": "leave_one_out"},
    ...               evaluation={"seen_items": "exclude"}, models=["gru4rec"])
    >>> b.search.trials
    20
    """

    name: Name
    title: str = ""
    dataset: str
    split: SplitSpec
    evaluation: Protocol
    models: tuple[Name, ...] = Field(min_length=1)
    baselines: Literal["all", "none"] = "all"
    search: SearchBudget = SearchBudget()
    final: FinalStage = FinalStage()
    resources: Literal["auto"] | Shares = "auto"
    published: tuple[Published, ...] = ()

    _folder: Path | None = PrivateAttr(None)

    @property
    def folder(self) -> Path | None:
        """Where the file lies; None for a benchmark that was made in Python."""
        return self._folder

    def at(self, folder: Path) -> Benchmark:
        """The same benchmark, as read from a file in this folder."""
        copy = self.model_copy()
        copy._folder = folder
        return copy

    @field_validator("models")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a model stands twice")
        return value

    @field_validator("evaluation")
    @classmethod
    def _labelled(cls, value: Protocol, info: ValidationInfo) -> Protocol:
        split: SplitSpec | None = info.data.get("split")
        if value.mode == "click_through" and split is not None and str(split.kind) != "click_through":
            message = (
                f"click_through needs labelled rows, and a {split.kind} split makes none: take `split: {{kind: click_through}}`"
            )
            raise mistake(message, at=("mode",))
        if value.negatives == "shipped" and split is not None and split.test is None:
            message = (
                "shipped negatives belong to the test rows that came with the data, and only `split: {kind: leave_one_out, "
                f"test: 'column: NAME'}}` keeps these; with {split.kind} say how many are drawn for each case, as in "
                "`negatives: 99`"
            )
            raise mistake(message, at=("negatives",))
        return value

    @field_validator("published")
    @classmethod
    def _comparable(cls, value: tuple[Published, ...], info: ValidationInfo) -> tuple[Published, ...]:
        rows: tuple[str, ...] | None = info.data.get("models")
        evaluation: Protocol | None = info.data.get("evaluation")
        columns = evaluation.columns if evaluation is not None else None
        split: SplitSpec | None = info.data.get("split")
        added = baselines_of(split.kind) if split is not None and info.data.get("baselines") == "all" else ()
        for place, entry in enumerate(value):
            if rows is not None and entry.row not in (*rows, *added):
                message = f"'{entry.row}' is no row of this benchmark ({', '.join((*rows, *added))})"
                raise mistake(message, suggestion=nearest(entry.row, (*rows, *added)), at=(place, "row"))
            for column in entry.values:
                if columns is not None and column not in columns:
                    message = f"'{column}' is not reported by this evaluation ({', '.join(columns)})"
                    raise mistake(message, suggestion=nearest(column, columns), at=(place, "values", column))
        return value

    def changes_since(self, then: Mapping[str, Any]) -> list[str]:
        """Dotted keys whose values were others in an earlier form of the file (as JSON).

        Titles, resources and published values do not count.
        """
        now = self.model_dump(mode="json")
        changed: list[str] = []
        for key in now:
            if key in ("title", "resources", "published") or now[key] == then.get(key):
                continue
            before = then.get(key)
            if isinstance(now[key], dict) and isinstance(before, dict):
                parts = {**before, **now[key]}
                changed += [f"{key}.{part}" for part in parts if now[key].get(part) != before.get(part)]
            else:
                changed.append(key)
        return changed
