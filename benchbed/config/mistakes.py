"""What pydantic finds wrong, in the words of somebody who writes YAML."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from benchbed.config.document import Path_
from benchbed.errors import nearest

M = TypeVar("M", bound=BaseModel)

_OWN = "benchbed"
"""Kind of the mistakes that validators of benchbed tell with more than words."""


@dataclass(frozen=True)
class Mistake:
    """One mistake in a mapping of values.

    Attributes
    ----------
    path
        Keys and indices that lead to it; the last one of a missing or unknown key is no place of the values.
    message, suggestion
        What is wrong, and the nearest valid name.
    """

    path: Path_
    message: str
    suggestion: str | None = None


def mistake(message: str, *, suggestion: str | None = None, at: Path_ = ()) -> PydanticCustomError:
    """What a validator raises to name the nearest valid value, or a place within what it was given.

    Examples
    --------
    >>> raise mistake("'fiel' is not one of hash, file", suggestion="file")
    Traceback (most recent call last):
    ...
    pydantic_core._pydantic_core.PydanticCustomError: 'fiel' is not one of hash, file
    """
    return PydanticCustomError(_OWN, "{said}", {"said": message, "suggestion": suggestion, "at": at})


def shown(value: Any) -> str:
    """A value as YAML writes it.

    Examples
    --------
    >>> shown(True), shown(None), shown("x"), shown(1.5), shown([1])
    ('true', 'null', "'x'", '1.5', 'a list')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else repr(value)


def judged(schema: type[M], values: Any) -> tuple[M | None, list[Mistake]]:
    """What a schema makes of the values of a file, or of a part of it; None and every mistake where it refuses them.

    True and false are refused in place of a number, which pydantic would read as 1 and 0.
    """
    found = {each.path: each for each in truths(schema, values)}
    made: M | None = None
    try:
        made = schema.model_validate(values)
    except ValidationError as error:
        for each in _mistakes(error, values, schema):
            found.setdefault(each.path, each)
    return (None if found else made), list(found.values())


