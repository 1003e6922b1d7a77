"""Cleaning of the log: low ratings, duplicates, k-core. Each step is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchbed.data.card import Clean

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Step = dict[str, Any]


def intern(connection: DuckDBPyConnection) -> None:
    """Raw ids of ``raw_interactions`` to numbers, in the order of the ids: tables ``log``, ``user_codes``, ``item_codes``."""
    for role in ("user", "item"):
        connection.execute(
            f"""
            CREATE TABLE {role}_codes AS
            SELECT id, row_number() OVER (ORDER BY id) AS code FROM (SELECT DISTINCT "{role}" AS id FROM raw_interactions)
            """
        )
    connection.execute(
        """
        CREATE TABLE log AS
        SELECT raw_interactions.* REPLACE (user_codes.code AS "user", item_codes.code AS item)
        FROM raw_interactions
        JOIN user_codes ON user_codes.id = raw_interactions."user"
        JOIN item_codes ON item_codes.id = raw_interactions.item
        """
    )
    connection.execute("DROP TABLE raw_interactions")


def clean(connection: DuckDBPyConnection, rules: Clean, *, timed: bool) -> list[Step]:
    """Apply the rules to the table ``log``; returns the counts after each step, the first being the log as it was read."""
    steps = [_counted(connection, "read")]
    if rules.min_rating is not None:
        connection.execute(f"DELETE FROM log WHERE rating < {rules.min_rating!r}")
        steps.append(_counted(connection, f"rating at least {rules.min_rating:g}"))
    if rules.duplicates != "keep":
        way = "" if rules.duplicates == "first" else " DESC"
        order = f"timestamp{way}, row{way}" if timed else f"row{way}"
        connection.execute(
            f"""
            CREATE TABLE single AS
            SELECT * FROM log QUALIFY row_number() OVER (PARTITION BY "user", item ORDER BY {order}) = 1
            """
        )
        connection.execute("DROP TABLE log")
        connection.execute("ALTER TABLE single RENAME TO log")
        steps.append(_counted(connection, f"{rules.duplicates} of the events of the same user and item"))
    if rules.k_core is not None:
        rounds = _k_core(connection, rules.k_core.user, rules.k_core.item)
        steps.append(
            _counted(connection, f"k-core: users with {rules.k_core.user} events, items with {rules.k_core.item}")
            | {"rounds": rounds}
        )
    return steps


def _k_core(connection: DuckDBPyConnection, user: int, item: int) -> int:
    """Drop users and items below their least number of events until nothing changes; returns the number of rounds.

    The largest such set is unique, so that the order of dropping does not matter.
    """
    rounds = 0
    while True:
        dropped = 0
        for role, least in (("user", user), ("item", item)):
            few = f'SELECT "{role}" FROM log GROUP BY "{role}" HAVING count(*) < {least}'
            row = connection.execute(f'DELETE FROM log WHERE "{role}" IN ({few})').fetchone()
            dropped += int(row[0]) if row else 0
        rounds += 1
        if dropped == 0:
            return rounds


def _counted(connection: DuckDBPyConnection, step: str) -> Step:
    row = connection.execute('SELECT count(*), count(DISTINCT "user"), count(DISTINCT item) FROM log').fetchone()
    assert row is not None
    return {"step": step, "interactions": row[0], "users": row[1], "items": row[2]}
