"""What every reader gives: rows of text with their place in the file, or a reason why a row cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchbed.data.raw_files import RawFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from benchbed.data.card import Table


@dataclass(frozen=True)
class Rows:
    """The rows of one file, as SQL that can be run once.

    Attributes
    ----------
    sql
        A SELECT with the columns ``line`` (BIGINT, from 1), ``span`` (lines the row takes), ``text`` (the row), ``flaw`` (why
        the row cannot be read, NULL where it can), ``flaw_column``, and ``c0``, ``c1`` ... (VARCHAR), one for each source.
    raw
        An expression over ``text``: the row as it stands in the file. Apart, since only rejected rows need it.
    slots
        Largest number of rows that one line can give. Above 1, ``sql`` has a column ``place`` too: which of them it is, from 0;
        and all but one row of a line have the span 0.
    """

    sql: str
    raw: str
    slots: int = 1

    def order(self, lines_before: int) -> str:
        """An expression that orders the rows of a table, given the number of lines of the files before."""
        line = f"line + {lines_before}"
        return line if self.slots == 1 else f"({line}) * {self.slots} + place"


Reader = Callable[["DuckDBPyConnection", RawFile, "Table"], AbstractContextManager[Rows]]
"""Opens one file of a table. ``c0``, ``c1`` ... follow ``table.sources()``.
Reading to the end fills ``RawFile.digest`` and ``RawFile.lines``."""
