"""DuckDB, bounded: it takes at most half of the memory and spills the rest into the workspace."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def literal(text: str) -> str:
    """A text as a SQL literal.

    Examples
    --------
    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """A name as a quoted SQL identifier.

    Examples
    --------
    >>> identifier("order")
    '"order"'
    """
    return '"' + name.replace('"', '""') + '"'


def one_row(connection: DuckDBPyConnection, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
    """The single row of a query. Read to the end, since an unfinished result blocks the connection."""
    (row,) = connection.execute(query, list(parameters)).fetchall()
    return tuple(row)


def usable_memory() -> int:
    """Bytes that this process may count on: half of the machine's, or of its container's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    return max(total // 2, 256 * 2**20)


@contextmanager
def database(scratch: Path) -> Iterator[DuckDBPyConnection]:
    """A connection that spills what does not fit into ``scratch``, which must exist and is removed by the caller."""
    import duckdb

    connection = duckdb.connect(":memory:")
    try:
        connection.execute(f"SET memory_limit = '{usable_memory() // 2**20}MiB'")
        connection.execute(f"SET temp_directory = {literal(str(scratch / 'spill'))}")
        # The order of the log is kept in a column, not by the engine: that costs less memory.
        connection.execute("SET preserve_insertion_order = false")
        connection.execute("SET enable_progress_bar = false")
        yield connection
    finally:
        connection.close()
