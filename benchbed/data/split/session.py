"""Whole sessions are held out: the newest ones, or those that a column marks."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from benchbed.data.database import identifier, one_row
from benchbed.data.split.base import Split, numeric_column
from benchbed.errors import DataError, counted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DAY = {"seconds": 86_400, "milliseconds": 86_400_000, "microseconds": 86_400_000_000}
"""One day in each unit of stored times."""


class SessionSplit(Split):
    """A session is a user of the log. The newest sessions are the test part, the newest of the rest the validation part.

    A session is as new as its first event; sessions that begin at the same time stay together. Without times the place in the
    file counts. Parts are then cut in time: an event of a training session that is not older than the first validation
    session, or of a validation session that is not older than the first test session, is dropped and counted. What is left
    is what was known at that moment, and no training event is later than any target.

    The first event of a held-out session is the history, the others are targets. Held-out sessions with a single event are
    counted and not evaluated.
    """

    kind: ClassVar[str] = "session"
    disjoint: ClassVar[bool] = True

    def without_times(self) -> DataError | None:
        """Days are counted by time; a share of the sessions is that of their order in the log."""
        if self.spec.test_days is None:
            return None
        return DataError(
            "This dataset has no timestamps, so there are no last days to hold out.",
            advice="Hold out a share of the sessions (`test_share`), in the order of the log, or `by: 'column: NAME'`.",
        )

    def divide(self, connection: DuckDBPyConnection) -> dict[str, int]:
        """Make ``train``, ``valid`` and ``test``; returns counts of sessions and of dropped events."""
        columns = {name: kind for name, kind, *_ in connection.execute("DESCRIBE interactions").fetchall()}
        timed = "timestamp" in columns
        self._describe(connection, columns, timed=timed)
        edges = self._edges(connection)
        connection.execute(
            f"""
            CREATE TABLE parts AS
            SELECT "user", CASE WHEN {edges[1]} THEN 'test' WHEN {edges[0]} THEN 'valid' ELSE 'train' END AS part FROM sessions
            """
        )
        late = "false"
        if timed:
            starts = dict(
                connection.execute('SELECT part, min(start) FROM parts JOIN sessions USING ("user") GROUP BY part').fetchall()
            )
            # Marked sessions may begin before the validation part does.
            until = {
                "valid": starts.get("test"),
                "train": min((starts[p] for p in ("valid", "test") if p in starts), default=None),
            }
            cuts = [f"(part = '{part}' AND timestamp >= {edge})" for part, edge in until.items() if edge is not None]
            late = " OR ".join(cuts) or "false"
        connection.execute(f'CREATE TABLE divided AS SELECT *, {late} AS late FROM events JOIN parts USING ("user")')
        connection.execute("CREATE VIEW train AS SELECT * FROM divided WHERE part = 'train' AND NOT late")
        for part in ("valid", "test"):
            connection.execute(
                f"""
                CREATE VIEW {part} AS SELECT *, position > 1 AS target FROM divided
                WHERE part = '{part}' AND NOT late QUALIFY count(*) OVER (PARTITION BY "user") > 1
                """
            )
        return self._counts(connection)

    def warnings(self, counts: dict[str, int]) -> list[str]:
        """What was dropped so that no training event is later than any target."""
        told = []
        for part, name, following in (("train", "training", "validation"), ("valid", "validation", "test")):
            if dropped := counts[f"{part}_events_dropped_as_late"]:
                told.append(
                    f"Dropped: {counted(dropped, 'event')} of {counted(counts[f'{part}_sessions_cut'], f'{name} session')}, "
                    f"not older than the first {following} session."
                )
        return told

    def _describe(self, connection: DuckDBPyConnection, columns: dict[str, str], *, timed: bool) -> None:
        """The table ``sessions``: user, start (a time, else a place in the file), and mark."""
        mark = "NULL"
        if self.spec.by is not None:
            name = self.spec.by.partition(":")[2].strip()
            mark = f"max({identifier(numeric_column(name, columns, 'holds out by'))})"
            mixed = one_row(
                connection,
                f'SELECT count(*) FROM (SELECT 1 FROM interactions GROUP BY "user" HAVING min({identifier(name)}) < {mark})',
            )[0]
            if mixed:
                raise DataError(
                    f"{counted(mixed, 'session has', 'sessions have')} several values of '{name}', so it "
                    "cannot say which part they belong to.",
                    advice="Hold out by time (test_days, test_share), or give each session one value.",
                )
        connection.execute(
            f"""
            CREATE TABLE sessions AS
            SELECT "user", min({"timestamp" if timed else '"row"'}) AS start, {mark} AS mark FROM interactions GROUP BY "user"
            """
        )

    def _edges(self, connection: DuckDBPyConnection) -> tuple[str, str]:
        """Conditions over ``sessions``: is it as new as the validation part, and is it a test session."""
        spec = self.spec
        if spec.by is not None:
            test = "mark = (SELECT max(mark) FROM sessions)"
            return _newest(connection, spec.newest_share, f"NOT ({test})"), test
        if spec.test_days is not None:
            last = int(one_row(connection, "SELECT max(timestamp) FROM interactions")[0])
            width = round(spec.test_days * DAY[self.unit or "seconds"])
            return f"start >= {last - 2 * width}", f"start >= {last - width}"
        test = _newest(connection, spec.newest_share, "true")
        total = int(one_row(connection, "SELECT count(*) FROM sessions")[0])
        return _newest(connection, spec.newest_share, f"NOT ({test})", of=total), test

    def _counts(self, connection: DuckDBPyConnection) -> dict[str, int]:
        found: dict[str, int] = {}
        for part in ("train", "valid", "test"):
            row = one_row(
                connection,
                f"""
                SELECT count(*), count(*) FILTER (kept = 0), count(*) FILTER (kept = 1), count(*) FILTER (gone > 0),
                    coalesce(sum(gone), 0)::BIGINT
                FROM (SELECT count(*) FILTER (NOT late) AS kept, count(*) FILTER (late) AS gone
                    FROM divided WHERE part = '{part}' GROUP BY "user")
                """,
            )
            found[f"{part}_sessions"] = int(row[0])
            found[f"{part}_sessions_with_one_event"] = int(row[2])
            if part != "test":
                found[f"{part}_sessions_without_event_before_the_next_part"] = int(row[1])
                found[f"{part}_sessions_cut"] = int(row[3])
                found[f"{part}_events_dropped_as_late"] = int(row[4])
        if found["train_sessions"] and found["train_sessions"] == found["train_sessions_without_event_before_the_next_part"]:
            raise DataError(
                "The held-out sessions begin before every other session: with no training event later than any target, none is "
                "left to train on.",
                advice="Hold out by time: `test_days` or `test_share`.",
            )
        return found


def _newest(connection: DuckDBPyConnection, share: Fraction, where: str, of: int | None = None) -> str:
    """The condition that holds for the newest sessions among some: a share of these, or of ``of``, and at least one of them."""
    among = int(one_row(connection, f"SELECT count(*) FROM sessions WHERE {where}")[0])
    if among == 0:
        return "false"
    number = min(among, max(1, share.numerator * (among if of is None else of) // share.denominator))
    edge = one_row(connection, f"SELECT start FROM sessions WHERE {where} ORDER BY start DESC LIMIT 1 OFFSET {number - 1}")
    return f"start >= {int(edge[0])}"
