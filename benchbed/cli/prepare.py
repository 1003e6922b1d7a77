"""``benchbed prepare``: raw logs -> Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchbed.cli.options import JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from benchbed.data.prepare import Prepared


def prepare(
    card: Annotated[str, typer.Argument(metavar="CARD", help="A dataset's name or the path of its card.")],
    raw: Annotated[
        Path | None, typer.Option(help="Folder with the raw files; searched by file name, compressed or not.")
    ] = None,
    workspace: WorkspaceOption = None,
    json: JsonOption = False,
) -> None:
    """Convert raw logs to Parquet. The same command again does nothing, or finishes what was interrupted."""
    from benchbed.cli.progress import Progress
    from benchbed.data.card import load_card
    from benchbed.data.prepare import prepare as prepare_dataset
    from benchbed.workspace import Workspace

    with Progress(f"prepare {card}", quiet=json) as progress:
        prepared = prepare_dataset(load_card(card), Workspace.open(workspace), raw, progress)
    if json:
        import json as encoder

        print(encoder.dumps(prepared.manifest, indent=2))
        return
    _show(prepared)


def _show(prepared: Prepared) -> None:
    from rich.console import Console

    from benchbed.errors import counted

    audit: dict[str, Any] = prepared.audit
    console = Console(highlight=False)
    console.print(
        f"[bold]{prepared.name}[/bold]: {counted(audit['interactions'], 'interaction')} of "
        f"{counted(audit['users'], 'user')} with {counted(audit['items'], 'item')}"
    )
    rejected = {table: count for table, count in audit["rejected"].items() if count}
    for table, count in rejected.items():
        kept = prepared.folder / "rejected.parquet"
        console.print(f"  {counted(count, 'row')} of {table} could not be read, kept in {kept}", soft_wrap=True, markup=False)
    before = None
    for step in audit["cleaning"]:
        if before is not None and step["interactions"] < before:
            console.print(
                f"  {step['step'].replace('_', ' ')}: {counted(before - step['interactions'], 'interaction')} dropped"
            )
        before = step["interactions"]
    for warning in audit["warnings"]:
        console.print(f"  note: {warning}", markup=False, soft_wrap=True)
    console.print(f"  {prepared.folder}", soft_wrap=True, markup=False)
    console.print(f"  fingerprint {prepared.fingerprint[:16]}")
