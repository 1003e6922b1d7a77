"""What must be said of listed negatives before any number is read: which are none, and which cases have too few."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchbed.errors import counted
from benchbed.reporting.samples import case_key
from benchbed.tracking.reading import SweepRecord

LATER_COUNTS = ("cases_without", "cases_without_sound", "of_events_not_tested")
"""What the audit of shipped negatives did not count in earlier versions."""


def flaw_words(record: SweepRecord) -> list[str]:
    """What is wrong with listed negatives, and which cases have none; one sentence for each split that differs.

    What an earlier version did not count is said to be not counted.
    """
    if record.mode != "sampled":
        return []
    evaluation = record.benchmark["evaluation"]
    shipped = evaluation.get("negatives") == "shipped"
    told = _flawed(record) if shipped else []
    for split in record.facts.get("splits") or ():
        audit = split.get("audit") or {}
        tested = [run.closed for run in record.finals if run.test and run.split_seed in (None, split.get("seed"))]
        facts = next((closed for closed in tested if closed.get("cases") is not None), None)
        if facts is not None:
            before = audit.get("cases", {}).get("test", {}).get(case_key(evaluation), {}).get("cases")
            wanted = None if shipped else int(evaluation["negatives"])
            told += _without("test", int(facts["cases"]), before)
            told += _with_fewer("test", facts, wanted)
        told += _of_validation(split.get("sampled_validation"))
    return list(dict.fromkeys(told))


def _of_validation(facts: Mapping[str, Any] | None) -> list[str]:
    if facts is None:
        return ["Validation cases without a negative among the candidates were not counted, nor those with fewer than wanted."]
    before = int(facts["cases"]) + int(facts["cases_without_negatives"])
    return _without("validation", int(facts["cases"]), before) + _with_fewer(
        "validation", facts, int(facts["wanted_negatives"])
    )


def _without(part: str, cases: int, before: int | None) -> list[str]:
    """Cases that nothing could be compared in; ``before`` is how many there were with them."""
    if before is None:
        return [f"How many {part} cases have no negative among the candidates was not counted."]
    if before <= cases:
        return []
    return [
        f"{before - cases} of {counted(before, f'{part} case')} left out, without a negative among the candidates: any model "
        "would put their targets first."
    ]


def _with_fewer(part: str, facts: Mapping[str, Any], wanted: int | None) -> list[str]:
    """Cases for which fewer negatives could be drawn than asked for; of shipped ones (None) there is no such number."""
    if wanted is None:
        return []
    if "cases_with_fewer_negatives" not in facts:
        return [f"How many {part} cases have fewer than {wanted} negatives was not counted."]
    short = int(facts["cases_with_fewer_negatives"])
    if not short:
        return []
    return [
        f"For {short} of {counted(int(facts['cases']), f'{part} case')} fewer than {wanted} negatives could be drawn (fewest "
        f"{int(facts['fewest_negatives'])}): no more candidates are free."
    ]


def _flawed(record: SweepRecord) -> list[str]:
    """How many of the negatives that came with the data are none."""
    drop = record.benchmark["evaluation"].get("flawed_negatives", "drop") == "drop"
    fate = "are dropped" if drop else "stay in the lists"
    told = []
    for split in record.facts.get("splits") or ():
        if counts := (split.get("audit") or {}).get("negatives"):
            where = f"in {counts['cases_with_some_in_history']} of {counted(counts['cases'], 'case')}"
            told.append(
                f"Of {counts['negatives']} shipped negatives {counts['target_itself']} are the target of their own case, and "
                f"{counts['in_history']} stand in the user's history ({where}): these {fate}."
            )
            if ("cases_without_sound" if drop else "cases_without") not in counts:
                kind = "sound" if drop else "shipped"
                told.append(f"How many test cases have no {kind} negative was not counted when this split was made.")
    return told


def with_uncounted(audit: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The audit of a split, with the words for what an earlier version did not count where it would stand."""
    facts, unknown = dict(audit), "not counted"
    if isinstance(shipped := facts.get("negatives"), Mapping):
        facts["negatives"] = {**shipped, **{name: unknown for name in LATER_COUNTS if name not in shipped}}
    if (evaluation.get("targets"), evaluation.get("unknown_targets")) == ("every_next", "drop"):
        rules, cases = case_key(evaluation), facts.get("cases") or {}
        later = {
            part: {**rows, rules: {"cases_without_known_history": unknown, **rows[rules]}}
            for part, rows in cases.items()
            if rules in rows
        }
        facts["cases"] = {**cases, **later}
    return facts
