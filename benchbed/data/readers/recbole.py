"""RecBole's atomic files: columns divided by tabs, under a header that gives each a type, such as ``user_id:token``.

Types are checked against what the card makes of a column, so that a category is not read as a number by accident.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from benchbed.data.raw_files import RawFile
from benchbed.data.readers import csv
from benchbed.data.readers.base import Rows
from benchbed.data.readers.csv import separator_of_header
from benchbed.errors import DataError, nearest

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from benchbed.data.card import Described, Interactions, Table

TYPES = ("token", "token_seq", "float", "float_seq")

_IDS = frozenset({"user", "item", "head", "relation", "tail", "entity"})
_OF_KIND = {"token": ("token",), "token_seq": ("token_seq",), "number": ("float",), "flags": ("token", "float"), "text": TYPES}
"""Types that each kind of feature or of additional column can be made of."""


@contextmanager
def read(connection: DuckDBPyConnection, file: RawFile, table: Table) -> Iterator[Rows]:
    """Open one file for reading; see :class:`benchbed.data.readers.base.Rows`.

    Raises
    ------
    DataError
        The file is empty or cannot be decompressed, its header has no types, lacks a column that the card takes, or gives it a
        type that does not fit.
    """
    with csv.read(connection, file, table, _names) as rows:
        yield rows


def _names(header: list[str], place: str, table: Table) -> list[str]:
    """The names without their types, after a check of these."""
    fields = [column.strip().rpartition(":") for column in header]
    bare = [column for column, (name, _, _) in zip(header, fields, strict=True) if not name]
    other = separator_of_header(table.separator.join(header), table, lambda column: column.strip().partition(":")[0])
    if bare:
        plain = json.dumps(table.separator if other is None else other)
        raise DataError(
            f"{place}: the header has no type for '{bare[0]}'. RecBole writes name:type, such as user_id:token.",
            advice=f"A file with plain names is read with `reader: csv`, `separator: {plain}` and `columns`.",
        )
    if other is not None:
        now, likely = json.dumps(table.separator), json.dumps(other)
        raise DataError(
            f"{place}: the columns of the header are divided by {likely}, and {now} is expected.",
            advice=f"Write `separator: {likely}` in this table of the card.",
        )
    names = [name for name, _, _ in fields]
    types = {name: kind for name, _, kind in fields}
    for name, kind in types.items():
        if kind not in TYPES:
            close = nearest(kind, TYPES)
            raise DataError(
                f"{place}: the column '{name}' has the unknown type '{kind}'; there are {', '.join(TYPES)}.",
                advice=f"Did you mean '{name}:{close}'?" if close else None,
            )
    for role, column in table.sources():
        if role == "timestamp" and column not in types:
            raise DataError(
                f"{place}: there is no column '{column}', where the reader recbole looks for times.",
                advice="Write `columns: {timestamp: NAME}` with another name, or `columns: {timestamp: null}` where there are "
                f"none. The header: {', '.join(header)}.",
            )
        if names.count(str(column)) == 1:  # what stands twice is refused for that
            _check(role, str(column), types[str(column)], place, table)
    return names


def _check(role: str, column: str, kind: str, place: str, table: Table) -> None:
    made = _kind(role, table)
    allowed = ("token",) if role in _IDS else ("float",) if made is None else _OF_KIND[made]
    if kind in allowed:
        return
    what = f"{role.removeprefix('features.').removeprefix('extra.')} ({made})" if made else f"the {role}"
    fits = [name for name, types in _OF_KIND.items() if kind in types and name != "flags"]
    raise DataError(
        f"{place}: the column '{column}' is {kind}; the card makes {what} of it, which wants {' or '.join(allowed)}.",
        advice=f"A column of type {kind} can be a feature of kind {' or '.join(fits)}"
        + ("; models see no lists of numbers." if kind == "float_seq" else "."),
    )


def _kind(role: str, table: Table) -> str | None:
    """The kind that the card gives a feature or additional column; None for a role such as the timestamp."""
    group, _, rest = role.partition(".")
    if not rest:
        return None
    name = rest.partition(".")[0]
    if group == "features":
        return str(cast("Described", table).features[name].kind)
    return str(cast("Interactions", table).columns.extra[name].kind)
