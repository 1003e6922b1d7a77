"""Positive and drawn negative rows, pooled and divided at random: what click-through models are trained and judged on."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from benchbed.data.database import one_row
from benchbed.data.dataset import IntArray, Ragged
from benchbed.data.drawing import draw, hashed_ids
from benchbed.data.split.base import Split, keyed
from benchbed.errors import counted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class ClickThrough(Split):
    """As MKR's authors do: negatives are drawn before anything is divided, and are fixed from then on.

    A positive is a pair of user and item in the cleaned log, however often it stands there. Each user gets as many negatives as
    positives: items drawn without replacement among all of the dataset that the user has no event with, in any part, and has
    not rated below the card's ``min_rating``. A user who has too few of these gets fewer negatives, and is counted. The rows of
    all users together are then divided by ``ratios``.

    The history of a case is the user's positives in the parts before; a user may have no history, no positives or no negatives
    in a part. Rows are divided at random, so that a history may be later than the targets.
    """

    kind: ClassVar[str] = "click_through"
    disjoint: ClassVar[bool] = False
    labelled: ClassVar[bool] = True
    in_time: ClassVar[bool] = False

    def divide(self, connection: DuckDBPyConnection) -> dict[str, int]:
        """Make ``train``, ``valid`` and ``test``, and the labelled rows; returns counts of rows, by part and label."""
        connection.execute(
            """
            CREATE TABLE positives AS
            SELECT * FROM events QUALIFY row_number() OVER (PARTITION BY "user", item ORDER BY position) = 1
            """
        )
        without = self._draw(connection)
        rows = int(one_row(connection, "SELECT (SELECT count(*) FROM positives) + (SELECT count(*) FROM drawn)")[0])
        parts = self.spec.parts
        n_valid, n_test = (rows * part // sum(parts) for part in parts[1:])
        n_train = rows - n_valid - n_test
        connection.execute(
            f"""
            CREATE TABLE labelled_rows AS
            SELECT "user", item, label, CASE WHEN place <= {n_train} THEN 'train'
                WHEN place <= {n_train + n_valid} THEN 'valid' ELSE 'test' END AS part
            FROM (
                SELECT r.*, row_number() OVER (ORDER BY {keyed(self.seed, "'part'", "u.id", "i.id")}) AS place
                FROM (SELECT "user", item, 1 AS label FROM positives UNION ALL SELECT "user", item, 0 FROM drawn) AS r
                JOIN users AS u ON u.index = r."user" JOIN items AS i ON i.index = r.item
            )
            """
        )
        divided = 'positives JOIN labelled_rows USING ("user", item)'
        connection.execute(f"CREATE VIEW train AS SELECT positives.* FROM {divided} WHERE part = 'train'")
        connection.execute("CREATE VIEW labelled AS SELECT \"user\", item, label FROM labelled_rows WHERE part = 'train'")
        for part, known in (("valid", "'train'"), ("test", "'train', 'valid'")):
            connection.execute(
                f"""
                CREATE VIEW {part} AS SELECT positives.*, part = '{part}' AS target FROM {divided}
                WHERE part IN ({known}, '{part}')
                    AND "user" IN (SELECT "user" FROM labelled_rows WHERE part = '{part}')
                """
            )
            connection.execute(
                f"""
                CREATE VIEW listed_{part} AS SELECT "user", item, item AS place FROM labelled_rows
                WHERE part = '{part}' AND label = 0
                """
            )
        self.listed = ("valid", "test")
        return self._counts(connection) | without

    def warnings(self, counts: dict[str, int]) -> list[str]:
        """That time plays no part, and who has fewer negatives than positives."""
        told = ["Rows are divided at random: a history may be later than the targets, and training events than both."]
        low = ", or low ratings of too many" if counts.get("low_rated_pairs") else ""
        if users := counts["users_with_fewer_negatives"]:
            told.append(
                f"{counted(users, 'user has', 'users have')} events with more than half of the items{low}: "
                f"{counted(counts['negatives_missing'], 'negative')} fewer than positives could be drawn for them."
            )
        if pairs := counts.get("low_rated_pairs"):
            told.append(
                f"{counted(pairs, 'pair of user and item was', 'pairs of user and item were')} rated below min_rating: no row."
            )
        if repeated := counts["repeated_events"]:
            told.append(
                f"{counted(repeated, 'event repeats', 'events repeat')} an earlier pair of user and item; a pair is one row."
            )
        return told

    def _draw(self, connection: DuckDBPyConnection) -> dict[str, int]:
        """Make ``drawn`` ("user", item): the negatives; returns counts."""
        pairs = connection.execute('SELECT "user", item FROM positives ORDER BY ALL').fetchnumpy()
        user, item = (np.asarray(pairs[name], dtype=np.int64) for name in ("user", "item"))
        owners, starts = np.unique(user, return_index=True)
        own = Ragged(item, np.append(starts, len(item)).astype(np.int64))
        ids = dict(connection.execute("SELECT index, id FROM users").fetchall())
        keys = hashed_ids([ids[owner] for owner in owners.tolist()])
        # Items are numbered from 1 in the order of their raw ids, so that a number stands for the same item in every split.
        catalogue = int(one_row(connection, "SELECT count(*) FROM items")[0])
        excluded = _with_low_rated(connection, user, item) if self.low_rated else own
        drawn = draw(self.seed, keys, own.lengths, excluded, catalogue)
        made = pa.table({"user": owners[drawn.row_of_value], "item": drawn.values})
        connection.register("drawn_rows", made)
        connection.execute('CREATE TABLE drawn AS SELECT "user", item FROM drawn_rows')
        connection.unregister("drawn_rows")
        missing = own.lengths - drawn.lengths
        return {
            "users_with_fewer_negatives": int((missing > 0).sum()),
            "negatives_missing": int(missing.sum()),
            "repeated_events": int(one_row(connection, "SELECT count(*) FROM events")[0]) - len(user),
        }

    def _counts(self, connection: DuckDBPyConnection) -> dict[str, int]:
        found: dict[str, int] = {}
        if self.low_rated:
            found["low_rated_pairs"] = int(one_row(connection, "SELECT count(*) FROM low_rated")[0])
        for part in ("train", "valid", "test"):
            row = one_row(
                connection,
                f"""
                SELECT count(*), coalesce(sum(positives), 0)::BIGINT, coalesce(sum(negatives), 0)::BIGINT,
                    count(*) FILTER (positives = 0), count(*) FILTER (negatives = 0)
                FROM (SELECT count(*) FILTER (label = 1) AS positives, count(*) FILTER (label = 0) AS negatives
                    FROM labelled_rows WHERE part = '{part}' GROUP BY "user")
                """,
            )
            names = ("users", "positives", "negatives", "users_without_positives", "users_without_negatives")
            found |= {f"{part}_{name}": int(count) for name, count in zip(names, row, strict=True)}
        return found


def _with_low_rated(connection: DuckDBPyConnection, user: IntArray, item: IntArray) -> Ragged:
    """The items of each user of the positives, in the order of their numbers, and those that the user has rated low."""
    pairs = connection.execute('SELECT "user", item FROM low_rated WHERE "user" IN (SELECT "user" FROM positives)').fetchnumpy()
    users = np.concatenate([user, np.asarray(pairs["user"], dtype=np.int64)])
    items = np.concatenate([item, np.asarray(pairs["item"], dtype=np.int64)])
    order = np.argsort(users, kind="stable")
    starts = np.unique(users[order], return_index=True)[1]
    return Ragged(items[order], np.append(starts, len(items)).astype(np.int64))
