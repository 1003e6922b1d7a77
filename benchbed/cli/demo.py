"""``benchbed demo``: from nothing to a leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchbed.cli.options import WorkspaceOption


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the leaderboard.")] = Path("reports/demo"),
    workspace: WorkspaceOption = None,
) -> None:
    """Built-in data -> sweep of five models and five baselines -> leaderboard, in less than 5 minutes on 2 CPU cores."""
    from benchbed.cli.report import show_table
    from benchbed.cli.sweep import run
    from benchbed.reporting.files import write_report
    from benchbed.workspace import Workspace

    home = Workspace.open(workspace)
    outcome = run("demo", home)
    written = write_report(home, "demo", out)
    show_table(next(path for path in written if path.suffix == ".csv"), "20")
    page = next(path for path in written if path.suffix == ".html")
    print(f"\nThe leaderboard: {page.resolve()}\nEvery trial in MLflow: benchbed ui")
    raise typer.Exit(outcome.exit_code)
