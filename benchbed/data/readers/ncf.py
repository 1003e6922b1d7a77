"""Negatives that were published with a test set, in the format of NCF: ``(user,item)<tab>negative<tab>negative ...``."""

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

PAIR = r"^\(([^(),]+),([^(),]+)\)$"
"""The test event that a line belongs to."""


@contextmanager
def read(connection: DuckDBPyConnection, file: RawFile, table: Table) -> Iterator[Rows]:
    """Open one file for reading; see :class:`benchbed.data.readers.base.Rows`. A row for each negative.

    Raises
    ------
    DataError
        The file is empty or cannot be decompressed.
    """
    with plain_lines(connection, file, table) as lines:
        yield Rows(
            f"""
            SELECT line, CASE WHEN place = 0 THEN 1 ELSE 0 END AS span, text, flaw, NULL::VARCHAR AS flaw_column,
                pair[1] AS c0, pair[2] AS c1, negative AS c2, place
            FROM (
                SELECT line, flaw, pair, CASE WHEN flaw IS NOT NULL THEN text END AS text,
                    unnest(CASE WHEN flaw IS NULL THEN negatives ELSE [NULL::VARCHAR] END) AS negative,
                    unnest(CASE WHEN flaw IS NULL THEN range(len(negatives)) ELSE [0::BIGINT] END) AS place
                FROM (
                    SELECT *, CASE WHEN broken IS NOT NULL THEN broken
                        WHEN pair[1] = '' THEN 'the first field is not (user,item)'
                        WHEN len(negatives) = 0 THEN 'no negatives after (user,item)'
                        WHEN {has_blank("negatives")} THEN 'a negative is empty: two tabs follow one another'
                    END AS flaw
                    FROM (
                        SELECT *, parts[2:] AS negatives,
                            [trim(regexp_extract(parts[1], '{PAIR}', 1)), trim(regexp_extract(parts[1], '{PAIR}', 2))] AS pair
                        FROM (SELECT *, {divided("rtrim(text, chr(9))", table.separator)} AS parts FROM ({lines}))
                    )
                )
            )
            """,
            "text",
            SLOTS,
        )
