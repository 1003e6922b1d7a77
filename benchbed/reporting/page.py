"""The page: one HTML file that holds everything and works offline."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbed.errors import counted
from benchbed.evaluation.protocol import VARIANTS
from benchbed.reporting.figures import anytime, cost_quality, interval_mark, series_of, trial_strip, tuning
from benchbed.reporting.figures_diversity import accuracy_diversity
from benchbed.reporting.leaderboard import Leaderboard
from benchbed.reporting.negatives import with_uncounted
from benchbed.reporting.samples import case_key
from benchbed.reporting.svg import short
from benchbed.reporting.words import (
    NOTHING,
    cutoff_of,
    duration,
    headline,
    means_over,
    notices,
    number,
    rank_text,
    rank_words,
    remarks,
    run_table,
    scoring_words,
    sentence_of_seeds,
    spread_over,
    title_of,
    variant_words,
)
from benchbed.tracking.reading import RunRecord

if TYPE_CHECKING:
    from jinja2 import Environment

SHOWN_FACTS = 60
"""Facts of one kind that a page shows at most; all are in the JSON file."""


def render_page(board: Leaderboard) -> str:
    """The leaderboard as one self-contained HTML document: no script, style, font or picture comes from elsewhere."""
    record, series = board.record, series_of(board)
    cutoffs = [cutoff for cutoff in dict.fromkeys(map(cutoff_of, record.standard_columns)) if cutoff]
    return (
        _environment()
        .get_template("leaderboard.html.j2")
        .render(
            board=board,
            record=record,
            facts=record.facts,
            benchmark=record.benchmark,
            title=title_of(record),
            notices=notices(record),
            means_over=means_over(record),
            told=datetime.fromtimestamp(record.told / 1000, UTC),
            headline=headline(board),
            rank_words=rank_words(board),
            spread_over=spread_over(board.record),
            series=series,
            intervals={row.model: interval_mark(board, row, series[row.model]) for row in board.rows},
            cutoffs=cutoffs,
            chosen_cutoff=cutoff_of(record.select_by),
            other_columns=[column for column in record.standard_columns if column != record.select_by],
            variant_words=variant_words(record),
            variants={column: VARIANTS[column.rpartition("@")[0]] for column in record.variant_columns},
            best_of={
                # A list is not better for being more varied.
                column: None if column in record.diversity_columns else _best_of(board, column)
                for column in record.columns
            },
            figures={
                "by_trial": anytime(board, by_seconds=False),
                "by_seconds": anytime(board, by_seconds=True),
                "cost": cost_quality(board),
                "strip": trial_strip(board),
                "tuning": tuning(board),
                "diversity": accuracy_diversity(board),
            },
            matrix=_matrix(board),
            remarks=remarks(board),
            runs=run_table(board),
            seeds_words=sentence_of_seeds(record),
            openings=_openings(board),
            failures=[run for run in (*record.trials, *record.finals) if run.state == "FAIL"],
            dataset=_dataset(board),
            cleaning=[step for step in (record.facts.get("dataset") or {}).get("cleaning") or [] if isinstance(step, Mapping)],
            split_facts=lambda audit: _flat(_audit_of_protocol(audit, record.benchmark["evaluation"])),
            environment=_flat(record.facts.get("environment") or {}),
            git=_flat(record.facts.get("git") or {}),
            benchmark_file=_as_yaml(record.benchmark),
            spent=sum(run.seconds for run in (*record.trials, *record.finals)),
        )
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "number": number,
        "duration": duration,
        "rank": rank_text,
        "count": _count,
        "cutoff": cutoff_of,
        "scoring": scoring_words,
        "breakable": lambda words: Markup("_<wbr>").join(str(words).split("_")),
        "size": _size,
        "flat": _flat,
        "facts": _fact_text,
        "configuration": _configuration,
        "run_words": _run_words,
        "drawn": Markup,
    }
    return environment


def _best_of(board: Leaderboard, column: str) -> str | None:
    means = {row.model: row.metrics[column].mean for row in board.rows if math.isfinite(row.metrics[column].mean)}
    return max(means, key=lambda model: means[model], default=None)


def _matrix(board: Leaderboard) -> list[dict[str, Any]]:
    """Who is above whom: for every ranked row its difference to every other."""
    found = board.comparison
    ranked = [row.model for row in board.rows if row.rank is not None]
    if found is None or len(ranked) < 2:
        return []
    lines = []
    for first in ranked:
        cells: list[dict[str, Any] | None] = []
        for second in ranked:
            if first == second:
                cells.append(None)
                continue
            pair, sign = found.pair(first, second)
            verdict = "above" if found.better(first, second) else "below" if found.better(second, first) else "open"
            tip = (
                f"{first} less {second}: {sign * pair.difference:+.4f}, "
                f"standard error {pair.standard_error:.4f}, p {pair.p_holm:.3g} after Holm"
            )
            cells.append({"difference": sign * pair.difference, "verdict": verdict, "tip": tip})
        lines.append({"model": first, "cells": cells})
    return lines


def _openings(board: Leaderboard) -> list[dict[str, Any]]:
    """Openings of the vaults by this sweep, in order of time; told as one list, or as lists by split."""
    told = board.record.notes.get("openings") or []
    if isinstance(told, Mapping):
        seeds = {split.get("split_id"): split.get("seed") for split in board.record.facts.get("splits") or ()}
        several = len(told) > 1
        told = [
            {**each, **({"split_seed": seeds.get(split, split)} if several else {})}
            for split, log in told.items()
            for each in log
        ]
    mine = [each for each in told if each.get("sweep", board.record.sweep) == board.record.sweep]
    return sorted(mine, key=lambda each: str(each.get("time", "")))


def _dataset(board: Leaderboard) -> list[tuple[str, str]]:
    """What a reader wants to know about the data first, then the rest."""
    facts = dict(board.record.facts.get("dataset") or {})
    steps = facts.pop("cleaning", None) or [{}]
    counts = {name: facts.pop(name, steps[-1].get(name)) for name in ("users", "items", "interactions")}
    first = {
        "title": facts.pop("title", None),
        **counts,
        "licence": facts.pop("licence", None),
        "homepage": facts.pop("homepage", None),
    }
    known = {name: value for name, value in {**first, **facts}.items() if value not in (None, "")}
    return _flat(known)


def _audit_of_protocol(audit: Mapping[str, Any], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The audit of a split; of the case counts under every rule, those under the rules of this benchmark."""
    facts = with_uncounted(audit, evaluation)
    rules = case_key(evaluation)
    cases = facts.pop("cases", None)
    if isinstance(cases, Mapping):
        found = {part: rows[rules] for part, rows in cases.items() if isinstance(rows, Mapping) and rules in rows}
        facts |= {f"{part} under this protocol": rows for part, rows in found.items()}
    return facts


