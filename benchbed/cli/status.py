"""``benchbed status``: where a sweep stands."""

from __future__ import annotations

import typer

from benchbed.cli.options import BenchmarkArgument, JsonOption, WorkspaceOption

FILE_WIDTH = 200
"""Columns of the table where it is not read on a terminal."""


def status(benchmark: BenchmarkArgument, workspace: WorkspaceOption = None, json: JsonOption = False) -> None:
    """Show where a sweep stands; a running sweep is not disturbed."""
    from benchbed.sweep.lookup import load_benchmark
    from benchbed.sweep.status import read_status
    from benchbed.workspace import Workspace

    found = read_status(load_benchmark(benchmark), Workspace.open(workspace))
    if json:
        import json as encoder

        print(encoder.dumps(found.to_json(), indent=2))
        raise typer.Exit(0)
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=FILE_WIDTH)  # a file or a pipe has no edge at column 80
    console.print(f"[bold]{found.benchmark}[/bold]: {found.summary(benchmark)}", soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("stage", "model", "split", "trials", "complete", "pruned", "failed", "running", "best"):
        table.add_column(column, justify="left" if column in ("stage", "model") else "right", no_wrap=True)
    for row in found.studies:
        best = "" if row.best_value is None else f"{row.best_value:.4f}"
        numbers = (row.complete, row.pruned, row.failed, row.running)
        table.add_row(
            row.stage, row.model, str(row.split_seed), f"{row.spent}/{row.budget}", *(str(n or "") for n in numbers), best
        )
    console.print(table)
