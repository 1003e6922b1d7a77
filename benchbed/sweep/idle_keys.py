"""Keys of a benchmark file that are written down and change nothing in it.

A schema cannot tell: a written default and a default that is not written are the same to it. The file is asked instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchbed.config import Document, problem_at
from benchbed.errors import Problem

_OF_ROWS = ("cutoffs", "seen_items", "targets", "average", "seed")
"""Keys of the evaluation that rows with labels do not ask for."""


def idle_keys(document: Document) -> list[Problem]:
    """Every key of a benchmark file whose value cannot have an effect beside the others, with what to do about it.

    A value of None is no value. Keys that the command line can bring back to life (``search.sampler`` beside ``trials: 1``, for
    ``--trials``) are let be.
    """
    split, evaluation = (_block(document, name) for name in ("split", "evaluation"))
    return [
        problem_at(document, (block, key), why)
        for block, rules in (("split", _split(split)), ("evaluation", _evaluation(evaluation, split)))
        for key, why in rules
    ]


def _block(document: Document, name: str) -> dict[str, Any]:
    found = document.values.get(name)
    return {key: value for key, value in found.items() if value is not None} if isinstance(found, dict) else {}


def _split(split: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    kind = split.get("kind")
    if "ties" in split and kind == "click_through":
        yield (
            "ties",
            "a click_through split divides rows at random and asks for no order: this would change nothing, leave it out",
        )
    seeds = split.get("seeds")
    if isinstance(seeds, list) and len(seeds) > 1 and kind == "leave_one_out" and split.get("ties") == "file":
        yield "seeds", "with `ties: file` a leave_one_out split holds out the same for every seed: take one seed"


def _evaluation(said: Mapping[str, Any], split: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    mode, kind = said.get("mode", "full"), split.get("kind")
    if mode == "click_through":
        for key in _OF_ROWS:
            if key in said:
                yield key, "click_through scores every labelled row, and each counts alike: this changes nothing, leave it out"
    else:
        alone = kind == "leave_one_out" and "test" not in split
        if "targets" in said and alone:
            yield (
                "targets",
                ("a leave_one_out split gives each user one target, so that rest, next and every_next are one: leave this out"),
            )
        if "average" in said and (alone or said.get("targets", "rest") in ("rest", "next")):
            yield (
                "average",
                (
                    "each user is one case here, so that users and cases are the same: leave this out, or take "
                    + ("another split" if alone else "`targets: every_next`")
                ),
            )
    if "flawed_negatives" in said and said.get("negatives") != "shipped":
        yield (
            "flawed_negatives",
            (
                "only negatives that come with the data can be flawed: this changes nothing, leave it out, or take "
                "`mode: sampled` with `negatives: shipped`"
            ),
        )
    usual = "catalogue" if mode == "click_through" else "vocabulary"
    if "unknown_targets" in said and kind == "click_through" and said.get("candidates", usual) == "catalogue":
        yield (
            "unknown_targets",
            (
                "with `candidates: catalogue` all items of a click_through split are candidates, so that no target is unknown: "
                "leave this out, or take `candidates: vocabulary`"
            ),
        )
    variety = said.get("diversity")
    if isinstance(variety, dict) and variety.get("apply") == "validation" and variety.get("lambdas") in ([0], [0.0]):
        yield "diversity", "lambdas: [0] re-ranks nothing, so that `apply: validation` changes nothing: give larger lambdas too"
