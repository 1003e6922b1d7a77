"""``benchbed sweep``: run a benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from benchbed.cli.options import BenchmarkArgument, WorkspaceOption

if TYPE_CHECKING:
    from benchbed.sweep.stages import SweepOutcome
    from benchbed.workspace import Workspace


def sweep(
    benchmark: BenchmarkArgument,
    models: Annotated[str | None, typer.Option(help="Only these models, separated by commas.")] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Search trials of each model, instead of the file's number.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a running Ray cluster: auto or HOST:PORT (default: this machine).")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Search with every model, then test the best of each. The same command again continues."""
    from benchbed.workspace import Workspace

    chosen = None if models is None else [name.strip() for name in models.split(",") if name.strip()]
    outcome = run(benchmark, Workspace.open(workspace), chosen, trials, address)
    raise typer.Exit(outcome.exit_code)


def run(
    benchmark: str,
    workspace: Workspace,
    models: list[str] | None = None,
    trials: int | None = None,
    address: str | None = None,
) -> SweepOutcome:
    """Run a sweep under a live table and say how it ended."""
    from benchbed.cli.live import LiveTrials
    from benchbed.sweep.lookup import load_benchmark
    from benchbed.sweep.stages import run_sweep

    loaded = load_benchmark(benchmark)
    with LiveTrials(loaded.name, loaded.evaluation.select_by) as observer:
        outcome = run_sweep(loaded, workspace, models=models, trials=trials, address=address, observer=observer)
    print(outcome.summary(benchmark))
    return outcome
