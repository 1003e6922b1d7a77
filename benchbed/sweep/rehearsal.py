"""Before a sweep: every row's default model is made once, so that what the data lack is told before anything is recorded."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchbed.data.load import load_training_data
from benchbed.errors import ModelError
from benchbed.models.registry import model_class
from benchbed.sweep.planning import Material
from benchbed.sweep.suitability import keeps_trained_rows, refuse_untrained


def rehearse(material: Material, rows: Sequence[str]) -> None:
    """Make the default model of some rows on the data of the first split, and throw it away.

    Raises
    ------
    ModelError
        A model refuses the data: a field of features that is not there, more negatives than items, users without a vector, and
        the like. All rows that do are named.
    """
    first, *others = material.splits.values()
    data = load_training_data(first.folder, material.benchmark.evaluation)
    spaces = material.checked.spaces
    refusals = refuse_untrained(rows, spaces, data)
    if not refusals and any(keeps_trained_rows(spaces[row]) for row in rows):
        # Which users have no training event may differ between the splits.
        for split in others:
            refusals = refuse_untrained(rows, spaces, load_training_data(split.folder, material.benchmark.evaluation))
            if refusals:
                break
    with torch.random.fork_rng(devices=[]):
        for row in rows:
            space = spaces[row]
            kind = model_class(space.model)
            try:
                kind(kind.Config.model_validate(space.defaults), data)
            except ModelError as error:
                refusals.append(error if row == space.model else ModelError(f"{row}: {error.message}", advice=error.advice))
    if len(refusals) == 1:
        raise refusals[0]
    if refusals:
        advice = dict.fromkeys(error.advice for error in refusals if error.advice)
        raise ModelError("\n".join(error.message for error in refusals), advice="\n  ".join(advice) or None)
