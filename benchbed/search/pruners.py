"""Pruners. All of them decide from the reported values alone, so that a decision can be taken again after a crash."""

from __future__ import annotations

from typing import Literal

import optuna

PrunerKind = Literal["successive_halving", "median", "none"]

REDUCTION = 3
"""One of so many trials passes a rung."""


def make_pruner(kind: PrunerKind, max_epochs: int) -> optuna.pruners.BasePruner:
    """The pruner of a study whose trials have at most ``max_epochs`` epochs."""
    if kind == "none" or max_epochs == 1:
        return optuna.pruners.NopPruner()
    if kind == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=max_epochs // 10)
    return SuccessiveHalving(first_rung=max(1, max_epochs // REDUCTION**2))


class SuccessiveHalving(optuna.pruners.BasePruner):
    """Asynchronous successive halving: at each rung a trial goes on when it is among the best third that got there so far.

    Optuna's own pruner keeps the rungs a trial has passed as attributes of the trial; when the driver dies between that mark
    and the verdict, the verdict is lost. This one keeps nothing: a trial's value at a rung is its best value up to there.

    Parameters
    ----------
    first_rung
        Epochs of the first rung; each further rung is three times as far.

    References
    ----------
    Li et al., A system for massively parallel hyperparameter tuning, MLSys 2020, algorithm 2.

    Examples
    --------
    >>> SuccessiveHalving(first_rung=2).rungs(20)
    [2, 6, 18]
    """

    def __init__(self, first_rung: int) -> None:
        self._first = first_rung

    def rungs(self, epochs: int) -> list[int]:
        """The rungs within so many epochs."""
        rungs, rung = [], self._first
        while rung <= epochs:
            rungs.append(rung)
            rung *= REDUCTION
        return rungs

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether a trial that has just reported falls at the rung it stands on; never between rungs."""
        step = trial.last_step
        if step is None or step not in self.rungs(step):
            return False
        trials = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        reached = [_best_until(other, step) for other in trials if (other.last_step or 0) >= step]
        own = _best_until(trial, step)
        # The best third goes on; while there are fewer than three, only the best one.
        places = max(1, (len(reached) + 1) // REDUCTION)
        return sum(value > own for value in reached) >= places


def _best_until(trial: optuna.trial.FrozenTrial, step: int) -> float:
    return max(value for at, value in trial.intermediate_values.items() if at <= step)