def _mistakes(error: ValidationError, values: Any, schema: type[BaseModel]) -> list[Mistake]:
    """Every mistake, each told once: what merely follows from a deeper one, or from another branch of a union, is left out."""
    found: dict[Path_, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        path = _inside(values, _real_path(detail), detail["type"])
        found.setdefault((*path, *detail.get("ctx", {}).get("at", ())), []).append(detail)
    deepest = [path for path in found if not any(len(other) > len(path) and other[: len(path)] == path for other in found)]
    return [_told(path, found[path], schema) for path in deepest]


def truths(schema: Any, values: Any) -> list[Mistake]:
    """Places where true or false stands for a number, which pydantic would read as 1 or 0.

    Parameters
    ----------
    schema
        A schema, or another type.
    values
        What a file gives for it.

    Examples
    --------
    >>> truths(tuple[int, ...], [3, True])
    [Mistake(path=(1,), message='expected a whole number (it is true)', suggestion=None)]
    >>> truths(bool | int, True)
    []
    """
    return list(_truths([schema], values, ()))


def _truths(annotations: list[Any], value: Any, path: Path_) -> Iterator[Mistake]:
    kinds = [kind for annotation in annotations for kind in _kinds(annotation)]
    if isinstance(value, bool):
        if (int in kinds or float in kinds) and bool not in kinds and Any not in kinds:
            what = "a number or text" if str in kinds else "a number" if float in kinds else "a whole number"
            yield Mistake(path, f"expected {what} (it is {shown(value)})")
    elif isinstance(value, Mapping | list | tuple):
        for place, each in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _truths([inner for kind in kinds for inner in _within(kind, place)], each, (*path, place))


def fields_at(schema: Any, path: Path_) -> list[str]:
    """The keys that a schema knows at a path; empty where anything may stand."""
    candidates = [schema]
    for part in path:
        candidates = [inner for candidate in candidates for kind in _kinds(candidate) for inner in _within(kind, part)]
    models = [kind for candidate in candidates for kind in _kinds(candidate)]
    return [
        info.alias or name
        for kind in models
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for name, info in kind.model_fields.items()
    ]


def _kinds(annotation: Any) -> list[Any]:
    """The members of a union, without the choices that are written out."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [kind for argument in get_args(annotation) for kind in _kinds(argument)]
    return [] if origin is Literal else [annotation]


def _within(kind: Any, place: Any) -> list[Any]:
    """The types of what a schema, a mapping or a list holds at a key or an index."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [info.annotation for name, info in kind.model_fields.items() if place in (name, info.alias)]
    inner = [argument for argument in get_args(kind) if argument is not Ellipsis]
    return inner[-1:]


def _real_path(detail: ErrorDetails) -> Path_:
    """The location without the tags that pydantic adds for union members and dictionary keys."""
    tags = ("[key]", "str", "int", "float", "bool", "none", "constrained-str", "constrained-int")
    heads = ("function-", "tagged-union", "literal[", "union[", "tuple[", "list[", "dict[", "nullable[")
    return tuple(part for part in detail["loc"] if isinstance(part, int) or not (part.startswith(heads) or part in tags))


def _inside(values: Any, path: Path_, kind: str) -> Path_:
    """Drop location parts that are no keys of the values (names of union branches)."""
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


def _told(path: Path_, details: list[ErrorDetails], schema: type[BaseModel]) -> Mistake:
    """One place in words; several details are the branches of a union."""
    expected: dict[str, None] = {}
    choices: list[str] = []
    for detail in details:
        if (found := _by_itself(path, detail, schema)) is not None:
            return found
        choices += _choices(detail)
    given = details[0]["input"]
    ranges = [detail for detail in details if detail["type"] in _RANGES]  # of the right type: what else it could be is no help
    for detail in ranges or details:
        if detail["type"] not in _CHOICE:
            expected[_expected(detail)] = None
    if ranges:
        choices = []
    close = nearest(given, choices) if isinstance(given, str) and choices else None
    if not expected:
        return Mistake(path, f"{shown(given)} is not one of {', '.join(choices)}", close)
    what = " or ".join([*choices, *expected])
    return Mistake(path, f"expected {what} (it is {shown(given)})", close)


def _by_itself(path: Path_, detail: ErrorDetails, schema: type[BaseModel]) -> Mistake | None:
    """Mistakes that say all by themselves."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == _OWN:
        return Mistake(path, str(context["said"]), context["suggestion"])
    if kind in ("value_error", "assertion_error"):
        message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        return Mistake(path, message[:1].lower() + message[1:])
    if kind == "extra_forbidden":
        fields = fields_at(schema, path[:-1])
        close = nearest(str(path[-1]), fields)
        return Mistake(path, f"unknown key '{path[-1]}'" + ("" if close or not fields else _known(fields)), close)
    if kind == "missing":
        if isinstance(path[-1], int):
            return Mistake(path[:-1], f"too few entries: number {path[-1] + 1} is missing")
        return Mistake(path, f"the key '{path[-1]}' is missing")
    if kind == "union_tag_not_found":
        return Mistake(path, f"the key {context['discriminator']} is missing")
    if kind == "union_tag_invalid":
        tags = _listed(str(context["expected_tags"]))
        key = str(context["discriminator"]).strip("'")
        tag = str(context["tag"])
        return Mistake((*path, key), f"{shown(tag)} is not one of {', '.join(tags)}", nearest(tag, tags))
    if kind in ("too_short", "too_long"):
        bound, number = ("least", context["min_length"]) if kind == "too_short" else ("most", context["max_length"])
        entries = "1 entry is" if number == 1 else f"{number} entries are"
        return Mistake(path, f"at {bound} {entries} {'needed' if bound == 'least' else 'allowed'} here")
    return None


def _known(fields: Iterable[str]) -> str:
    return f" (known: {', '.join(sorted(fields))})"


_CHOICE = ("literal_error", "enum")


def _choices(detail: ErrorDetails) -> list[str]:
    return _listed(str(detail.get("ctx", {}).get("expected", ""))) if detail["type"] in _CHOICE else []


def _listed(words: str) -> list[str]:
    """The names in pydantic's ``'a', 'b' or 'c'``."""
    return [choice.strip().strip("'") for choice in words.replace(" or ", ", ").split(",")]


_RANGES = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "a number below {lt}",
    "less_than_equal": "{le} or less",
    "multiple_of": "a multiple of {multiple_of}",
    "finite_number": "a finite number",
    "int_from_float": "a whole number",
    "string_too_short": "some text",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text of the form {pattern}",
}
"""Values of the right type that are not allowed."""

_TYPES = {
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a mapping of keys to values"),
    "string_type": "text",
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
}
"""Values of another type."""


def _expected(detail: ErrorDetails) -> str:
    words = (_RANGES | _TYPES).get(detail["type"])
    if words is None:
        return detail["msg"].removeprefix("Input should be ")[:1].lower() + detail["msg"].removeprefix("Input should be ")[1:]
    bounds = detail.get("ctx", {}).items()
    return words.format(**{key: f"{value:g}" if isinstance(value, float) else value for key, value in bounds})


def unknown_choice(given: Any, known: Collection[str], message: str | None = None) -> PydanticCustomError:
    """What a validator raises for a value that is none of the known ones, with the nearest of them.

    Examples
    --------
    >>> unknown_choice("fiel", ["hash", "file"]).message()
    "'fiel' is not one of hash, file"
    """
    words = message or f"{shown(given)} is not one of {', '.join(known)}"
    return mistake(words, suggestion=nearest(given, known) if isinstance(given, str) else None)
