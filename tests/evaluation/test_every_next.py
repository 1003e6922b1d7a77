"""Several cases a user: means over users or cases, users as the unit of significance, and the protocol of GRU4Rec's authors."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchbed.data import cases as data_cases
from benchbed.data import histories
from benchbed.data.cases import Rules, make_cases
from benchbed.data.dataset import Cases, Ragged, TrainingData
from benchbed.data.histories import Histories
from benchbed.data.raw_cases import RawCases, Vocabulary
from benchbed.evaluation import ranking
from benchbed.evaluation.averages import by_user, mean_over
from benchbed.evaluation.protocol import Protocol
from benchbed.evaluation.ranking import Evaluator
from benchbed.evaluation.significance import Row, Sample, compare
from benchbed.reporting import samples as reporting
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.protocol_words import protocol_words
from benchbed.training.fit import Fit, FitSpec


class AfterLast:
    """Scores that depend on the last event of the history alone."""

    name = "after_last"

    def __init__(self, n_items: int) -> None:
        self.table = torch.rand((n_items + 1, n_items + 1), generator=torch.Generator().manual_seed(0))

    def scores(self, histories: Histories, items: torch.Tensor | None = None) -> torch.Tensor:
        last, lengths = histories.last(1)
        return self.table[torch.where(lengths > 0, last[:, 0], 0)]


def sessions(seed: int, n: int = 60, items: int = 12) -> RawCases:
    rng = np.random.default_rng(seed)
    rows = [rng.integers(1, items + 1, rng.integers(2, 9)).tolist() for _ in range(n)]
    return RawCases(np.arange(n), Ragged.of([row[:1] for row in rows]), Ragged.of([row[1:] for row in rows]))


def cases_of(raw: RawCases, known: int = 10) -> Cases:
    vocabulary = Vocabulary(np.arange(known + 1), np.zeros(known + 1, np.int64), ("", *map(str, range(1, known + 1))))
    return make_cases(raw, vocabulary, Rules("keep", unknown_targets="drop", targets="every_next"))[0]


def protocol(average: str) -> Protocol:
    keys = {"metrics": ["recall", "mrr"], "cutoffs": [1, 5], "select_by": "mrr@5", "seen_items": "keep"}
    return Protocol.model_validate({**keys, "unknown_targets": "drop", "targets": "every_next", "average": average})


@pytest.mark.fidelity("G17", "G23")
def test_every_event_after_the_first_is_scored_as_the_authors_do() -> None:
    raw, model = sessions(1), AfterLast(10)
    ranks = []
    for row in range(len(raw.users)):
        events = [*raw.histories[row].tolist(), *raw.targets[row].tolist()]
        for last, target in pairwise(item for item in events if item <= 10):  # unknown items leave the session first
            scores = model.table[last, 1:]
            ranks.append(1 + int((scores > scores[target - 1]).sum()))
    expected = np.array(ranks)
    found = Evaluator(cases_of(raw), 10, protocol("cases")).evaluate(model)
    assert found["recall@5"] == pytest.approx((expected <= 5).mean(), abs=1e-12)
    assert found["mrr@5"] == pytest.approx(np.where(expected <= 5, 1 / expected, 0).mean(), abs=1e-12)


@pytest.mark.fidelity("G4")
@pytest.mark.parametrize("average", ["users", "cases"])
def test_blocks_and_the_order_of_users_change_nothing(average: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, model = sessions(2), AfterLast(10)
    cases = cases_of(raw)
    whole = Evaluator(cases, 10, protocol(average)).rank(model).ranks.values
    value = Evaluator(cases, 10, protocol(average)).evaluate(model)
    order = np.random.default_rng(0).permutation(len(cases))
    assert len(cases.histories.values) < cases.histories.lengths.sum()  # sessions are not written out case by case
    for numbers, events in ((1, 1), (11 * 7, 20), (2**22, 50), (2**22, 2**22)):
        monkeypatch.setattr(ranking, "BLOCK_NUMBERS", numbers)
        monkeypatch.setattr(histories, "RUN_EVENTS", events)
        shuffled = Evaluator(cases.take(order), 10, protocol(average))
        assert np.array_equal(shuffled.rank(model).ranks.values, whole[order])
        assert shuffled.evaluate(model) == pytest.approx(value, abs=1e-12)


def test_listed_items_too_are_compared_run_after_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long histories are written out for some cases at a time, and no block reaches from one run into the next."""
    raw, model = replace(sessions(4), keys=np.arange(60)), AfterLast(10)
    vocabulary = Vocabulary(np.arange(11), np.zeros(11, np.int64), ("", *map(str, range(1, 11))))
    rules = Rules("keep", unknown_targets="drop", targets="every_next", mode="sampled", negatives=3)
    said = protocol("cases").model_copy(update={"mode": "sampled", "negatives": 3})
    found = []
    for events in (2**22, 9):
        monkeypatch.setattr(histories, "RUN_EVENTS", events)
        monkeypatch.setattr(data_cases, "OTHERS_EVENTS", events)
        cases = make_cases(raw, vocabulary, rules)[0]
        evaluator = Evaluator(cases, 10, said)
        assert (len(evaluator.histories.bounds) > 5) == (events == 9)
        found.append((cases.others.values.tolist(), evaluator.rank(model).ranks.values.tolist()))  # type: ignore[union-attr]
    assert found[0] == found[1] and len(found[0][1]) > 100


