"""The last event of each user is the test target, the one before it the validation target; or a column marks the targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from benchbed.data.database import identifier, one_row
from benchbed.data.split.base import Split, numeric_column
from benchbed.errors import counted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class LeaveOneOut(Split):
    """Users with at least three events are evaluated; all others give training events only, and are counted.

    With ``test: "column: NAME"`` the test targets are the rows with the largest value of that column, such as those of a file
    of their own; users with such a row are evaluated, even where it is their only one. The last of their other events is the
    validation target, if there are two. Negatives that came with these rows are listed for the test cases.

    The history of a test case holds the validation event too.
    """

    kind: ClassVar[str] = "leave_one_out"
    disjoint: ClassVar[bool] = False

    @property
    def at_random(self) -> bool:
        """Where test rows are given, the order of the others may be left to chance, if the split says so."""
        return self.spec.test is not None and "ties" in self.spec.model_fields_set

    def divide(self, connection: DuckDBPyConnection) -> dict[str, int]:
        """Make ``train``, ``valid`` and ``test``; returns counts of users."""
        if self.spec.test is not None:
            return self._by_column(connection, self.spec.test.partition(":")[2].strip())
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

    def warnings(self, counts: dict[str, int]) -> list[str]:
        """What chance or the marked rows decide."""
        told = []
        if self.unit is None and self.at_random and self.spec.ties == "hash":
            told.append(
                "The log has no times: the order of a user's events, and so which of them validates, is left to chance."
            )
        if users := counts.get("test_users_without_history"):
            told.append(
                f"{counted(users, 'test user has', 'test users have')} no other event: nothing is known "
                "of them when they are ranked for."
            )
        if users := counts.get("test_users_with_later_history"):
            told.append(
                f"{counted(users, 'test user has', 'test users have')} events in their history that are later than a target."
            )
        return told

    def _by_column(self, connection: DuckDBPyConnection, name: str) -> dict[str, int]:
        columns = {column: kind for column, kind, *_ in connection.execute("DESCRIBE interactions").fetchall()}
        mark = identifier(numeric_column(name, columns, "tests by"))
        connection.execute(
            f"""
            CREATE TABLE marked AS
            SELECT *, sum((NOT held)::INTEGER) OVER owner AS others, bool_or(held) OVER owner AS tested,
                row_number() OVER (PARTITION BY "user", held ORDER BY position DESC) AS back
            FROM (
                SELECT events.*, i.{mark} = (SELECT max({mark}) FROM interactions) AS held
                FROM events JOIN interactions AS i USING (row)
            )
            WINDOW owner AS (PARTITION BY "user")
            """
        )
        validates = "NOT held AND tested AND others >= 2 AND back = 1"
        connection.execute(f"CREATE VIEW train AS SELECT * FROM marked WHERE NOT held AND NOT ({validates})")
        connection.execute(
            f"CREATE VIEW valid AS SELECT *, {validates} AS target FROM marked WHERE NOT held AND tested AND others >= 2"
        )
        connection.execute("CREATE VIEW test AS SELECT *, held AS target FROM marked WHERE tested")
        if connection.execute("SELECT 1 FROM information_schema.tables WHERE table_name = 'negatives'").fetchall():
            connection.execute(
                """
                CREATE VIEW listed_test AS SELECT "user", negative AS item, min(place) AS place
                FROM negatives SEMI JOIN (SELECT "user", item FROM test WHERE target) USING ("user", item) GROUP BY ALL
                """
            )
            self.listed = ("test",)
        later = "max(timestamp) FILTER (NOT held) > min(timestamp) FILTER (held)" if self.unit is not None else "false"
        row = one_row(
            connection,
            f"""
            SELECT count(*) FILTER (tested), count(*) FILTER (tested AND others >= 2), count(*) FILTER (tested AND others = 0),
                count(*) FILTER (tested AND targets > 1), count(*) FILTER (NOT tested), count(*) FILTER (late)
            FROM (SELECT "user", any_value(tested) AS tested, any_value(others) AS others, count(*) FILTER (held) AS targets,
                coalesce({later}, false) AS late FROM marked GROUP BY "user")
            """,
        )
        names = (
            *("test_users", "valid_users", "test_users_without_history", "test_users_with_several_targets"),
            *("users_without_test_row", "test_users_with_later_history"),
        )
        return {name: int(count) for name, count in zip(names, row, strict=True)}
