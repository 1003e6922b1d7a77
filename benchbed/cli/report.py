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

    name = load_benchmark(benchmark).name
    written = write_report(Workspace.open(workspace), name, out or Path("reports") / name)
    if json:
        import json as encoder

        print(encoder.dumps([str(path) for path in written], indent=2))
        return
    show_table(next(path for path in written if path.suffix == ".csv"))
    for path in written:
        print(path)


def show_table(path: Path) -> None:
    """Print the head of a ``leaderboard.csv``."""
    import csv

    from rich.console import Console
    from rich.table import Table

    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    metrics = [column for column in rows[0] if "@" in column and not column.endswith("_std") and " " not in column]
    metrics = [column for column in metrics if not column.startswith(("valid", "default", "tuned"))][:4]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("rank", "model", "variant", *metrics):
        table.add_column(column, justify="right" if column in ("rank", *metrics) else "left")
    for row in rows:
        values = [
            f"{float(row[m]):.4f}" + (f" ±{float(s):.4f}" if (s := row.get(f"{m}_std")) else "") if row[m] else ""
            for m in metrics
        ]
        table.add_row(row["rank"], row["model"], row["variant"], *values)
    Console().print(table)
