"""The newest stretch of the log is the test part for everybody, the stretch before it the validation part."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from benchbed.data.database import one_row
from benchbed.data.split.base import Split
from benchbed.data.split.session import DAY
from benchbed.errors import DataError, counted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class TemporalSplit(Split):
    """Two moments divide the log: what happened before the first is trained on, whoever did it; the rest are targets.

    The targets of a user are all own events of the stretch, the history all own events before it: those of the validation
    stretch are part of the history of a test case. Events of the same time stay together, so that a part may be larger than
    asked for. No training event is as late as any target.

    Who has no event before a stretch has no history there: there is nothing to rank by. These users are counted and not
    evaluated.
    """

    kind: ClassVar[str] = "temporal"
    disjoint: ClassVar[bool] = False

    def without_times(self) -> DataError | None:
        """There is nothing to divide by."""
        return DataError(
            "This dataset has no timestamps, and a temporal split divides by time.",
            advice="Take `kind: leave_one_out` or `kind: user_disjoint`, which need an order and no times.",
        )

    def divide(self, connection: DuckDBPyConnection) -> dict[str, int]:
        """Make ``train``, ``valid`` and ``test``; returns counts of users and events.

        Raises
        ------
        DataError
            The log has a single time.
        """
        valid_from, test_from = self._edges(connection)
        self.edges = {"valid": valid_from, "test": test_from}
        connection.execute(f"CREATE VIEW train AS SELECT * FROM events WHERE timestamp < {valid_from}")
        found: dict[str, int] = {}
        for part, start, until in (("valid", valid_from, f"timestamp < {test_from}"), ("test", test_from, "true")):
            connection.execute(
                f"""
                CREATE VIEW {part} AS SELECT *, timestamp >= {start} AS target FROM events WHERE {until}
                WINDOW owner AS (PARTITION BY "user")
                QUALIFY min(timestamp) OVER owner < {start} AND max(timestamp) OVER owner >= {start}
                """
            )
            row = one_row(
                connection,
                f"""
                SELECT count(DISTINCT "user"), count(*), (SELECT count(DISTINCT "user") FROM {part}),
                    (SELECT count(*) FROM {part} WHERE target)
                FROM events WHERE timestamp >= {start} AND {until}
                """,
            )
            found |= {
                f"{part}_users": int(row[2]),
                f"{part}_users_without_history": int(row[0]) - int(row[2]),
                f"{part}_events_of_users_without_history": int(row[1]) - int(row[3]),
            }
        return found

    def warnings(self, counts: dict[str, int]) -> list[str]:
        """Who is not evaluated because nothing is known of them."""
        return [
            f"Not evaluated, without an event before the {name} stretch: "
            f"{counted(counts[f'{part}_users_without_history'], 'user')} with "
            f"{counted(counts[f'{part}_events_of_users_without_history'], 'event')} of it."
            for part, name in (("valid", "validation"), ("test", "test"))
            if counts[f"{part}_users_without_history"]
        ]

    def _edges(self, connection: DuckDBPyConnection) -> tuple[int, int]:
        """The moments at which the validation and the test stretch begin."""
        events, last = one_row(connection, "SELECT count(*), max(timestamp) FROM events")
        if self.spec.test_days is not None:
            width = round(self.spec.test_days * DAY[self.unit or "seconds"])
            return int(last) - 2 * width, int(last) - width
        share = self.spec.newest_share
        number = max(1, share.numerator * int(events) // share.denominator)
        test = _newest(connection, number, "true")
        return _newest(connection, number, f"timestamp < {test}"), test


def _newest(connection: DuckDBPyConnection, number: int, where: str) -> int:
    """The time of the last of the ``number`` newest events, or of the oldest where there are fewer."""
    newest = f"SELECT timestamp FROM events WHERE {where} ORDER BY timestamp DESC LIMIT {number}"
    oldest = one_row(connection, f"SELECT min(timestamp) FROM ({newest})")[0]
    if oldest is None:
        raise DataError(
            "All events happened at the same time, so nothing is older than the test part.",
            advice="Take `kind: leave_one_out` or `kind: user_disjoint`.",
        )
    return int(oldest)
