"""What readers share: records as a stream that DuckDB reads, and lines divided into lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from benchbed.data.database import literal
from benchbed.data.raw_files import RawFile
from benchbed.data.readers.records import LONGEST_RECORD, SCHEMA, UNDECODABLE, Splitter, decoded
from benchbed.errors import BenchbedError, DataError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from benchbed.data.card import Table

LINE_ENDS = literal("\r\n")
SLOTS = LONGEST_RECORD // 2
"""Most items that one line can hold: each takes a character and a separator."""


@contextmanager
def streamed(connection: DuckDBPyConnection, file: RawFile, batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    """Records of a file under a name that a query can read once; counts the lines that go by."""
    failures: list[BenchbedError] = []

    def everything() -> Iterator[pa.RecordBatch]:
        try:
            for batch in batches:
                file.lines += int(batch.column("span").to_numpy().sum())
                yield batch
        except BenchbedError as error:
            failures.append(error)
            raise

    name = f"records_of_{id(file)}"
    connection.register(name, pa.RecordBatchReader.from_batches(SCHEMA, everything()))
    try:
        yield name
    except duckdb.Error:
        if failures:  # the engine has wrapped what the stream raised
            raise failures[0] from None
        raise
    finally:
        connection.unregister(name)


@contextmanager
def plain_lines(connection: DuckDBPyConnection, file: RawFile, table: Table) -> Iterator[str]:
    """The lines of a file without columns, as SQL with ``line``, ``text`` (without its end) and ``broken`` (or NULL).

    Raises
    ------
    DataError
        The file is empty or cannot be decompressed.
    """
    batches = Splitter(b" ", None, b" ", file.shown).records(decoded(file.chunks(), table.encoding))
    first = next(batches, None)
    if first is None:
        raise DataError(f"{file.path} is empty.")
    with streamed(connection, file, chain([first], batches)) as name:
        yield f"""
            SELECT line, rtrim(text, {LINE_ENDS}) AS text,
                CASE WHEN undecodable AND contains(text, {literal(UNDECODABLE)})
                    THEN {literal(f"bytes that are not {table.encoding}")} END AS broken
            FROM {name} WHERE trim(text, {literal(" " + chr(9) + chr(13) + chr(10))}) <> ''
        """


def divided(text: str, separator: str) -> str:
    """SQL: a text as the list of its parts; with ``whitespace`` any run of blanks and tabs divides."""
    if separator == "whitespace":
        return f"list_filter(string_split(replace({text}, chr(9), ' '), ' '), lambda v: v <> '')"
    return f"string_split({text}, {literal(separator)})"


def has_blank(parts: str) -> str:
    """SQL: whether an element of a list is empty or blank."""
    return f"list_bool_or(list_transform({parts}, lambda v: trim(v) = ''))"
