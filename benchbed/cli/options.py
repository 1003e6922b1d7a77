"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", help="Where benchbed keeps data, sweeps and results (default: $BENCHBED_HOME or ./.benchbed)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
BenchmarkArgument = Annotated[str, typer.Argument(metavar="BENCHMARK", help="A benchmark's name or the path of its file.")]
