"""``benchbed report``: the leaderboard of a sweep."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchbed.cli.options import BenchmarkArgument, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from benchbed.sweep.benchmark import Benchmark


def report(
    benchmark: BenchmarkArgument,
    out: Annotated[Path | None, typer.Option(help="Folder for the files (default: reports/<name>).")] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Write the leaderboard as HTML, Markdown, CSV, LaTeX and JSON, from what MLflow holds."""
    from benchbed.reporting.files import write_report
    from benchbed.sweep.lookup import load_benchmark
    from benchbed.workspace import Workspace

    loaded = load_benchmark(benchmark)
    written = write_report(Workspace.open(workspace), loaded.name, out or Path("reports") / loaded.name)
    warn_of_changes(loaded, _asked_then(written), benchmark)
    if json:
        import json as encoder

        print(encoder.dumps([str(path) for path in written], indent=2))
        return
    show_table(next(path for path in written if path.suffix == ".csv"), loaded.evaluation.select_by.partition("@")[2])
    for path in written:
        print(path)


def _asked_then(written: list[Path]) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(next(path for path in written if path.suffix == ".json").read_text())["benchmark"]
    return found


def warn_of_changes(now: Benchmark, then: Mapping[str, Any], called: str) -> None:
    """Say on the terminal that the file asks another question than the sweep answered."""
    changed = now.changes_since(then)
    if changed:
        print(
            f"note: {called} was changed since this sweep ({', '.join(changed)}); this answers the file as it was then.\n"
            f"  benchbed sweep {called} answers it as it is now.",
            file=sys.stderr,
        )


def show_table(path: Path, cutoff: str) -> None:
    """Print the head of a ``leaderboard.csv``: every standard metric at one cutoff or without any, and diversity."""
    import csv

    from rich.console import Console
    from rich.table import Table

    from benchbed.evaluation.protocol import LABELLED, VARIANTS

    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    metrics = [
        column
        for column in (rows[0] if rows else {})
        if (column.endswith(f"@{cutoff}") and column.rpartition("@")[0] not in VARIANTS) or column in LABELLED
    ]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("rank", "model", *metrics):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for row in rows:
        rank = row["rank"] if row["rank"] == row["last_rank"] else f"{row['rank']}-{row['last_rank']}"
        cells = [_cell(row[metric], row[f"{metric}_std"]) for metric in metrics]
        table.add_row(rank, row["model"], *cells)
    Console(highlight=False).print(table)


def _cell(mean: str, spread: str) -> str:
    if not mean:
        return ""
    return f"{float(mean):.4f} ±{float(spread):.4f}" if spread and float(spread) > 0 else f"{float(mean):.4f}" + " " * 8
