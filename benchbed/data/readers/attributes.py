"""A JSON object of lists, ``{"item": ["attribute", ...], ...}``: one row a key. What a list repeats counts once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError, JSONDecoder
from json.decoder import scanstring  # type: ignore[attr-defined]  # not in the stubs
from re import compile as pattern
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from benchbed.data.raw_files import RawFile
from benchbed.data.readers.base import Rows
from benchbed.data.readers.records import UNDECODABLE, decoded
from benchbed.errors import DataError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from benchbed.data.card import Table

GAP = pattern(r"[ \t\r\n]*")
HALF = pattern("[\ud800-\udfff]")
BETWEEN = "\x1f"
"""Stands between the values of a list when they are handed on as one text; see :data:`benchbed.data.readers.FORMS`."""
SLOTS = 2**31


@contextmanager
def read(connection: DuckDBPyConnection, file: RawFile, table: Table) -> Iterator[Rows]:
    """Open one file for reading; see :class:`benchbed.data.readers.base.Rows`. The file is held in memory.

    Raises
    ------
    DataError
        The file is empty, cannot be decompressed, or holds no JSON object.
    """
    text = b"".join(decoded(file.chunks(), table.encoding)).decode("utf-8", "surrogatepass")
    if not text.strip():
        raise DataError(f"{file.path} is empty.")
    file.lines = text.count("\n") + 1
    rows = list(_entries(text, file))
    names = ("line", "text", "flaw", "key", "values")
    types = (pa.int64(), pa.string(), pa.string(), pa.string(), pa.string())
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    entries = pa.table({n: pa.array(list(column), kind) for n, kind, column in zip(names, types, columns, strict=True)})
    entries = entries.append_column("place", pa.array(range(len(rows)), pa.int64()))
    name = f"entries_of_{id(file)}"
    connection.register(name, entries)
    chosen = ", ".join(f'"{column}" AS c{number}' for number, (_, column) in enumerate(table.sources()))
    try:
        sql = f"SELECT line, 1::INTEGER AS span, text, flaw, NULL::VARCHAR AS flaw_column, place, {chosen} FROM {name}"
        yield Rows(sql, "text", SLOTS)
    finally:
        connection.unregister(name)


def _entries(text: str, file: RawFile) -> Iterator[tuple[int, str | None, str | None, str, str]]:
    """(line, text and flaw of what cannot be read, key, values) of every entry; C code parses the values."""
    value = JSONDecoder()
    at, line, counted, key = _after_gap(text, 0), 1, 0, ""
    try:
        at = _expect("{", text, at)
        while text[at : at + 1] != "}":
            line, counted = line + text.count("\n", counted, at), at
            _expect('"', text, at)
            start = at
            key, at = scanstring(text, at + 1)
            at = _expect(":", text, _after_gap(text, at))
            found, at = value.raw_decode(text, at)
            flaw, joined = _joined(key, found)
            shown = key.encode("utf-8", "replace").decode()  # an escape can be half of a character, which no table holds
            yield line, text[start:at] if flaw or not key.strip() else None, flaw, shown, joined
            at = _after_gap(text, at)
            if text[at : at + 1] != "}":
                at = _expect(",", text, at)
        rest = _after_gap(text, at + 1)
        if rest < len(text):
            raise JSONDecodeError("more text after the object", text, rest)
    except JSONDecodeError as error:
        raise DataError(
            f"{file.shown}:{error.lineno}: no JSON object of lists: {error.msg}.",
            advice='The reader attributes expects {"item": ["attribute", ...], ...}.',
        ) from None
    except (RecursionError, ValueError) as error:  # lists within lists without end, a number of thousands of digits
        raise DataError(f"{file.shown}:{line}: the value of '{key[:60]}' cannot be read: {error}.") from None


def _after_gap(text: str, at: int) -> int:
    found = GAP.match(text, at)
    assert found is not None  # the pattern matches nothing, too
    return found.end()


def _expect(sign: str, text: str, at: int) -> int:
    """The place after a sign and the gap that follows it."""
    if text[at : at + 1] != sign:
        raise JSONDecodeError(f"{json.dumps(sign)} expected", text, at)
    return _after_gap(text, at + 1)


def _joined(key: str, found: Any) -> tuple[str | None, str]:
    if not isinstance(found, list):
        return "the value is no list", ""
    if not all(isinstance(value, str | int | float) and not isinstance(value, bool) for value in found):
        return "an attribute is neither text nor a number", ""
    texts = [str(value) for value in found]
    if any(BETWEEN in value for value in texts):
        return "an attribute holds the control character U+001F", ""
    if any(UNDECODABLE in value or HALF.search(value) for value in (key, *texts)):
        return "bytes that are not of the encoding", ""
    return None, BETWEEN.join(dict.fromkeys(texts))
