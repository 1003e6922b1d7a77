"""The evaluation block of a benchmark file."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from benchbed.config import fingerprint
from benchbed.evaluation.protocol import METRICS, VARIANTS, Protocol, parse_column
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.protocol_words import protocol_words


def protocol(**keys: Any) -> Protocol:
    return Protocol.model_validate({"seen_items": "exclude", **keys})


def test_forms_of_metrics_are_reported_but_nothing_is_chosen_by_them() -> None:
    assert not set(METRICS) & set(VARIANTS)
    for name in VARIANTS:
        said = protocol(metrics=["ndcg", name])
        assert f"{name}@20" in said.columns
        with pytest.raises(ValidationError, match="nothing is chosen by it"):
            protocol(metrics=["ndcg", name], select_by=f"{name}@20")


def test_a_protocol_without_the_new_keys_is_written_as_before() -> None:
    assert "diversity" not in protocol().model_dump(mode="json")
    # The fingerprint that the shortest block had before these keys existed.
    assert fingerprint(protocol())[:16] == "695da232c1cc8bb9"
    assert fingerprint(protocol(diversity={"feature": "genre"})) != fingerprint(protocol())
    assert Protocol.model_validate(protocol(diversity={"feature": "genre"}).model_dump(mode="json")).diversity is not None


@pytest.mark.fidelity("A6")
@pytest.mark.parametrize("wrong", [{"lambdas": [-0.1]}, {"apply": -1}, {"lambdas": ["a lot"]}, {"lambdas": [float("inf")]}])
def test_weights_of_variety_are_numbers_from_zero_on(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        protocol(diversity={"feature": "genre", **wrong})


def test_weights_are_sorted_and_rows_fit_the_lists() -> None:
    said = protocol(diversity={"feature": "genre", "lambdas": [0.5, 0]}).diversity
    assert said is not None and said.lambdas == (0, 0.5) and said.column == "diversity@20" and said.apply == 0
    with pytest.raises(ValidationError, match="may be 10 at most"):
        protocol(diversity={"feature": "genre", "apply": "validation", "cutoff": 10})


@pytest.mark.fidelity("T4")
def test_what_happens_to_seen_items_is_said_by_the_file_and_told() -> None:
    with pytest.raises(ValidationError, match="seen_items"):
        Protocol.model_validate({})
    told = []
    for seen in ("exclude", "keep"):
        block = {"seen_items": seen}
        kept = Benchmark.model_validate(
            {"name": "a", "dataset": "b", "split": {"kind": "leave_one_out"}, "evaluation": block, "models": ["ease"]}
        )
        told.append(protocol_words(kept))
        assert kept.model_dump(mode="json")["evaluation"]["seen_items"] == seen  # part of the record of every sweep
    assert told[0] != told[1]


def test_what_is_said_of_variety_depends_on_the_block() -> None:
    def said(**block: Any) -> str:
        evaluation = {"seen_items": "exclude", "diversity": {"feature": "genre", **block}}
        split = {"kind": "leave_one_out"}
        return " ".join(
            protocol_words(
                Benchmark.model_validate(
                    {"name": "a", "dataset": "b", "split": split, "evaluation": evaluation, "models": ["ease"]}
                )
            )
        )

    assert "Variety: diversity@20 is the share of pairs" in said() and "no genre in common" in said()
    assert "models' own lists (lambda 0)" in said() and "one category" in said()
    assert "re-ranked greedily for variety, with the largest lambda that keeps 95%" in said(apply="validation")
    assert "left out" in said(uncategorised="drop")


def benchmark(evaluation: dict[str, Any], **split: Any) -> Benchmark:
    return Benchmark.model_validate(
        {"name": "a", "dataset": "b", "split": split or {"kind": "leave_one_out"}, "evaluation": evaluation, "models": ["ease"]}
    )


def test_a_mode_is_part_of_the_fingerprint_and_a_full_ranking_is_written_as_before() -> None:
    full = protocol()
    assert not {"mode", "negatives", "flawed_negatives"} & set(full.model_dump(mode="json"))
    assert protocol(mode="full", negatives=None, flawed_negatives="drop") == full
    said = [
        full,
        protocol(mode="sampled", negatives=99),
        protocol(mode="sampled", negatives=100),
        protocol(mode="sampled", negatives="shipped"),
        protocol(mode="sampled", negatives="shipped", seen_items="keep"),
        protocol(mode="sampled", negatives="shipped", seen_items="keep", flawed_negatives="keep"),
        Protocol.model_validate({"mode": "click_through"}),
    ]
    assert len({fingerprint(each) for each in said}) == len(said)
    assert [Protocol.model_validate(each.model_dump(mode="json")) for each in said] == said


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"negatives": 99}, "never among a sample"),
        ({"mode": "sampled"}, "how many are drawn for each case"),
        ({"mode": "sampled", "negatives": 0}, "0 is neither"),
        ({"mode": "sampled", "negatives": "some"}, "'some' is neither"),
        ({"mode": "sampled", "negatives": 9, "flawed_negatives": "keep"}, "only shipped negatives can be flawed"),
        ({"mode": "sampled", "negatives": "shipped", "flawed_negatives": "keep"}, "takes items of the history out"),
        ({"flawed_negatives": "keep"}, "only shipped negatives can be flawed"),
        ({"mode": "sampled", "negatives": 9, "diversity": {"feature": "genre"}}, "measures no variety"),
        ({"mode": "sampled", "negatives": 9, "select_by": "auc"}, "belongs to `mode: click_through`"),
        ({"metrics": ["ndcg", "auc"]}, "belongs to `mode: click_through`"),
        ({"mode": "half"}, "'full', 'sampled' or 'click_through'"),
    ],
)
def test_keys_of_another_mode_are_refused_in_plain_words(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        protocol(**keys)


def test_columns_with_and_without_a_cutoff_are_told_apart() -> None:
    assert parse_column("ndcg@20") == ("ndcg", 20) and parse_column("auc") == ("auc", 0)
    for wrong in ("auc@20", "ndcg", "ndcg@0", "fun@20"):
        with pytest.raises(ValueError, match="is not METRIC@CUTOFF"):
            parse_column(wrong)


def test_labelled_rows_need_the_split_that_makes_them() -> None:
    with pytest.raises(ValidationError, match="a leave_one_out split makes none"):
        benchmark({"mode": "click_through"})
    assert benchmark({"mode": "click_through"}, kind="click_through").evaluation.columns == ("auc", "accuracy")


def test_shipped_negatives_need_the_split_that_keeps_their_rows() -> None:
    said = {"mode": "sampled", "negatives": "shipped", "seen_items": "keep"}
    for split in ({"kind": "leave_one_out"}, {"kind": "click_through"}, {"kind": "session"}):
        with pytest.raises(
            ValidationError, match=f"with {split['kind']} say how many are drawn for each case, as in `negatives"
        ):
            benchmark(said, **split)
        assert benchmark(said | {"negatives": 9}, **split).evaluation.negatives == 9
    assert benchmark(said, kind="leave_one_out", test="column: part").evaluation.negatives == "shipped"


def test_the_words_of_a_mode_say_what_is_compared() -> None:
    full, drawn, shipped, rows = (
        " ".join(protocol_words(each))
        for each in (
            benchmark({"seen_items": "exclude"}),
            benchmark({"mode": "sampled", "negatives": 99, "seen_items": "exclude"}),
            benchmark(
                {"mode": "sampled", "negatives": "shipped", "flawed_negatives": "keep", "seen_items": "keep"},
                kind="leave_one_out",
                test="column: part",
            ),
            benchmark({"mode": "click_through", "candidates": "vocabulary", "unknown_targets": "drop"}, kind="click_through"),
        )
    )
    assert "never a sample" in full and not any("never a sample" in words for words in (drawn, shipped, rows))
    assert "among 99 negatives, not among all items" in drawn and "ties count against the model" in drawn
    assert "the negatives that come with the data" in shipped and "are counted and kept" in shipped
    assert (
        "Click-through protocol" in rows and "divided 6:2:2 at random" in rows and "without training events are dropped" in rows
    )
    assert "Metric auc: share of pairs" in rows and "not means over users" in rows
