"""Columns divided by a separator: the text is cut into records here, DuckDB divides the records into fields.

Not DuckDB's own CSV reader, because a reject must name its true line: that reader leaves blank lines out of its count, knows no
row number for a value that fails a later check (an empty id), and has only a few encodings without a download.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from benchbed.data.database import literal
from benchbed.data.raw_files import RawFile
from benchbed.data.readers.base import Rows
from benchbed.data.readers.lines import LINE_ENDS, streamed
from benchbed.data.readers.records import UNDECODABLE, Splitter, decoded
from benchbed.errors import DataError, counted, nearest

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from benchbed.data.card import Table

SAMPLE = 1000
USUAL_SEPARATORS = ("\t", ",", ";", "|", "::", " ")
"""Guessed for advice, never for reading."""


Header = Callable[[list[str], str, "Table"], list[str]]
"""The names of the columns, from what stands in the first row, and where that is (``log.csv:1``)."""


def _plain(header: list[str], _place: str, _table: Table) -> list[str]:
    return header


@contextmanager
def read(connection: DuckDBPyConnection, file: RawFile, table: Table, names_of: Header = _plain) -> Iterator[Rows]:
    """Open one file for reading; see :class:`benchbed.data.readers.base.Rows`.

    Parameters
    ----------
    connection, file, table
        As of every reader.
    names_of
        Tells the names of the columns where the first row says more than these.

    Raises
    ------
    DataError
        The file is empty, lacks a column that the card names, or cannot be decompressed.
    """
    separator = table.separator.encode()
    control = "\x1e" if "\x1f" in table.separator else "\x1f"
    marker = (control * len(separator)) if table.quote else table.separator
    splitter = Splitter(separator, ord(table.quote) if table.quote else None, marker.encode(), file.shown)
    batches = splitter.records(decoded(file.chunks(), table.encoding))
    first = next(batches, None)
    if first is None:
        raise DataError(f"{file.path} is empty.")
    lines = zip(first.column("line").to_pylist(), first.column("text").slice(0, SAMPLE).to_pylist(), strict=False)
    sample, places = [], []
    for line, text in lines:
        if body := text.rstrip("\r\n"):
            sample.append(body)
            places.append(line)
    if not sample:
        raise DataError(f"{file.path} starts with {SAMPLE} blank lines, or holds nothing else.")
    counts = [len(text.split(marker)) for text in sample]
    width = counts[0] if table.header else int(np.bincount(counts).argmax())
    rows = [text.replace(marker, table.separator) for text in sample[:20]]
    if table.header:
        header = [_unquoted(name, table.quote) for name in sample[0].split(marker)]
        place = f"{file.shown}:{places[0]}"
        positions = _positions(names_of(header, place, table), place, table)
    else:
        positions = _numbers(width, file, table, rows)

    text = f"rtrim(text, {LINE_ENDS})"
    if table.quote:
        text = f"replace({text}, {literal(marker)}, {literal(table.separator)})"
    with streamed(connection, file, chain([first], batches)) as name:
        yield Rows(_sql(name, table, marker, width, positions, after=places[0] if table.header else 0), text)


def _positions(names: list[str], place: str, table: Table) -> list[int]:
    """Positions of the columns that the card names."""
    positions = []
    for role, column in table.sources():
        found = [number for number, name in enumerate(names) if name == column]
        if len(found) > 1:
            numbers = " and ".join(str(number + 1) for number in found)
            raise DataError(
                f"{place}: the columns number {numbers} have the same name '{column}', and the card takes {role} from it.",
                advice=f"Rename all but the one that is meant. The header: {', '.join(names)}.",
            )
        if not found:
            close = nearest(str(column), names)
            other = separator_of_header(table.separator.join(names), table)
            if other is not None:
                now, likely = json.dumps(table.separator), json.dumps(other)
                hint = f"The card says separator: {now}; its header looks like separator: {likely}. "
            else:
                hint = f"Did you mean '{close}'? " if close else ""
            raise DataError(
                f"{place}: there is no column '{column}' (the card names it for {role}).",
                advice=f"{hint}The header: {', '.join(names)}.",
            )
        positions += found
    return positions


def separator_of_header(header: str, table: Table, bare: Callable[[str], str] = str) -> str | None:
    """The usual separator under which more of the card's columns are found than under the card's; None when there is none.

    Parameters
    ----------
    header, table
        The first row, and what the card says of the table.
    bare
        Takes from a name what stands in the file beside it.
    """
    wanted = {str(column) for _, column in table.sources()}

    def found(separator: str) -> int:
        return len(wanted & {bare(_unquoted(name, table.quote)) for name in header.split(separator)})

    best = max(USUAL_SEPARATORS, key=found)
    return best if found(best) > found(table.separator) else None


def _separator_of_rows(rows: list[str], table: Table) -> str | None:
    """The usual separator that divides all rows into the same number of columns, enough for the card; None without."""
    enough = max(int(column) for _, column in table.sources()) + 1
    for separator in USUAL_SEPARATORS:
        counts = {len(row.split(separator)) for row in rows}
        if separator != table.separator and len(counts) == 1 and min(counts) >= enough:
            return separator
    return None


def _unquoted(text: str, quote: str | None) -> str:
    if quote and len(text) > 1 and text[0] == quote == text[-1]:
        return text[1:-1].replace(quote * 2, quote)
    return text


def _numbers(width: int, file: RawFile, table: Table, rows: list[str]) -> list[int]:
    """Positions as the card gives them, checked against the number of columns that most rows have."""
    for role, column in table.sources():
        if int(column) >= width:
            other = _separator_of_rows(rows, table)
            now = json.dumps(table.separator)
            likely = f"; its rows look like separator: {json.dumps(other)}" if other is not None else ""
            raise DataError(
                f"{file.path} has {counted(width, 'column')} (numbers 0 to {width - 1}), but the card takes "
                f"{role} from column {column}.",
                advice=f"Check 'separator' (now {now}{likely}) and the column numbers, which count from 0.",
            )
    return [int(column) for _, column in table.sources()]


def _sql(name: str, table: Table, marker: str, width: int, positions: list[int], *, after: int) -> str:
    # The line end stays on the text, for trimming whole rows costs more than dividing them; only the last field carries it.
    fields = [
        f"fields[{position + 1}]" if position + 1 < width else f"rtrim(fields[{width}], {LINE_ENDS})" for position in positions
    ]
    flaws: list[tuple[str, str, str | None]] = [
        (f"undecodable AND contains(text, {literal(UNDECODABLE)})", literal(f"bytes that are not {table.encoding}"), None),
        ("unclosed", "'a quote opened in this row is never closed'", None),
        (f"len(fields) <> {width}", f"'{counted(width, 'column')} expected, ' || len(fields) || ' found'", None),
    ]
    if table.quote:
        quote, doubled = literal(table.quote), literal(table.quote * 2)
        opened = [f"starts_with({field}, {quote})" for field in fields]
        for (role, _), field, is_open in zip(table.sources(), fields, opened, strict=True):
            closed = f"(length({field}) > 1 AND ends_with({field}, {quote}))"
            flaws.append((f"{is_open} AND NOT {closed}", "'text after the closing quote'", role))
        fields = [
            f"CASE WHEN {is_open} THEN replace(substr({field}, 2, length({field}) - 2), {doubled}, {quote}) ELSE {field} END"
            for field, is_open in zip(fields, opened, strict=True)
        ]
    values = ", ".join(f"{field} AS c{number}" for number, field in enumerate(fields))
    return f"""
        SELECT line, span, text,
            CASE {" ".join(f"WHEN {when} THEN {then}" for when, then, _ in flaws)} END AS flaw,
            CASE {" ".join(f"WHEN {when} THEN {literal(role) if role else 'NULL'}" for when, _, role in flaws)} END::VARCHAR
                AS flaw_column,
            {values}
        FROM (
            SELECT line, span, unclosed, undecodable, text, string_split(text, {literal(marker)}) AS fields
            FROM {name}
            WHERE text <> {literal(chr(10))} AND text <> {literal(chr(13) + chr(10))} AND line > {after}
        )
    """
