"""Rows beside published values."""

from __future__ import annotations

import json

import pytest
from made_up_sweep import five_models
from pydantic import ValidationError
from test_leaderboard import in_memory, row_of

from benchbed.reporting.files import to_json, to_markdown
from benchbed.reporting.page import render_page
from benchbed.sweep.benchmark import Benchmark


def beside(*entries):
    return in_memory(five_models(), users=2200, published=entries)


@pytest.fixture(scope="module")
def mean():
    return row_of(beside(), "gru4rec").metrics["ndcg@20"].mean


def test_a_row_is_compared_with_a_published_value_by_the_noise_of_users_and_seeds(mean):
    near, far = mean + 1e-4, mean / 2
    board = beside(
        {"row": "gru4rec", "values": {"ndcg@20": near}, "source": "close"},
        {"row": "gru4rec", "values": {"ndcg@20": far}, "source": "low"},
        {"row": "gru4rec", "values": {"ndcg@20": 3 * mean}, "source": "high"},
    )
    assert [line.verdict for line in board.published] == ["not distinguishable", "above", "below"]
    close = board.published[0]
    assert close.ours == pytest.approx(mean) and close.difference == pytest.approx(mean - near)
    assert 0 < close.standard_error < mean / 10


def test_the_files_show_it_and_stay_as_they_are_without(mean):
    bare = beside()
    assert "published" not in to_markdown(bare) and json.loads(to_json(bare))["published"] == []
    board = beside({"row": "gru4rec", "values": {"ndcg@20": 0.01, "hit_rate@10": 0.02}, "source": "a table <1>"})
    assert to_markdown(board).count("a table &lt;1&gt;") == 2
    assert "a table &lt;1&gt;" in render_page(board)
    assert [line["column"] for line in json.loads(to_json(board))["published"]] == ["ndcg@20", "hit_rate@10"]


def test_a_single_training_seed_is_told_and_not_tested(mean):
    entry = {"row": "gru4rec", "values": {"ndcg@20": 3 * mean}, "source": "s"}
    board = in_memory(five_models(), users=2200, seeds=(1,), published=[entry])
    assert [line.verdict for line in board.published] == ["not tested: one seed"]
    for text in (to_markdown(board), render_page(board)):
        assert "not tested: one seed" in text and "± nan" not in text and "± \u2013" not in text


def test_published_values_must_be_comparable_and_are_no_part_of_the_question():
    given = {"name": "b", "dataset": "bazaar", "split": {"kind": "leave_one_out"}, "evaluation": {"seen_items": "exclude"}}
    given |= {"models": ["gru4rec"]}

    def entry(row, column):
        return given | {"published": [{"row": row, "values": {column: 0.1}, "source": "s"}]}

    made = Benchmark.model_validate(entry("ease", "ndcg@20"))
    assert made.changes_since(Benchmark.model_validate(given).model_dump(mode="json")) == []
    with pytest.raises(ValidationError, match="'gru' is no row of this benchmark"):
        Benchmark.model_validate(entry("gru", "ndcg@20"))
    with pytest.raises(ValidationError, match="'ndcg@7' is not reported"):
        Benchmark.model_validate(entry("gru4rec", "ndcg@7"))
