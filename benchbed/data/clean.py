"""Cleaning of the log: items without a link, low ratings, duplicates, k-core. Each step is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchbed.data.card import Card
from benchbed.data.database import one_row

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
    connection.execute("DROP VIEW raw_interactions")
    connection.execute("DROP TABLE staged_interactions")


def linked_ids(card: Card) -> str:
    """SQL: the raw ids of the items that are entities of the graph. An entity is a head or a tail of a triple."""
    if card.tables.links is None:
        return "SELECT head FROM raw_graph UNION SELECT tail FROM raw_graph"
    # Of an item that stands twice in the links the first row counts, as in the prepared tables.
    return """
        SELECT item FROM (SELECT * FROM raw_links QUALIFY row_number() OVER (PARTITION BY item ORDER BY row) = 1)
        WHERE entity IN (SELECT head FROM raw_graph UNION SELECT tail FROM raw_graph)
    """


def clean(connection: DuckDBPyConnection, card: Card, *, timed: bool, rejected: int) -> list[Step]:
    """Apply the rules of a card to the table ``log``; ``min_rating`` leaves the pairs that it drops in ``low_rated``.

    Returns
    -------
    list
        For each step its name, the reason of dropping, the rows dropped, and interactions, users and items that are left. The
        first step is the reading.
    """
    steps = [_counted(connection, "read", "rows that could not be read", None)]
    steps[0]["dropped"] = rejected
    rules = card.clean
    if rules.linked_items:
        connection.execute(f"DELETE FROM log WHERE item NOT IN (SELECT code FROM item_codes WHERE id IN ({linked_ids(card)}))")
        steps.append(_counted(connection, "linked_items", "the item is no entity of the graph", steps[-1]))
    if rules.min_rating is not None:
        # Kept for whoever draws negatives: what a user disliked is another thing than what nothing is known of.
        connection.execute(
            f'CREATE TABLE low_rated AS SELECT DISTINCT "user", item FROM log WHERE NOT rating >= {rules.min_rating!r}'
        )
        connection.execute(f"DELETE FROM log WHERE NOT rating >= {rules.min_rating!r}")
        steps.append(_counted(connection, "min_rating", f"rating below {rules.min_rating:g}", steps[-1]))
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
        reason = f"the same user and item, only the {rules.duplicates} event stays"
        steps.append(_counted(connection, "duplicates", reason, steps[-1]))
    if rules.k_core is not None:
        user, item = rules.k_core.user, rules.k_core.item
        rounds = _k_core(connection, user, item)
        reason = f"outside the core of users with {user} and items with {item} events"
        steps.append(_counted(connection, "k_core", reason, steps[-1]) | {"rounds": rounds})
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
            dropped += int(one_row(connection, f'DELETE FROM log WHERE "{role}" IN ({few})')[0])
        rounds += 1
        if dropped == 0:
            return rounds


def _counted(connection: DuckDBPyConnection, step: str, reason: str, before: Step | None) -> Step:
    row = one_row(connection, 'SELECT count(*), count(DISTINCT "user"), count(DISTINCT item) FROM log')
    dropped = 0 if before is None else before["interactions"] - row[0]
    return {"step": step, "reason": reason, "dropped": dropped, "interactions": row[0], "users": row[1], "items": row[2]}
