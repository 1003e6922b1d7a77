"""Files of a leaderboard: for people (HTML, Markdown, LaTeX) and for programs (CSV, JSON)."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchbed.reporting.figures_diversity import lambda_curves
from benchbed.reporting.leaderboard import Leaderboard, LeaderboardRow, make_leaderboard
from benchbed.reporting.words import (
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
    spread_over,
    title_of,
    variant_words,
)
from benchbed.tracking.reading import RunRecord, read_cases, read_sweep, send_outstanding, store_uri
from benchbed.workspace import Workspace, replacing

FORMATS = ("html", "md", "csv", "tex", "json")


def write_report(workspace: Workspace, benchmark_name: str, out: Path, uri: str | None = None) -> list[Path]:
    """Write the leaderboard of a benchmark's newest sweep as ``leaderboard.{html,md,csv,tex,json}``.

    What an ended sweep could not send to the store is sent first.

    Parameters
    ----------
    workspace
        Where the sweep ran.
    benchmark_name
        Which benchmark.
    out
        Folder for the files; created when absent. Every file is replaced as a whole.
    uri
        The store; None takes ``MLFLOW_TRACKING_URI``, else the workspace's.

    Returns
    -------
    list of Path
        The files, in order of :data:`FORMATS`.

    Raises
    ------
    TrackingError
        The store cannot be read or has no such benchmark.
    """
    address = store_uri(workspace, uri)
    send_outstanding(workspace.sweep(benchmark_name), workspace, address)
    record = read_sweep(address, benchmark_name)
    return write_files(make_leaderboard(record, lambda run, columns: read_cases(address, run, columns)), out)


def write_files(board: Leaderboard, out: Path) -> list[Path]:
    """Write a leaderboard in every format; see :func:`write_report`."""
    from benchbed.reporting.page import render_page

    texts = {
        "html": render_page(board),
        "md": to_markdown(board),
        "csv": to_csv(board),
        "tex": to_latex(board),
        "json": to_json(board),
    }
    written = []
    for kind in FORMATS:
        path = out / f"leaderboard.{kind}"
        with replacing(path) as temporary:
            temporary.write_text(texts[kind], encoding="utf-8")
        written.append(path)
    return written


def to_csv(board: Leaderboard) -> str:
    """One line a row, plain numbers, nothing for what is not known.

    Columns: ``rank, model, variant, user_mode``, for each metric its mean over seeds and ``METRIC_std``, then costs.
    """
    head: list[Any] = ["rank", "model", "variant", "user_mode"]
    metrics = [name for column in board.record.columns for name in (column, f"{column}_std")]
    lines = [[*head, *metrics, *_costs(board.rows[0])]] if board.rows else [[*head, *metrics]]
    for row in board.rows:
        spreads = [
            number for column in board.record.columns for number in (row.metrics[column].mean, row.metrics[column].deviation)
        ]
        lines.append([row.rank, row.model, row.variant, row.user_mode, *spreads, *_costs(row).values()])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[_plain(cell) for cell in line] for line in lines])
    return text.getvalue()


def _costs(row: LeaderboardRow) -> dict[str, Any]:
    best = row.best_epochs
    return {
        "last_rank": row.last_rank,
        "baseline": int(row.baseline),
        "validation_default": row.default_value,
        "validation_tuned": row.tuned_value,
        "trials_declared": row.budget.declared,
        "trials_complete": row.budget.complete,
        "trials_pruned": row.budget.pruned,
        "trials_failed": row.budget.failed,
        "search_seconds": row.budget.seconds,
        "search_epochs": row.budget.epochs,
        "final_seconds": row.final_seconds,
        "final_seeds_planned": row.seeds["planned"],
        "final_seeds_tested": row.seeds["tested"],
        "final_seeds_collapsed": row.seeds["collapsed"],
        "final_seeds_failed": row.seeds["failed"],
        "final_best_epoch": sum(best) / len(best) if best else None,
        "parameters": row.parameters,
        "peak_memory_mb": row.peak_memory_mb,
        "coverage": row.coverage,
        "fold_in_seconds": row.fold_in.seconds if row.fold_in else None,
        "fold_in_agreement": row.fold_in.agreement if row.fold_in else None,
    }


def _plain(cell: Any) -> Any:
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return ""
    return round(cell, 6) if isinstance(cell, float) else cell


def to_json(board: Leaderboard) -> str:
    """Everything: the record, the rows, all pairs. Strict JSON: what is not finite is null."""
    record = board.record
    whole = {
        "benchmark": record.benchmark,
        "sweep": record.sweep,
        "finished": record.finished,
        "mode": record.mode,
        "notices": notices(record),
        "reservations": board.reservations,
        "select_by": record.select_by,
        "columns": record.columns,
        "rows": [asdict(row) for row in board.rows],
        "comparison": board.comparison and _comparison(board),
        "variety": {model: [asdict(point) for point in curve] for model, curve in lambda_curves(record).items()},
        "published": [asdict(line) for line in board.published],
        "facts": record.facts,
        "notes": record.notes,
        "runs": [_run(run) for run in (*record.trials, *record.finals)],
    }
    return json.dumps(_finite(whole), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _comparison(board: Leaderboard) -> dict[str, Any]:
    assert board.comparison is not None
    found = board.comparison
    return {
        "level": found.level,
        "smallest_detectable": found.smallest_detectable,
        "seed_noise_known": found.seed_noise_known,
        "seed_deviation": found.seed_deviation,
        "pairs": [{**asdict(pair), "standard_error": pair.standard_error} for pair in found.pairs],
    }


def _run(run: RunRecord) -> dict[str, Any]:
    """Everything about a run but where its files lay on the machine that made them; the store holds those."""
    told = {**asdict(run), "epochs": [[epoch.number, epoch.value, epoch.seconds] for epoch in run.epochs]}
    told["closed"] = {name: value for name, value in run.closed.items() if name != "artifacts"}
    return told


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_markdown(board: Leaderboard) -> str:
    """A table for a readme, with its reservations above and its marks below."""
    record = board.record
    lines = [f"# {_cell(title_of(record))}", ""]
    lines += [line for text in (*notices(record), *board.reservations) for line in (f"> **{_cell(text)}**", "")]
    lines += [_cell(headline(board)), ""]
    columns = (*record.standard_columns, *record.diversity_columns)
    head = ["rank", "model", "variant", *columns, "default → tuned (validation)", "trials", "search time"]
    lines += [_line(head), _line(["---:", ":---", ":---", *["---:"] * (len(head) - 3)])]
    for row in board.rows:
        marks = ", ".join(mark.word for mark in row.marks)
        name = f"{_cell(row.model)}<br><sub>{_cell(marks)}</sub>" if marks else _cell(row.model)
        cells = [rank_text(row), name, _cell(row.variant)]
        cells += [_spread(row, column) for column in columns]
        cells += [f"{number(row.default_value)} → {number(row.tuned_value)}", str(_trials(row)), duration(row.budget.seconds)]
        lines.append(_line(cells))
    spread = f"± deviation over {spread_over(record)}"
    lines += [
        "",
        f"Test means over {means_over(record)}, {spread}; ranked by {record.select_by}. {rank_words(board)}",
        "",
    ]
    lines += _remarks(board)
    lines += [*_variants(board), *_runs(board), *_published(board)]
    lines += [f"- {_cell(word)}" for word in record.facts.get("protocol_words", ())]
    lines += ["", f"Protocol `{str(record.facts.get('protocol_fingerprint'))[:16]}`, sweep `{record.sweep}`."]
    return "\n".join(lines) + "\n"


def _remarks(board: Leaderboard) -> list[str]:
    """What the marks mean, and how scores came about."""
    lines = [f"- **{_cell(word)}** ({_cell(', '.join(models))}): {_cell(meaning)}" for word, meaning, models in remarks(board)]
    lines += [f"- {_cell(row.model)}: {_cell(words)}" for row in board.rows if (words := scoring_words(row))]
    return [*lines, ""] if lines else []


def _runs(board: Leaderboard) -> list[str]:
    """Every final run, as a table; nothing where no row has more than one."""
    places, rows = run_table(board)
    if len(places) < 2:
        return []
    lines = [_line(["model", *places]), _line([":---", *["---:"] * len(places)])]
    lines += [_line([_cell(row.model), *rows[row.model]]) for row in board.rows if row.runs]
    return [f"Every final run, {board.record.select_by} on test:", "", *lines, ""]


def _variants(board: Leaderboard) -> list[str]:
    """The metrics that are shown apart, as a table of their own."""
    columns = board.record.variant_columns
    if not columns:
        return []
    lines = [_line(["model", *columns]), _line([":---", *["---:"] * len(columns)])]
    lines += [_line([_cell(row.model), *(_spread(row, column) for column in columns)]) for row in board.rows]
    return [_cell(variant_words(board.record)), "", *lines, ""]


def _published(board: Leaderboard) -> list[str]:
    """Rows beside published values, as a table; nothing where the benchmark names none."""
    if not board.published:
        return []
    lines = [
        _line(["row", "metric", "here", "published", "difference", "", "source"]),
        _line([":---"] * 2 + ["---:"] * 3 + [":---"] * 2),
    ]
    for each in board.published:
        values = [f"{each.ours:.4f}", f"{each.published:.4f}", each.difference_text]
        lines.append(_line([_cell(cell) for cell in (each.model, each.column, *values, each.verdict, each.source)]))
    return [
        *lines,
        "",
        "± is the standard error of the difference: test users and training seeds; published values count as exact.",
        "",
    ]


def to_latex(board: Leaderboard) -> str:
    """A ``booktabs`` table."""
    columns = (*board.record.standard_columns, *board.record.diversity_columns)
    lines = [
        "% needs \\usepackage{booktabs}",
        f"% {title_of(board.record)}",
        *[f"% {text}" for text in (*notices(board.record), *board.reservations)],
        f"\\begin{{tabular}}{{rll{'r' * len(columns)}}}",
        "\\toprule",
        " & ".join(["rank", "model", "variant", *map(_tex, columns)]) + r" \\",
        "\\midrule",
    ]
    for row in board.rows:
        cells = [rank_text(row), _tex(row.model), _tex(row.variant)]
        cells += [_spread(row, column).replace(" ± ", r" {\scriptsize$\pm$}") for column in columns]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _trials(row: LeaderboardRow) -> str:
    budget = row.budget
    return f"{budget.complete + budget.pruned + budget.failed}/{budget.declared}"


def _spread(row: LeaderboardRow, column: str) -> str:
    spread = row.metrics[column]
    if not math.isfinite(spread.mean):
        return number(None)
    shown = math.isfinite(spread.deviation) and not (row.closed_form and spread.deviation == 0)
    return f"{spread.mean:.4f} ± {spread.deviation:.4f}" if shown else f"{spread.mean:.4f}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(sign, safe)
    return text


def _tex(text: str) -> str:
    escapes = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(escapes.get(sign, f"\\{sign}" if sign in "&%$#_{}" else sign) for sign in text)
