"""The last event of each user is the test target, the one before it the validation target."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from benchbed.data.database import one_row
from benchbed.data.split.base import Split

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class LeaveOneOut(Split):
    """Users with at least three events are evaluated; all others give training events only, and are counted.

    The history of a test case holds the validation event too.
    """

    kind: ClassVar[str] = "leave_one_out"
    disjoint: ClassVar[bool] = False

    def divide(self, connection: DuckDBPyConnection) -> dict[str, int]:
        """Make ``train``, ``valid`` and ``test``; returns counts of users."""
        connection.execute("CREATE VIEW train AS SELECT * FROM events WHERE length < 3 OR position <= length - 2")
        for part, back in (("valid", 1), ("test", 0)):
            connection.execute(
                f"""
                CREATE VIEW {part} AS SELECT *, position = length - {back} AS target FROM events
                WHERE length >= 3 AND position <= length - {back}
                """
            )
        row = one_row(
            connection, "SELECT count(*) FILTER (length >= 3), count(*) FILTER (length < 3) FROM events WHERE position = 1"
        )
        return {"evaluated_users": int(row[0]), "users_with_fewer_than_three_events": int(row[1])}
