"""One line a user: ``user item item ...``, oldest first. The order of the events is their place in the line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchbed.data.raw_files import RawFile
from benchbed.data.readers.base import Rows
from benchbed.data.readers.lines import SLOTS, divided, has_blank, plain_lines

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from benchbed.data.card import Table


@contextmanager
def read(connection: DuckDBPyConnection, file: RawFile, table: Table) -> Iterator[Rows]:
    """Open one file for reading; see :class:`benchbed.data.readers.base.Rows`.

    Raises
    ------
    DataError
        The file is empty or cannot be decompressed.
    """
    with plain_lines(connection, file, table) as lines:
        yield Rows(
            events(
                f"""
                SELECT line, 1 AS span, text, parts[1] AS owner, parts[2:] AS items,
                    CASE WHEN broken IS NOT NULL THEN broken
                        WHEN {has_blank("parts")} THEN 'an id is empty: two separators follow one another, or one ends the line'
                        WHEN len(parts) < 2 THEN 'a user without items' END AS flaw
                FROM (SELECT *, {divided("text", table.separator)} AS parts FROM ({lines}))
                """
            ),
            "text",
            SLOTS,
        )


def events(lists: str) -> str:
    """SQL: a row an event, from rows of ``line, span, text, owner, items, flaw``; a flawed line stays one row."""
    return f"""
        SELECT line, CASE WHEN place = 0 THEN span ELSE 0 END AS span, text, flaw, NULL::VARCHAR AS flaw_column,
            owner AS c0, item AS c1, place
        FROM (
            SELECT line, span, owner, flaw, CASE WHEN flaw IS NOT NULL THEN text END AS text,
                unnest(CASE WHEN flaw IS NULL THEN items ELSE [NULL::VARCHAR] END) AS item,
                unnest(CASE WHEN flaw IS NULL THEN range(len(items)) ELSE [0::BIGINT] END) AS place
            FROM ({lists})
        )
    """
