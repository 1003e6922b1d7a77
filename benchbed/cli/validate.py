"""``benchbed validate``: every mistake of any YAML file at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchbed.cli.options import WorkspaceOption
from benchbed.config import Document, read_document
from benchbed.errors import ConfigError, Problem, nearest

Checker = Callable[[Document, Path | None], tuple[list[Problem], list[str]]]
"""Finds the mistakes of a file, and what is worth knowing of one without; the folder is that of the workspace."""


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Dataset cards, search spaces and benchmark files.")],
    workspace: WorkspaceOption = None,
) -> None:
    """Check YAML files: every mistake at once, with file, line, dotted key and the nearest valid name.

    A benchmark whose dataset is prepared is tried on the data, as a sweep does before it begins.
    """
    problems: list[Problem] = []
    told: list[str] = []
    for path in files:
        try:
            document = read_document(path)
            kind, checker = _checker(document)
            told.append(f"{path}: a valid {kind}")
            found, notes = checker(document, workspace)
            problems += found
            told += [f"  note: {note}" for note in notes]
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    print("\n".join(told))


def _checker(document: Document) -> tuple[str, Checker]:
    """What kind of file this is, told by its keys; a mistyped key still counts for the kind it resembles."""
    marks = {
        "dataset card": (("tables", "simulate", "licence", "citation"), _card),
        "search space": (("parameters", "model", "joint", "max_epochs"), _space),
        "benchmark": (("dataset", "split", "evaluation", "models", "search", "final"), _benchmark),
        "file of claims": (("claims", "ceiling", "test_users", "level"), _claims),
    }
    keys = [str(key) for key in document.values]
    scores = {
        kind: sum(2 if key in known else 1 if nearest(key, known) else 0 for key in keys) / len(known)
        for kind, (known, _) in marks.items()
    }
    best = max(scores, key=lambda kind: scores[kind])
    if scores[best] == 0:
        raise ConfigError(
            [Problem("this is neither a dataset card, nor a search space, nor a benchmark file", document.source, 1, 1)],
            advice="A card has 'tables', a search space 'model' and 'parameters', a benchmark 'dataset', 'split' and 'models'.",
        )
    return best, marks[best][1]


def _card(document: Document, _workspace: Path | None) -> tuple[list[Problem], list[str]]:
    from benchbed.data.card import check_card

    return check_card(document)[1], []


def _space(document: Document, _workspace: Path | None) -> tuple[list[Problem], list[str]]:
    from benchbed.search.space_file import check_space

    return check_space(document)[1], []


def _claims(document: Document, _workspace: Path | None) -> tuple[list[Problem], list[str]]:
    from benchbed.config import check
    from benchbed.sweep.planted_claims import Claims

    return check(document, Claims)[1], []


def _benchmark(document: Document, workspace: Path | None) -> tuple[list[Problem], list[str]]:
    from benchbed.sweep.lookup import check_benchmark
    from benchbed.workspace import Workspace

    benchmark, problems = check_benchmark(document)
    if problems or benchmark is None:
        return problems, []
    from benchbed.sweep.outlook import outlook

    return outlook(document, benchmark, Workspace.at(workspace))
