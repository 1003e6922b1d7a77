"""Schemas: frozen, refusing unknown keys at every level, and telling every mistake with its place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from benchbed.config.document import Document, Path_, dotted, read_document
from benchbed.config.mistakes import judged
from benchbed.errors import ConfigError, Problem, nearest

Names = Mapping[str, Collection[str]]
"""Catalogues by key pattern: ``{"models.*": ["gru4rec", ...], "dataset": [...]}``; ``*`` stands for one key or index."""

S = TypeVar("S", bound="Schema")


class Schema(BaseModel):
    """Base of every schema of benchbed: frozen, unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def canonical(value: Any) -> str:
    """JSON with sorted keys, for hashing.

    Examples
    --------
    >>> canonical({"b": 1, "a": [1.5]})
    '{"a":[1.5],"b":1}'
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(*parts: Any) -> str:
    """SHA-256 over canonical JSON of the parts, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(canonical(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


def load(path: Path, schema: type[S], *, names: Names | None = None) -> S:
    """Read one YAML file into a schema.

    Parameters
    ----------
    path
        The file.
    schema
        What it must be.
    names
        Catalogues of valid names by key pattern.

    Raises
    ------
    ConfigError
        With every mistake of the file, in the order of its lines.
    """
    made, problems = check(read_document(path), schema, names=names)
    if problems or made is None:
        raise ConfigError(problems)
    return made


def check(
    document: Document,
    schema: type[S],
    *,
    names: Names | None = None,
    more: Callable[[Document, S | None], list[Problem]] | None = None,
) -> tuple[S | None, list[Problem]]:
    """Validate a document; returns the schema (None when it has mistakes) and every mistake.

    ``more`` may add problems that need other files; it sees the document even where the schema failed.
    """
    problems = list(document.problems)
    made, found = judged(schema, document.values)
    problems += [_at(document, each.path, each.message, each.suggestion) for each in found]
    for pattern, known in (names or {}).items():
        for path, value in _find(document.values, tuple(pattern.split("."))):
            if isinstance(value, str) and value not in known:
                close = nearest(value, known)
                message = f"'{value}' is not known here"
                if len(known) <= 8 or (not close and len(known) <= 40):  # a long list helps only where no name is near
                    message += f" (known: {', '.join(sorted(known))})"
                problems.append(_at(document, path, message, close))
    if more is not None:
        told = {problem.key for problem in problems}  # what else there is to say of such a key may follow from its mistake
        problems += [problem for problem in more(document, made) if problem.key not in told]
    problems = sorted(dict.fromkeys(problems), key=lambda p: (p.line or 0, p.column or 0))
    return (made if not problems else None), problems


def _at(document: Document, path: Path_, message: str, suggestion: str | None = None) -> Problem:
    line, column = document.place(path)
    return Problem(message, document.source, line, column, dotted(path), suggestion)


def problem_at(
    document: Document, path: Path_, message: str, known: Collection[str] = (), suggestion: str | None = None
) -> Problem:
    """A problem at a key path of a document, with a suggestion, or the nearest of the known names to the last key."""
    close = nearest(str(path[-1]), known) if known and path else suggestion
    return _at(document, path, message, close)


def _find(value: Any, pattern: tuple[str, ...], path: Path_ = ()) -> list[tuple[Path_, Any]]:
    if not pattern:
        return [(path, value)]
    head, rest = pattern[0], pattern[1:]
    if isinstance(value, dict):
        keys = list(value) if head == "*" else [head] if head in value else []
        return [hit for key in keys for hit in _find(value[key], rest, (*path, key))]
    if isinstance(value, list) and head == "*":
        return [hit for index, item in enumerate(value) for hit in _find(item, rest, (*path, index))]
    return []
