"""Validations in few digits, where a model is told to and nobody's metrics change by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

import numpy as np

from benchbed.evaluation.metrics import metric_values
from benchbed.evaluation.ranking import Evaluator, RankedCases
from benchbed.evaluation.scoring import CoarseScorer, Scorer


class Validation:
    """The validations of one run.

    A model that asks for coarse scores is ranked both ways in the first one, the second, the fourth and so on, and once more
    with the weights that go to test. As long as every metric of every case is the same, bit for bit, those between are made
    from coarse scores (refined where they decide, :mod:`benchbed.evaluation.refining`); after a difference all are made in
    full.

    Parameters
    ----------
    evaluator
        Of the validation cases.

    Attributes
    ----------
    compared
        Validations that were made both ways.
    changed
        Cases with another metric under coarse scores, in the last of these.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.compared = self.changed = self._made = 0

    def go_on(self, facts: Mapping[str, float], made: int) -> None:
        """Take over the :attr:`facts` of an earlier part of the run, in which so many validations were made."""
        self.compared, self.changed = (int(facts.get(fact, 0)) for fact in ("coarse_compared", "coarse_cases_changed"))
        self._made = made

    def evaluate(self, model: Scorer) -> dict[str, float]:
        """Means of every column of the protocol; see :meth:`Evaluator.evaluate`."""
        if not self._coarse(model) or self.changed:
            return self.evaluator.evaluate(model)
        self._made += 1
        coarse = self.evaluator.rank(model, coarse=True)
        if self._made & (self._made - 1):  # no power of two
            return self.evaluator.means(coarse)
        exact = self.evaluator.rank(model)
        self._compare(exact, coarse)
        return self.evaluator.means(exact)

    def confirm(self, model: Scorer) -> None:
        """Make the validation that decided once more, both ways; a difference is a fact of the run."""
        if self._coarse(model) and not self.changed:
            self._compare(self.evaluator.rank(model), self.evaluator.rank(model, coarse=True))

    def _compare(self, exact: RankedCases, coarse: RankedCases) -> None:
        self.compared += 1
        self.changed = changed_cases(self.evaluator, exact, coarse)

    def _coarse(self, model: Scorer) -> TypeGuard[CoarseScorer]:
        return isinstance(model, CoarseScorer) and model.scores_coarsely and self.evaluator.listed is None

    @property
    def facts(self) -> dict[str, float]:
        """What became of coarse scores: validations that were made both ways, and cases that had another metric in the last."""
        return {"coarse_compared": float(self.compared), "coarse_cases_changed": float(self.changed)} if self.compared else {}


def changed_cases(evaluator: Evaluator, exact: RankedCases, coarse: RankedCases) -> int:
    """Cases for which two rankings differ in any metric of the protocol."""
    columns, repeats = evaluator.protocol.columns, evaluator.cases.repeats
    one, other = (metric_values(each.ranks, columns, repeats) for each in (exact, coarse))
    return int(np.any([one[column] != other[column] for column in columns], axis=0).sum())
