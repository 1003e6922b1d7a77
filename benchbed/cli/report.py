"""``benchbed report``: the leaderboard of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchbed.cli.options import BenchmarkArgument, JsonOption, WorkspaceOption


def report(
    benchmark: BenchmarkArgument,
    out: Annotated[Path | None, typer.Option(help="Folder for the files (default: reports/<name>).")] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Write the leaderboard as HTML, Markdown, CSV and JSON, from what MLflow holds."""
    from benchbed.reporting.files import write_report
    from benchbed.sweep.lookup import load_benchmark
    from benchbed.workspace import Workspace

    loaded = load_benchmark(benchmark)
    written = write_report(Workspace.open(workspace), loaded.name, out or Path("reports") / loaded.name)
    if json:
        import json as encoder

        print(encoder.dumps([str(path) for path in written], indent=2))
        return
    show_table(next(path for path in written if path.suffix == ".csv"), loaded.evaluation.select_by.rpartition("@")[2])
    for path in written:
        print(path)


def show_table(path: Path, cutoff: str) -> None:
    """Print the head of a ``leaderboard.csv``: every metric at one cutoff."""
    import csv

    from rich.console import Console
    from rich.table import Table

    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    metrics = [column for column in (rows[0] if rows else {}) if column.endswith(f"@{cutoff}")]
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
