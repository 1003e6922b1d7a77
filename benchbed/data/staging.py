"""Raw rows to typed rows, in SQL; what cannot be read is kept with file, line, column and reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchbed.data.card import Card, Described, Interactions, Table
from benchbed.data.database import identifier, literal, one_row
from benchbed.data.fields import Flags, Number, TokenSequence
from benchbed.data.raw_files import RawFile
from benchbed.data.readers import reader
from benchbed.errors import DataError, counted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Progress = Callable[[str, float], None]
"""Told what is being done, and the share that is done, from 0 to 1."""

LONGEST_SHOWN = 2000

USUAL_FORMATS = tuple(
    date + time
    for date in ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y")
    for time in ("", *(f"{gap}{clock}" for gap in " T" for clock in ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f")))
)
"""Ways to write a date and time that are recognised for advice, never for reading: the card says how to read."""


class _Fields:
    """The expressions of one table, in two layers so that each value is computed once.

    ``casts`` are computed from the sources ``c0``, ``c1`` ...; ``values`` and ``flaws`` (condition, reason, role) from both.
    """

    def __init__(self) -> None:
        self.casts: dict[str, str] = {}
        self.values: dict[str, str] = {}
        self.flaws: list[tuple[str, str, str]] = []

    def cast(self, expression: str) -> str:
        """Name of a cast."""
        return self.casts.setdefault(expression, f"cast{len(self.casts)}")

    def reject(self, when: str, reason: str, role: str) -> None:
        self.flaws.append((when, reason, role))

    def identity(self, name: str, source: str) -> None:
        """Ids are text as it stands in the file: ``007`` is not ``7``."""
        self.values[name] = source
        # In two steps, since trimming every id would cost more than reading it.
        blank = f"({source} = '' OR (starts_with({source}, ' ') AND trim({source}) = ''))"
        self.reject(blank, f"'the {name} is empty'", name)

    def number(self, name: str, source: str, role: str, *, optional: bool = False) -> None:
        value = self.cast(f"TRY_CAST({source} AS DOUBLE)")
        self.values[name] = value
        bad = f"({value} IS NULL OR NOT isfinite({value}))"
        self.reject(f"{bad} AND trim({source}) <> ''" if optional else bad, f"{_shown(source)} || ' is no number'", role)

    def timestamp(self, source: str, table: Interactions) -> None:
        role, unit = "timestamp", table.stored_unit
        if table.timestamp_format is not None:
            moment = self.cast(f"TRY_STRPTIME({source}, {literal(table.timestamp_format)})")
            scale = 1 if unit == "microseconds" else 1_000_000
            self.values[role] = f"CAST(floor(epoch_us({moment}) / {scale}) AS BIGINT)" if scale > 1 else f"epoch_us({moment})"
            wanted = literal(f" does not follow the format {table.timestamp_format}")
            self.reject(f"{moment} IS NULL", f"{_shown(source)} || {wanted}", role)
            return
        value = self.cast(f"TRY_CAST({source} AS DOUBLE)")
        bad = f"({value} IS NULL OR NOT isfinite({value}) OR abs({value}) > 9e17)"
        self.reject(bad, f"{_shown(source)} || ' is no time in {table.timestamp_unit.replace('_', ' ')}'", role)
        if table.timestamp_unit == "fractional_seconds":
            self.values[role] = f"CASE WHEN NOT {bad} THEN CAST(round({value} * 1000000) AS BIGINT) END"
            return
        exact = self.cast(f"TRY_CAST({source} AS BIGINT)")
        self.values[role] = exact
        reason = f"' has a fraction; timestamp_unit is {table.timestamp_unit}'"
        self.reject(f"{exact} IS NULL OR CAST({exact} AS DOUBLE) <> {value}", f"{_shown(source)} || {reason}", role)


def _shown(source: str) -> str:
    return f"'''' || left({source}, 60) || ''''"


def _flags(fields: _Fields, name: str, feature: Flags, sources: list[str]) -> None:
    chosen = []
    for source, value, column in zip(sources, feature.columns.values(), feature.columns, strict=True):
        flag = fields.cast(f"TRY_CAST(trim({source}) AS BOOLEAN)")
        role = f"features.{name} (column {column})"
        fields.reject(f"{flag} IS NULL AND trim({source}) <> ''", f"{_shown(source)} || ' is neither 0 nor 1'", role)
        chosen.append(f"CASE WHEN {flag} THEN {literal(value)} END")
    fields.values[name] = f"list_filter([{', '.join(chosen)}], lambda v: v IS NOT NULL)"


def _fields(name: str, table: Table) -> _Fields:
    """The typed columns of a table. Sources are ``c0``, ``c1`` ... in the order of ``table.sources()``."""
    fields = _Fields()
    sources = {role: f"c{number}" for number, (role, _) in enumerate(table.sources())}
    for role in ("user", "item", "negative", "head", "relation", "tail", "entity"):
        if role in sources:
            fields.identity(role, sources[role])
    if isinstance(table, Interactions):
        if "timestamp" in sources:
            fields.timestamp(sources["timestamp"], table)
        if "rating" in sources:
            fields.number("rating", sources["rating"], "rating")
        for extra, column in table.columns.extra.items():
            if column.kind == "file":
                fields.values[extra] = "_part"
                continue
            source = sources[f"extra.{extra}"]
            if column.kind == "number":
                fields.number(extra, source, extra)
            else:
                fields.values[extra] = source
    if isinstance(table, Described):
        for feature_name, feature in table.features.items():
            if isinstance(feature, Flags):
                _flags(
                    fields,
                    feature_name,
                    feature,
                    [sources[f"features.{feature_name}.{n}"] for n in range(len(feature.columns))],
                )
                continue
            source = sources[f"features.{feature_name}"]
            if isinstance(feature, Number):
                fields.number(feature_name, source, feature_name, optional=True)
            elif isinstance(feature, TokenSequence):
                parts = f"list_transform(string_split({source}, {literal(feature.separator)}), lambda v: trim(v))"
                fields.values[feature_name] = f"list_filter({parts}, lambda v: v <> '')"
            else:
                fields.values[feature_name] = f"nullif(trim({source}), '')"
    return fields


def stage(connection: DuckDBPyConnection, card: Card, files: dict[str, list[RawFile]], progress: Progress) -> None:
    """Read all tables of a card.

    Makes a view ``raw_NAME`` for each, showing good rows only (column ``row`` is the order in the log, over all files), and
    ``rejected`` (table, file, line, lines, column, reason, raw).
    """
    connection.execute(
        'CREATE TABLE rejected ("table" VARCHAR, file VARCHAR, line BIGINT, lines INTEGER, "column" VARCHAR, reason VARCHAR, '
        "raw VARCHAR)"
    )
    connection.execute('CREATE TABLE rows_read ("table" VARCHAR, rows BIGINT)')
    total = sum(file.path.stat().st_size for group in files.values() for file in group) or 1
    done = 0
    for name, table in card.tables.present().items():
        fields = _fields(name, table)
        offset = 0
        for number, file in enumerate(files[name]):
            progress(f"reading {file.shown}", done / total)
            _stage_file(connection, name, table, fields, file, offset, first=number == 0)
            offset += file.lines
            done += file.path.stat().st_size
        _divide(connection, name, list(fields.values))


def _stage_file(
    connection: DuckDBPyConnection, name: str, table: Table, fields: _Fields, file: RawFile, offset: int, *, first: bool
) -> None:
    """Append one file to ``staged_NAME``; ``offset`` is the number of lines of the files before."""
    casts = "".join(f", {expression} AS {cast}" for expression, cast in fields.casts.items())
    values = "".join(f", {value} AS {identifier(column)}" for column, value in fields.values.items())
    numbered = list(enumerate(fields.flaws, 1))
    which = " ".join(f"WHEN {when} THEN {number}" for number, (when, _, _) in numbered)
    reasons = " ".join(f"WHEN {number} THEN {reason}" for number, (_, reason, _) in numbered)
    columns = " ".join(f"WHEN {number} THEN {literal(role)}" for number, (_, _, role) in numbered)
    with reader(table.reader)(connection, file, table) as rows:
        select = f"""
            SELECT {rows.order(offset)} AS row, {literal(file.shown)} AS _file, line AS _line, span AS _span,
                CASE which WHEN 0 THEN flaw {reasons} END AS _reason,
                CASE which WHEN 0 THEN flaw_column {columns} END AS _column,
                CASE WHEN which IS NOT NULL THEN left({rows.raw}, {LONGEST_SHOWN}) END AS _raw{values}
            FROM (
                SELECT *, CASE WHEN flaw IS NOT NULL THEN 0 {which} END AS which
                FROM (SELECT *, {file.part} AS _part{casts} FROM ({rows.sql}))
            )
        """
        connection.execute(f"CREATE TABLE staged_{name} AS {select}" if first else f"INSERT INTO staged_{name} {select}")


def _divide(connection: DuckDBPyConnection, name: str, columns: list[str]) -> None:
    """Good rows are seen as ``raw_NAME``; the others go to ``rejected``."""
    connection.execute(f"INSERT INTO rows_read SELECT {literal(name)}, coalesce(sum(_span), 0) FROM staged_{name}")
    connection.execute(
        f"INSERT INTO rejected SELECT {literal(name)}, _file, _line, _span, _column, _reason, _raw "
        f"FROM staged_{name} WHERE _reason IS NOT NULL"
    )
    chosen = ", ".join(identifier(column) for column in columns)
    connection.execute(f"CREATE VIEW raw_{name} AS SELECT row, {chosen} FROM staged_{name} WHERE _reason IS NULL")


def judge_rejected(connection: DuckDBPyConnection, card: Card, keep_at: Path) -> dict[str, dict[str, int]]:
    """Rows read and rejected, by table.

    Raises
    ------
    DataError
        The share of rejected rows of a table is above ``max_rejected``; the rejects were then written to ``keep_at``.
    """
    rows = connection.execute(
        """
        SELECT "table", any_value(rows), coalesce(sum(lines), 0)::BIGINT
        FROM rows_read LEFT JOIN rejected USING ("table") GROUP BY "table"
        """
    ).fetchall()
    counts = {name: {"read": int(read), "rejected": int(bad)} for name, read, bad in rows}
    for name, count in counts.items():
        if count["rejected"] <= card.max_rejected * count["read"]:
            continue
        keep_at.parent.mkdir(parents=True, exist_ok=True)
        connection.execute(f"COPY (SELECT * FROM rejected ORDER BY ALL) TO {literal(str(keep_at))} (FORMAT parquet)")
        first = one_row(
            connection,
            'SELECT file, line, "column", reason FROM rejected WHERE "table" = ? ORDER BY file, line LIMIT 1',
            [name],
        )
        column = f" ({first[2]})" if first[2] else ""
        share = count["rejected"] / count["read"]
        hint = date_advice(first[3]) or fraction_advice(first[3]) if first[2] == "timestamp" else ""
        raise DataError(
            f"{count['rejected']} of {counted(count['read'], 'row')} of the table {name} cannot be read "
            f"({100 * share:.3g} %; the limit max_rejected is {100 * card.max_rejected:.3g} %). "
            f"The first: {first[0]}:{first[1]}: {first[3]}{column}.",
            advice=f"{hint}All of them, with file, line and reason: {keep_at}",
        )
    return counts


def date_advice(reason: str) -> str:
    """What to write in the card when a timestamp was rejected that is no number: how dates are told, with a guess.

    Parameters
    ----------
    reason
        As in the reject table.

    Examples
    --------
    >>> print(date_advice("'2024-05-17 08:30' is no time in seconds").strip())
    If these are dates, add to tables.interactions in the card:  timestamp_format: "%Y-%m-%d %H:%M"
    """
    shown = re.match(r"'(.*)' is no time in ", reason)
    if shown is None or not shown[1].strip():
        return ""
    # An offset at the end, or Z for UTC, goes with any of the formats.
    zone = re.search(r"(?:Z|[+-]\d\d:?\d\d)$", shown[1])
    body, ending = (shown[1][: zone.start()], "Z" if zone[0] == "Z" else "%z") if zone and ":" in shown[1] else (shown[1], "")
    guesses = [f'timestamp_format: "{pattern}{ending}"' for pattern in USUAL_FORMATS if _follows(body, pattern)]
    return (
        "If these are dates, add to tables.interactions in the card:  "
        + (" or ".join(guesses) or 'timestamp_format: "..." in the notation of strptime, such as "%Y-%m-%d %H:%M:%S"')
        + "\n  "
    )


def fraction_advice(reason: str) -> str:
    """Which unit to write in the card when a timestamp was rejected for its fraction.

    Parameters
    ----------
    reason
        As in the reject table.

    Examples
    --------
    >>> print(fraction_advice("'1396437466.94' has a fraction; timestamp_unit is seconds").strip())
    Set in tables.interactions of the card:  timestamp_unit: fractional_seconds
    >>> print(fraction_advice("'1396437466940.5' has a fraction; timestamp_unit is seconds").strip())
    These look like milliseconds. Cut the fractions off in the file, and set:  timestamp_unit: milliseconds
    """
    shown = re.match(r"'(.*)' has a fraction; ", reason)
    if shown is None:
        return ""
    try:
        value = abs(float(shown[1]))
    except ValueError:  # pragma: no cover - the engine reads a number that Python does not
        value = 0.0
    # As seconds, 1e11 is the year 5138; as milliseconds, 1e14 is.
    if value < 1e11:
        return "Set in tables.interactions of the card:  timestamp_unit: fractional_seconds\n  "
    unit = "milliseconds" if value < 1e14 else "microseconds"
    return f"These look like {unit}. Cut the fractions off in the file, and set:  timestamp_unit: {unit}\n  "


def _follows(text: str, pattern: str) -> bool:
    try:
        datetime.strptime(text, pattern)
    except ValueError:
        return False
    return True
