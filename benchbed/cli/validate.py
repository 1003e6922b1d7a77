"""``benchbed validate``: every mistake of any YAML file at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchbed.config import Document, read_document
from benchbed.errors import ConfigError, Problem, nearest


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Dataset cards, search spaces and benchmark files.")],
) -> None:
    """Check YAML files: every mistake at once, with file, line, dotted key and the nearest valid name."""
    problems: list[Problem] = []
    kinds: list[str] = []
    for path in files:
        try:
            document = read_document(path)
            kind, checker = _checker(document)
            kinds.append(kind)
            problems += checker(document)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    for path, kind in zip(files, kinds, strict=True):
        print(f"{path}: a valid {kind}")


def _checker(document: Document) -> tuple[str, Callable[[Document], list[Problem]]]:
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


def _card(document: Document) -> list[Problem]:
    from benchbed.data.card import check_card

    return check_card(document)[1]


def _space(document: Document) -> list[Problem]:
    from benchbed.search.space_file import check_space

    return check_space(document)[1]


def _claims(document: Document) -> list[Problem]:
    from benchbed.config import check
    from benchbed.sweep.planted_claims import Claims

    return check(document, Claims)[1]


def _benchmark(document: Document) -> list[Problem]:
    from benchbed.sweep.lookup import check_benchmark

    return check_benchmark(document)[1]
