"""Validations in few digits: only as long as nobody's metrics change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Cases, TrainingData
from benchbed.evaluation.protocol import Protocol
from benchbed.evaluation.ranking import Evaluator
from benchbed.models.convncf import BFloat16Scores, ConvNCF
from benchbed.testing.runs import open_fit
from benchbed.training.fit import Fit
from benchbed.training.precision import Validation
from tests.evaluation.test_refining import PROTOCOL, Coarse, world

SMALL: dict[str, Any] = {"embedding_size": 8, "channels": 8, "batch_size": 64, "pretrain_epochs": 5, "learning_rate": 0.1}


def ended(fit: Fit) -> Fit:
    while fit.finished is None:
        fit.step()
    return fit


def test_validations_one_two_four_and_so_on_are_made_both_ways() -> None:
    scores, cases = world(0)
    model = Coarse(scores, scores + 1e-3)
    evaluator = Evaluator(cases, 400, PROTOCOL)
    validation, expected = Validation(evaluator), evaluator.evaluate(model)
    compared = []
    for _ in range(9):
        assert validation.evaluate(model) == expected
        compared.append(validation.compared)
    assert compared == [1, 2, 2, 3, 3, 3, 3, 4, 4]
    assert validation.facts == {"coarse_compared": 4.0, "coarse_cases_changed": 0.0}


def hide(model: Coarse, cases: Cases) -> None:
    """An error that no look at heads or first rows can show: the item that is now a case's best seems to be the worst."""
    scores = model.table
    case = next(row for row in range(20, len(cases)) if int(scores[row, 1:].argmax()) + 1 in cases.targets[row])
    free = np.setdiff1d(np.arange(1, 401), [*cases.histories[case], *cases.targets[case]])
    item = free[int(scores[case, free].argmax())]
    scores[case, item] = scores[case].max() + 1.0
    model.rough[case, item] = -50.0


def test_a_single_case_sends_the_run_back() -> None:
    scores, cases = world(0)
    model = Coarse(scores, scores + 1e-3)
    hide(model, cases)
    evaluator = Evaluator(cases, 400, PROTOCOL)
    validation, expected = Validation(evaluator), evaluator.evaluate(model)
    assert evaluator.means(evaluator.rank(model, coarse=True)) != expected
    for _ in range(3):
        assert validation.evaluate(model) == expected
    assert validation.facts == {"coarse_compared": 1.0, "coarse_cases_changed": 1.0}


def test_the_weights_that_go_to_test_are_looked_at_once_more() -> None:
    scores, cases = world(0)
    model = Coarse(scores, scores + 1e-3)
    validation = Validation(Evaluator(cases, 400, PROTOCOL))
    validation.evaluate(model)
    hide(model, cases)
    validation.confirm(model)
    assert validation.facts == {"coarse_compared": 2.0, "coarse_cases_changed": 1.0}


def test_a_model_that_does_not_ask_is_ranked_in_full() -> None:
    scores, cases = world(0)
    model = Coarse(scores, scores + 1.0)
    model.scores_coarsely = False
    validation = Validation(Evaluator(cases, 400, PROTOCOL))
    validation.evaluate(model)
    assert model.asked == 0 and validation.facts == {}


def test_a_run_of_convncf_is_the_same_in_both(ring: TrainingData, tmp_path: Path) -> None:
    """Same epochs, same test, and half of the validations without exact scores of everything."""
    runs = {
        scoring: ended(open_fit(ConvNCF, {**SMALL, "scoring": scoring}, ring, tmp_path / scoring, epochs=3))
        for scoring in ("fp32", "bf16")
    }
    told = [[(epoch.loss, epoch.metrics) for epoch in fit.history] for fit in runs.values()]
    assert told[0] == told[1]
    tests = [fit.test(ring.valid) for fit in runs.values()]
    assert tests[0].metrics == tests[1].metrics
    assert tests[1].facts["coarse_compared"] == 3 and tests[1].facts["coarse_cases_changed"] == 0, "1, 2, and before the test"
    assert "coarse_compared" not in runs["fp32"].facts


def test_what_was_found_survives_a_continuation(ring: TrainingData, tmp_path: Path) -> None:
    parameters = {**SMALL, "scoring": "bf16"}
    fit = open_fit(ConvNCF, parameters, ring, tmp_path, epochs=2)
    fit.step()
    again = open_fit(ConvNCF, parameters, ring, tmp_path, epochs=2)
    assert again.facts["coarse_compared"] == 1
    assert ended(again).facts["coarse_compared"] == 2, "as in a run without a break"
    validation = Validation(Evaluator(ring.valid, ring.n_items, Protocol.model_validate(fit.spec.protocol)))
    validation.go_on({"coarse_compared": 2.0, "coarse_cases_changed": 1.0}, 2)
    validation.evaluate(again.model)
    assert validation.compared == 2, "a run that was sent back stays there"


@pytest.mark.parametrize("variant", ["authors", "recbole"])
def test_bfloat16_is_near_and_not_equal(ring: TrainingData, tmp_path: Path, variant: str) -> None:
    fit = ended(open_fit(ConvNCF, {**SMALL, "variant": variant, "pretrain_epochs": 0}, ring, tmp_path, epochs=1))
    model = fit.model.eval()
    assert isinstance(model, ConvNCF)
    with torch.no_grad():
        made = BFloat16Scores(model, model.user_table.detach())
        coarse, exact = made.coarse(2, 9), made.exact(2, 9)
        owner, items = torch.tensor([2, 8]), torch.tensor([3, 1])
        torch.testing.assert_close(made.pairs(owner, items), exact[owner - 2, items])
    assert coarse.dtype == exact.dtype == torch.float32 and not torch.equal(coarse, exact)
    assert float((coarse - exact).abs().max()) < 0.03 * float(exact.abs().max())
