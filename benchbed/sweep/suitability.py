"""Hyper-parameters that a search space may choose, and that cannot work on the split of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchbed.data.dataset import TrainingData
from benchbed.errors import ModelError, Problem, counted
from benchbed.models.registry import model_class
from benchbed.search.space import Range, SearchSpace

NEVER_TRAINED = ("user_disjoint", "session")
"""Split kinds whose users of validation and test are in no training sequence, all of them."""


def possible_values(space: SearchSpace, key: str) -> list[Any]:
    """All that a hyper-parameter can be in the trials of a space: the default, which trial 0 has, then what is searched.

    Of an interval of numbers that are not whole, only the ends are told.

    Examples
    --------
    >>> space = SearchSpace(model="mf_bpr", max_epochs=1,
    ...                     parameters={"fold_in_steps": {"choices": [0, 20], "source": "here"}})
    >>> possible_values(space, "fold_in_steps"), possible_values(space, "embedding_size")
    ([20, 0], [64])
    """
    found = [getattr(model_class(space.model).Config.model_validate(space.defaults), key)]
    dimension = space.parameters.get(key)
    if isinstance(dimension, Range):
        found += dimension.choices or space.values(key) or [dimension.low, dimension.high]
    for joint in space.joint.values():
        found += [sets[key] for sets in joint.choices.values() if key in sets]
    return [value for place, value in enumerate(found) if value not in found[:place]]


def keeps_trained_rows(space: SearchSpace) -> bool:
    """Whether a trial of this space can have no row for a user who was not trained: with ``fold_in_steps: 0``."""
    kind = model_class(space.model)
    if "fold_in_steps" not in kind.Config.model_fields or 0 not in possible_values(space, "fold_in_steps"):
        return False
    return not any(possible_values(space, key) == [value] for key, value in kind.labelled_only.items())


def unsuitable(row: str, space: SearchSpace, path: Path, split: str, mode: str = "full") -> Iterator[Problem]:
    """What the space of a row can choose, and no data of this split kind can bear, or this mode of evaluation.

    Parameters
    ----------
    row, space, path
        The row's name, its search space, and the file of that.
    split
        A split kind.
    mode
        Of evaluation.
    """
    for key, value in model_class(space.model).full_ranking_only.items():
        if mode != "full" and value in possible_values(space, key):
            message = (
                f"{row} can have {key}: {value}, which has an effect in full rankings alone, and evaluation.mode is {mode}: "
                "leave it out"
            )
            yield Problem(message, str(path), key=_place(space, key))
    for key, value in model_class(space.model).labelled_only.items():
        if split != "click_through" and value in possible_values(space, key):
            message = (
                f"{row} can have {key}: {value}, which takes the labelled rows of a click_through split, and the split is "
                f"{split}: choose another value of {key}, or take split.kind: click_through"
            )
            yield Problem(message, str(path), key=_place(space, key))
    if split in NEVER_TRAINED and keeps_trained_rows(space):
        message = (
            f"{row} can have fold_in_steps: 0, which leaves users who were not trained without a vector, and no user whom a "
            f"{split} split asks for is trained: set fold_in_steps to 1 or more"
        )
        yield Problem(message, str(path), key=_place(space, "fold_in_steps"))


def _place(space: SearchSpace, key: str) -> str:
    if key in space.parameters:
        return f"parameters.{key}"
    joint = next((name for name, each in space.joint.items() if key in each.sets), None)
    return f"defaults.{key}" if joint is None else f"joint.{joint}"


def refuse_untrained(rows: Sequence[str], spaces: Mapping[str, SearchSpace], data: TrainingData) -> list[ModelError]:
    """A refusal for each row that may keep trained rows, where a user of validation or test has none.

    Users of the test are judged without looking at it: who has validation targets and no training event will have a history
    there.

    Parameters
    ----------
    rows, spaces
        The rows that will run, and the space of each.
    data
        Of one split.
    """
    untrained = ~np.isin(data.valid.users, data.train.users[data.train.items.lengths > 0])
    untrained &= (data.valid.histories.lengths > 0) | (data.valid.targets.lengths > 0)
    number = len(np.unique(data.valid.users[untrained]))
    return [
        ModelError(
            f"{row} can have fold_in_steps: 0, which leaves users who were not trained without a vector, and "
            f"{counted(number, 'user of the validation part has', 'users of the validation part have')} no training event.",
            advice="Set fold_in_steps to 1 or more in the row's search space, or take a split whose users are all trained.",
        )
        for row in rows
        if number and keeps_trained_rows(spaces[row])
    ]