def test_means_over_users_and_over_cases_differ_unless_each_has_one() -> None:
    users, values = np.array([3, 3, 3, 8]), np.array([0.0, 0.0, 0.3, 1.0])
    assert mean_over(values, users, "cases") == pytest.approx(0.325)
    assert mean_over(values, users, "users") == pytest.approx((0.1 + 1) / 2)
    alone = np.array([4, 1, 2, 3])
    assert mean_over(values, alone, "users") == mean_over(values, alone, "cases") == values.mean()
    assert by_user(alone, values)[0] is alone


def grouped(rng: np.random.Generator, users: int, rows: int) -> list[Row]:
    """Rows of equal quality whose cases resemble one another within a user; users have 1 to 30 cases."""
    counts = rng.integers(1, 31, users)
    owner = np.repeat(np.arange(users), counts)
    made = []
    for number in range(rows):
        values = rng.normal(0, 0.3, users)[owner] + rng.normal(0, 0.1, len(owner))
        who, means, weights = by_user(owner, values)
        made.append(Row(str(number), {1: Sample(who, means[None], weights)}, random=False))
    return made


def test_weights_make_the_mean_over_cases_and_its_error_that_of_repetition() -> None:
    rng = np.random.default_rng(0)
    pairs = [compare(grouped(rng, 120, 2)).pairs[0] for _ in range(600)]
    spread = np.std([pair.difference for pair in pairs])
    assert np.mean([pair.standard_error for pair in pairs]) == pytest.approx(spread, rel=0.08)
    assert 0.03 < np.mean([pair.p < 0.05 for pair in pairs]) < 0.075
    # A test that takes cases for independent would call most of them significant.
    naive = [pair.standard_error / np.sqrt(15.5) for pair in pairs]
    assert np.mean([abs(pair.difference) > 1.96 * error for pair, error in zip(pairs, naive, strict=True)]) > 0.4


def test_equal_weights_are_no_weights() -> None:
    rng = np.random.default_rng(1)
    plain = [Row(str(n), {1: Sample(np.arange(50), rng.normal(size=(3, 50)))}) for n in range(3)]
    weighted = [replace(row, samples={1: replace(row.samples[1], weights=np.full(50, 4))}) for row in plain]
    for a, b in zip(compare(plain).pairs, compare(weighted).pairs, strict=True):
        assert (b.difference, b.standard_error, b.p) == pytest.approx((a.difference, a.standard_error, a.p))
    assert [row.mean for row in weighted] == pytest.approx([row.mean for row in plain])
    with pytest.raises(ValueError, match="weights of shape"):
        Sample(np.arange(50), np.zeros((1, 50)), np.ones(49))


