"""The command ``benchbed``: its verbs, and how mistakes are shown."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from benchbed import __version__
from benchbed.cli import demo, listing, prepare, report, status, sweep, ui, validate
from benchbed.errors import BenchbedError, Interrupted

_CTRL_C = 130
"""How typer ends on Ctrl-C."""

app = typer.Typer(
    name="benchbed",
    help="Honest benchmarking of recommender systems: a benchmark file goes in, a leaderboard that can be trusted comes out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("demo")(demo.demo)
app.command("list")(listing.list_names)
app.command("prepare")(prepare.prepare)
app.command("validate")(validate.validate)
app.command("sweep")(sweep.sweep)
app.command("status")(status.status)
app.command("report")(report.report)
app.command("ui")(ui.ui)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"benchbed {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's mistake ends it with one message and its exit code, without a traceback.

    Exit codes: 0 done, 1 finished with failed trials or models, 2 the user's mistake, 3 interrupted (can be continued).
    """
    try:
        try:
            app(arguments, standalone_mode=True)
        except SystemExit as ended:
            if ended.code != _CTRL_C:
                raise
            raise Interrupted("Interrupted.", advice="The same command continues.") from None
    except BenchbedError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
