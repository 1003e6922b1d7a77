"""One line a session, without an id: ``item item ...``, oldest first; the place of the line names the session.

Some published files give a session as all of its prefixes: ``prefix items<tab>next item``, the longest first, down to one item.
These lines are joined again to the one session that they come from. That is exact: a line continues the one before when its
prefix and item together are the prefix of that line, and a session ends where its prefix has a single item.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchbed.data.card import Interactions
from benchbed.data.database import literal
from benchbed.data.raw_files import RawFile
from benchbed.data.readers.base import Rows
from benchbed.data.readers.lines import SLOTS, divided, has_blank, plain_lines
from benchbed.data.readers.sequences import events

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from benchbed.data.card import Table

BLANK_ITEM = "'an item is empty: two separators follow one another, or one ends the line'"


@contextmanager
def read(connection: DuckDBPyConnection, file: RawFile, table: Table) -> Iterator[Rows]:
    """Open one file for reading; see :class:`benchbed.data.readers.base.Rows`.

    Raises
    ------
    DataError
        The file is empty or cannot be decompressed.
    """
    assert isinstance(table, Interactions)
    form = _joined if table.files[file.part - 1] in table.expanded else _whole
    with plain_lines(connection, file, table) as lines:
        # Padded, so that sorting the ids as text keeps the order of the lines.
        lists = f"SELECT *, printf('%d:%09d', {file.ordinal}, line) AS owner FROM ({form(lines, table.separator)})"
        yield Rows(events(lists), "text", SLOTS)


def _whole(lines: str, separator: str) -> str:
    return f"""
        SELECT line, 1 AS span, text, items,
            CASE WHEN broken IS NOT NULL THEN broken WHEN {has_blank("items")} THEN {BLANK_ITEM} END AS flaw
        FROM (SELECT *, {divided("text", separator)} AS items FROM ({lines}))
    """


def _joined(lines: str, separator: str) -> str:
    halves = f"string_split(text, {literal(chr(9))})"
    pairs = f"""
        SELECT line, text, prefix, list_append(prefix, label) AS events,
            CASE WHEN broken IS NOT NULL THEN broken
                WHEN len(halves) <> 2 THEN 'one tab expected, between the items before and the next item'
                WHEN trim(label) = '' OR len(prefix) = 0 OR {has_blank("prefix")} THEN {BLANK_ITEM}
            END AS wrong
        FROM (
            SELECT *, {divided("halves[1]", separator)} AS prefix, trim(halves[2]) AS label
            FROM (SELECT *, {halves} AS halves FROM ({lines}))
        )
    """
    return f"""
        SELECT first AS line, count(*)::INTEGER AS span, arg_min(text, line) AS text, arg_min(events, line) AS items,
            coalesce(any_value(wrong), CASE WHEN min(len(prefix)) > 1 THEN
                'prefixes of ' || max(len(prefix)) || ' to ' || min(len(prefix)) || ' items, not down to one item'
            END) AS flaw
        FROM (
            SELECT *, max(CASE WHEN begins THEN line END) OVER (ORDER BY line ROWS UNBOUNDED PRECEDING) AS first
            FROM (
                SELECT *, NOT coalesce(wrong IS NULL AND events = lag(good) OVER (ORDER BY line), false) AS begins
                FROM (SELECT *, CASE WHEN wrong IS NULL THEN prefix END AS good FROM ({pairs}))
            )
        )
        GROUP BY first
    """