@pytest.mark.parametrize("average", ["users", "cases"])
def test_a_leaderboard_row_has_the_mean_of_the_run(average: str) -> None:
    cases, model = cases_of(sessions(3)), AfterLast(10)
    evaluator = Evaluator(cases, 10, protocol(average))
    from benchbed.evaluation.metrics import metric_values

    values = metric_values(evaluator.rank(model).ranks, ["mrr@5"])["mrr@5"]
    frame = pd.DataFrame({"user": cases.users, "mrr@5": values})
    run = SimpleNamespace(model="m", seed=1, split_seed=42, test={"mrr@5": 0.5})
    record: Any = SimpleNamespace(
        benchmark={"final": {"seeds": [1, 2]}, "evaluation": {"average": average}},
        facts={"models": {"m": {"trained_by": "gradient"}}},
        finals=[run, SimpleNamespace(**{**vars(run), "seed": 2})],
    )
    # The second run kept its rows in another order.
    tables = {1: frame, 2: frame.iloc[np.random.default_rng(0).permutation(len(frame))]}
    row = reporting.test_row(record, "m", lambda run, _: tables[int(run.seed or 0)], "mrr@5")
    assert row is not None and len(row.samples[42].users) == len(np.unique(cases.users)) < len(cases)
    assert row.mean == pytest.approx(evaluator.evaluate(model)["mrr@5"], abs=1e-12)


@pytest.mark.parametrize("average", ["users", "cases"])
def test_a_model_is_trained_chosen_and_tested_by_it(ring: TrainingData, tmp_path: Path, average: str) -> None:
    users = np.repeat(np.arange(20), 3)
    rows = [ring.train.items[int(user)].tolist() for user in users]
    cuts = [(row[: n % 3 + 1], row[n % 3 + 1 : n % 3 + 2]) for n, row in enumerate(rows)]
    cases = Cases(users, Ragged.of([history for history, _ in cuts]), Ragged.of([targets for _, targets in cuts]))
    data = replace(ring, valid=cases)
    settings = {"embedding_size": 8, "hidden_size": 8}
    spec = FitSpec("gru4rec", settings, 1, 2, None, None, protocol(average).model_dump(mode="json"))
    fit = Fit(spec, data, folder=tmp_path)
    while fit.finished is None:
        fit.step()
    result = fit.test(cases)
    values = np.asarray(result.table.column("mrr@5"))
    assert len(values) == 60 and result.metrics["mrr@5"] == pytest.approx(mean_over(values, users, protocol(average).average))
    assert fit.best is not None and fit.best.value == pytest.approx(result.metrics["mrr@5"])


def test_the_authors_protocol_is_told_in_words() -> None:
    split = {"kind": "session", "test_days": 1}
    said = protocol("cases").model_dump(mode="json")
    words = " ".join(
        protocol_words(Benchmark(name="a", dataset="b", split=split, evaluation=said, models=["gru4rec"]))  # type: ignore[arg-type]
    )
    for told in (
        "those that begin in the last day are tested",
        "no training event is later than any target",
        "Every event after the history is a case of its own",
        "Events outside the candidates are taken out of histories and targets before cases are made",
        "stay among the candidates",
        "means over cases, each alike; p-values take sessions as the unit",
    ):
        assert told in words
    by = {"kind": "session", "by": "column: part", "ties": "file"}
    words = " ".join(
        protocol_words(Benchmark(name="a", dataset="b", split=by, evaluation=said | {"average": "users"}, models=["gru4rec"]))  # type: ignore[arg-type]
    )
    assert "largest value of the column: part" in words and "of the mean over the cases of each" in words
