"""Users are divided into training, validation and test (strong generalisation)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from benchbed.data.database import one_row
from benchbed.data.split.base import Split, keyed

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class UserDisjoint(Split):
    """Training users give whole sequences; held-out users give a history and the targets after it.

    The history of a user with n events has ``max(1, min(n - 1, floor(input_fraction * n)))`` of them, in integer arithmetic.
    Held-out users with a single event are counted and not evaluated.
    """

    kind: ClassVar[str] = "user_disjoint"
    disjoint: ClassVar[bool] = True
    trains_on_histories: ClassVar[bool] = False

    def divide(self, connection: DuckDBPyConnection) -> dict[str, int]:
        """Make ``train``, ``valid`` and ``test``; returns counts of users."""
        users = int(one_row(connection, "SELECT count(*) FROM users")[0])
        parts = self.spec.parts
        n_valid, n_test = (users * part // sum(parts) for part in parts[1:])
        n_train = users - n_valid - n_test
        connection.execute(
            f"""
            CREATE TABLE parts AS
            SELECT index AS "user", CASE WHEN place <= {n_train} THEN 'train'
                WHEN place <= {n_train + n_valid} THEN 'valid' ELSE 'test' END AS part
            FROM (SELECT index, row_number() OVER (ORDER BY {keyed(self.seed, "id")}) AS place FROM users)
            """
        )
        share = self.spec.history_share
        cut = f"greatest(1, least(length - 1, ({share.numerator} * length) // {share.denominator}))"
        connection.execute(
            f"""
            CREATE VIEW train AS SELECT events.* FROM events JOIN parts USING ("user")
            WHERE part = 'train' OR ({self.trains_on_histories} AND position <= {cut})
            """
        )
        for part in ("valid", "test"):
            connection.execute(
                f"""
                CREATE VIEW {part} AS SELECT events.*, position > {cut} AS target
                FROM events JOIN parts USING ("user") WHERE part = '{part}' AND length >= 2
                """
            )
        short = one_row(
            connection,
            """
            SELECT count(*) FILTER (part = 'valid'), count(*) FILTER (part = 'test')
            FROM (SELECT DISTINCT "user", part FROM events JOIN parts USING ("user") WHERE length < 2)
            """,
        )
        return {
            "train_users": n_train,
            "valid_users": n_valid,
            "test_users": n_test,
            "valid_users_with_one_event": int(short[0]),
            "test_users_with_one_event": int(short[1]),
        }


class PartialHistory(UserDisjoint):
    """The same cases, but what held-out users did before their targets is trained on (weak generalisation).

    It gives users of a model with user vectors rows of their own. Its numbers belong to another protocol than those of
    :class:`UserDisjoint`, for every model: training has seen the histories that models are asked about.
    """

    kind: ClassVar[str] = "partial_history"
    disjoint: ClassVar[bool] = False
    trains_on_histories: ClassVar[bool] = True