def _flat(facts: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Facts as pairs of words, nested ones after each other; long lists are counted."""
    return list(_pairs(facts, prefix))[:SHOWN_FACTS]


def _pairs(facts: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        words = f"{prefix}{str(name).replace('_', ' ')}"
        if name == "warnings":
            continue
        if isinstance(value, Mapping):
            yield from _pairs(value, f"{words}, ")
        elif isinstance(value, list | tuple) and any(isinstance(each, Mapping | list) for each in value):
            yield words, counted(len(value), "entry", "entries")
        else:
            yield words, _fact_text(value, share=str(name).endswith("share"))


def _fact_text(value: Any, *, share: bool = False) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_fact_text, value)) or "none"
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _count(value)
    if isinstance(value, float):
        return f"{100 * value:.2f} %" if share else f"{value:.4g}"
    return str(value)


def _count(value: float | None) -> str:
    """A count with thin spaces between thousands."""
    if value is None:
        return NOTHING
    return f"{value:,.0f}".replace(",", "\u202f") if abs(value) >= 10_000 else f"{value:.0f}"


def _size(value: float | None) -> str:
    return NOTHING if value is None else short(float(value))


def _configuration(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_setting(value)}" for name, value in sorted(parameters.items())) or "nothing to set"


def _setting(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _run_words(run: RunRecord) -> str:
    """A failed run in words: which, and why."""
    which = f"trial {run.number}" if run.stage == "search" else f"final seed {run.seed}"
    split = f", split seed {run.split_seed}" if run.split_seed is not None else ""
    return f"{run.model}, {which}{split}: {run.closed.get('reason') or 'no reason recorded'}"


def _as_yaml(benchmark: Mapping[str, Any]) -> str:
    import yaml

    return str(
        yaml.safe_dump(_without_none(benchmark), sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)
    )


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_none(each) for name, each in value.items() if each is not None and each != ""}
    return value
