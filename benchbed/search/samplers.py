"""Samplers, rebuilt for every trial from what is recorded: kind, seed and the number of the trial."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import optuna

SamplerKind = Literal["tpe", "random"]


def make_sampler(
    kind: SamplerKind, seed: int, number: int, *, conditional: bool = False, again: int = 0
) -> optuna.samplers.BaseSampler:
    """The sampler that draws trial ``number`` of a study.

    Optuna stores no random state. A sampler made anew for every number draws the same from the same history, whether or not
    the sweep was interrupted in between.

    Parameters
    ----------
    kind
        ``tpe`` or ``random``.
    seed
        The seed of the search.
    number
        Of the trial it draws.
    conditional
        Whether the space has conditions (TPE then models each group of dimensions by itself).
    again
        Counts further draws for the same number.
    """
    own = int(np.random.SeedSequence([seed, number, again]).generate_state(1)[0])
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=own)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # Trials run at the same time: the liar keeps them from drawing the same point.
        return optuna.samplers.TPESampler(seed=own, constant_liar=True, group=conditional)
