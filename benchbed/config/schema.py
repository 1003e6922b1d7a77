"""Schemas: frozen, refusing unknown keys at every level, and telling every mistake with its place."""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from benchbed.config.document import Document, Path_, dotted, read_document
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
    made: S | None = None
    try:
        made = schema.model_validate(document.values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [_problem(document, schema, detail) for detail in _without_noise(details)]
    for pattern, known in (names or {}).items():
        for path, value in _find(document.values, tuple(pattern.split("."))):
            if isinstance(value, str) and value not in known:
                close = nearest(value, known)
                message = f"'{value}' is not known here"
                if len(known) <= 8 or (not close and len(known) <= 40):  # a long list helps only where no name is near
                    message += f" (known: {', '.join(sorted(known))})"
                problems.append(_at(document, path, message, close))
    if more is not None:
        problems += more(document, made)
    problems = sorted(dict.fromkeys(problems), key=lambda p: (p.line or 0, p.column or 0))
    return (made if not problems else None), problems


def _at(document: Document, path: Path_, message: str, suggestion: str | None = None) -> Problem:
    line, column = document.place(path)
    return Problem(message, document.source, line, column, dotted(path), suggestion)


def problem_at(document: Document, path: Path_, message: str, known: Collection[str] = ()) -> Problem:
    """A problem at a key path of a document, with the nearest of the known names to the last key."""
    close = nearest(str(path[-1]), known) if known and path else None
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


def _without_noise(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Drop what merely follows from a deeper mistake: every failed branch of a union, the emptied list around a bad entry."""
    paths = [_real_path(detail) for detail in details]
    kept: dict[Path_, ErrorDetails] = {}
    for path, detail in zip(paths, details, strict=True):
        if any(len(other) > len(path) and other[: len(path)] == path for other in paths):
            continue
        kept.setdefault(path, detail)
    return list(kept.values())


def _real_path(detail: ErrorDetails) -> Path_:
    """The location without the tags that pydantic adds for union members and dictionary keys."""
    return tuple(
        part
        for part in detail["loc"]
        if isinstance(part, int)
        or not (
            part.startswith(("function-", "tagged-union", "literal[", "union["))
            or part in ("[key]", "str", "int", "float", "bool", "none", "constrained-str", "constrained-int")
        )
    )


def _problem(document: Document, schema: type[BaseModel], detail: ErrorDetails) -> Problem:
    path = _inside(document.values, _real_path(detail), detail["type"])
    kind, context = detail["type"], detail.get("ctx", {})
    parent = path[:-1]
    if kind == "extra_forbidden":
        fields = _fields(schema, parent)
        advice = "" if nearest(str(path[-1]), fields) or not fields else f" (known: {', '.join(sorted(fields))})"
        return _at(document, path, f"unknown key '{path[-1]}'{advice}", nearest(str(path[-1]), fields))
    if kind == "missing":
        line, column = document.place(parent)
        if isinstance(path[-1], int):
            return Problem(f"too few entries: number {path[-1] + 1} is missing", document.source, line, column, dotted(parent))
        return Problem(f"the key '{path[-1]}' is missing", document.source, line, column, dotted(path))
    given = detail["input"]
    if kind in ("literal_error", "enum"):
        choices = [c.strip().strip("'") for c in str(context.get("expected", "")).replace(" or ", ", ").split(",")]
        return _at(document, path, f"'{given}' is not one of {', '.join(choices)}", nearest(str(given), choices))
    if kind == "union_tag_not_found":
        key = str(context["discriminator"]).strip("'")
        return _at(document, path, f"the key '{key}' is missing")
    if kind == "union_tag_invalid":
        key = str(context["discriminator"]).strip("'")
        choices = [c.strip().strip("'") for c in str(context["expected_tags"]).split(",")]
        message = f"'{context['tag']}' is not one of {', '.join(choices)}"
        return _at(document, (*path, key), message, nearest(str(context["tag"]), choices))
    message = _WORDS.get(kind) or detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "too_short":
        message = f"at least {context['min_length']} entr{'y is' if context['min_length'] == 1 else 'ies are'} needed here"
    message = message[:1].lower() + message[1:]
    shown = "" if isinstance(given, (dict, list)) or kind == "value_error" else f" (it is {given!r})"
    return _at(document, path, message + shown)


_WORDS = {
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "set_type": "expected a list",
    "dict_type": "expected a mapping of keys to values",
    "model_type": "expected a mapping of keys to values",
    "model_attributes_type": "expected a mapping of keys to values",
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "finite_number": "expected a finite number",
}
"""Kinds of mistakes that pydantic describes in Python's words."""


def _inside(values: Any, path: Path_, kind: str) -> Path_:
    """Drop location parts that are no keys of the file (names of union branches)."""
    kept: list[str | int] = []
    for position, part in enumerate(path):
        last = position == len(path) - 1
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            if last and kind in ("missing", "extra_forbidden"):
                kept.append(part)
            continue
        kept.append(part)
    return tuple(kept)


def _fields(schema: Any, path: Path_) -> list[str]:
    """The keys that the schema knows at a path; empty where anything may stand."""
    candidates = [schema]
    for part in path:
        step: list[Any] = []
        for candidate in candidates:
            for kind in _models(candidate):
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    for name, info in kind.model_fields.items():
                        if part in (name, info.alias):
                            step.append(info.annotation)
                else:
                    step += [a for a in get_args(kind) if a is not Ellipsis][-1:]
        candidates = step
    known: list[str] = []
    for candidate in candidates:
        for kind in _models(candidate):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                known += [info.alias or name for name, info in kind.model_fields.items()]
    return known


def _models(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _models(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [kind for argument in get_args(annotation) for kind in _models(argument)]
    if origin is Literal:
        return []
    return [annotation]
