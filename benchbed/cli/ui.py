"""``benchbed ui``: the MLflow UI over this workspace."""

from __future__ import annotations

from typing import Annotated

import typer

from benchbed.cli.options import WorkspaceOption


def ui(
    workspace: WorkspaceOption = None,
    port: Annotated[int, typer.Option(help="Port of the page.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Browse every trial in the MLflow UI. Ctrl-C ends it."""
    import subprocess
    import sys

    from benchbed.tracking.store import store_uri
    from benchbed.workspace import Workspace

    uri = store_uri(Workspace.open(workspace))
    print(f"MLflow UI on http://{host}:{port} over {uri}")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", host, "--port", str(port)]
    try:
        code = subprocess.call(command)
    except KeyboardInterrupt:
        code = 0
    raise typer.Exit(code)
