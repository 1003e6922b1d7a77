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
    """

    sql: str
    raw: str


Reader = Callable[["DuckDBPyConnection", RawFile, "Table"], AbstractContextManager[Rows]]
"""Opens one file of a table. ``c0``, ``c1`` ... follow ``table.sources()``.
Reading to the end fills ``RawFile.digest`` and ``RawFile.lines``."""
