"""The evaluation block of a benchmark file."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from benchbed.config import fingerprint
from benchbed.evaluation.protocol import METRICS, VARIANTS, Protocol
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
        protocol(diversity={"feature": "genre", "apply": 0.1, "cutoff": 10})


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
    assert "re-ranked greedily for variety with lambda 0.2" in said(apply=0.2) and "left out" in said(uncategorised="drop")
