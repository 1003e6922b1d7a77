"""From cleaned rows to the prepared tables: numbers for users, items, entities and relations, written as Parquet.

Numbers count from 1 in the order of the raw ids, so that they tell nothing about popularity or time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbed.data.card import Card
from benchbed.data.clean import linked_ids
from benchbed.data.database import identifier, literal, one_row

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LOW_RATED = "low_rated.parquet"
"""In a prepared dataset: pairs of user and item that ``clean.min_rating`` has dropped."""

PARQUET = "(FORMAT parquet, COMPRESSION zstd)"


def write_table(connection: DuckDBPyConnection, query: str, path: Path) -> None:
    """The rows of a query as a Parquet file."""
    connection.execute(f"COPY ({query}) TO {literal(str(path))} {PARQUET}")


def write_tables(connection: DuckDBPyConnection, card: Card, folder: Path) -> dict[str, Any]:
    """Write every prepared table of a card into ``folder``; returns counts and what was dropped from the side tables."""
    facts: dict[str, Any] = {}
    _number_users(connection)
    _number_items(connection, card)
    facts["side_tables"] = _side_tables(connection, card)
    users = _described(connection, card, "user", folder / "users.parquet")
    if card.tables.graph is not None:
        facts["graph"] = _graph(connection, card, folder)
    items = _described(connection, card, "item", folder / "items.parquet")
    columns = ", ".join(
        f"log.{identifier(name)}"
        for name in _columns(connection, "log")
        if name not in ("user", "item", "timestamp", "rating", "row")
    )
    facts["tables"] = {"users": users, "items": items}
    present = _columns(connection, "log")
    optional = "".join(f"log.{name}, " for name in ("timestamp", "rating") if name in present)
    order = "log.timestamp, log.row" if "timestamp" in present else "log.row"
    # Sorting inside of COPY is kept in the file only when the engine is told to keep order.
    connection.execute("SET preserve_insertion_order = true")
    write_table(
        connection,
        f"""
        SELECT user_numbers.index AS "user", item_numbers.index AS item, {optional}log.row{", " + columns if columns else ""}
        FROM log
        JOIN user_numbers ON user_numbers.code = log."user"
        JOIN item_numbers ON item_numbers.code = log.item
        ORDER BY 1, {order}
        """,
        folder / "interactions.parquet",
    )
    if card.clean.min_rating is not None:
        facts["low_rated"] = _low_rated(connection, folder)
    if card.tables.negatives is not None:
        facts["negatives"] = _negatives(connection, folder)
    return facts


def _columns(connection: DuckDBPyConnection, table: str) -> list[str]:
    rows = connection.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = ? ORDER BY ordinal_position", [table]
    ).fetchall()
    return [name for (name,) in rows]


def _number_users(connection: DuckDBPyConnection) -> None:
    connection.execute(
        """
        CREATE TABLE user_numbers AS
        SELECT code, id, row_number() OVER (ORDER BY id) AS index
        FROM user_codes WHERE code IN (SELECT "user" FROM log)
        """
    )


def _number_items(connection: DuckDBPyConnection, card: Card) -> None:
    """Items with events, and items known only by other tables; not those whose events cleaning has dropped."""
    sources = []
    if card.tables.items is not None:
        sources.append("SELECT item FROM raw_items")
    if card.tables.links is not None:
        sources.append("SELECT item FROM raw_links")
    if card.tables.negatives is not None:
        # Not the items that the lists belong to: these are test targets, and to be known by that would tell them.
        sources.append("SELECT negative AS item FROM raw_negatives AS listed WHERE negative <> listed.item")
    only = f"WHERE id IN ({linked_ids(card)})" if card.clean.linked_items else ""
    known = " UNION ".join(sources) or "SELECT ''::VARCHAR AS item WHERE false"
    connection.execute(
        f"""
        CREATE TABLE item_numbers AS
        WITH known AS (SELECT DISTINCT item FROM ({known})),
        with_events AS (SELECT id, code FROM item_codes WHERE code IN (SELECT item FROM log)),
        chosen AS (
            SELECT id, code, id IN (SELECT item FROM known) AS described FROM with_events
            UNION ALL
            SELECT item, NULL, true FROM known WHERE item NOT IN (SELECT id FROM item_codes)
        )
        SELECT id, code, described, row_number() OVER (ORDER BY id) AS index FROM chosen {only}
        """
    )


def _side_tables(connection: DuckDBPyConnection, card: Card) -> dict[str, dict[str, int]]:
    """Reduce the tables of items, users and links to one row per id (the first), and triples to distinct ones."""
    facts: dict[str, dict[str, int]] = {}
    for name, key in (("items", "item"), ("users", "user"), ("links", "item")):
        if getattr(card.tables, name) is None:
            continue
        rows = _count(connection, f"raw_{name}")
        connection.execute(
            f'CREATE TABLE {name} AS SELECT * FROM raw_{name} QUALIFY row_number() OVER (PARTITION BY "{key}" ORDER BY row) = 1'
        )
        facts[name] = {"rows": rows, "repeated ids": rows - _count(connection, name)}
    if card.tables.graph is not None:
        rows = _count(connection, "raw_graph")
        connection.execute("CREATE TABLE triples AS SELECT DISTINCT head, relation, tail FROM raw_graph")
        facts["graph"] = {"rows": rows, "repeated triples": rows - _count(connection, "triples")}
    return facts


def _count(connection: DuckDBPyConnection, table: str) -> int:
    return int(one_row(connection, f"SELECT count(*) FROM {table}")[0])


def _graph(connection: DuckDBPyConnection, card: Card, folder: Path) -> dict[str, int]:
    """Write triples, entities and relations; leaves ``entity_of_item`` (item id, entity number) for the item table."""
    linked = card.tables.links is not None
    entities = "SELECT head AS id FROM triples UNION SELECT tail FROM triples" + (
        " UNION SELECT entity FROM links WHERE item IN (SELECT id FROM item_numbers)" if linked else ""
    )
    connection.execute(f"CREATE TABLE entities AS SELECT id, row_number() OVER (ORDER BY id) AS index FROM ({entities})")
    connection.execute(
        """
        CREATE TABLE relations AS
        SELECT id, row_number() OVER (ORDER BY id) AS index FROM (SELECT DISTINCT relation AS id FROM triples)
        """
    )
    source = "SELECT item, entity FROM links" if linked else "SELECT id AS item, id AS entity FROM item_numbers"
    connection.execute(
        f"""
        CREATE TABLE entity_of_item AS
        SELECT item, entities.index AS entity FROM ({source}) AS pairs JOIN entities ON entities.id = pairs.entity
        WHERE item IN (SELECT id FROM item_numbers)
        """
    )
    write_table(connection, "SELECT index, id FROM entities ORDER BY index", folder / "entities.parquet")
    write_table(connection, "SELECT index, id FROM relations ORDER BY index", folder / "relations.parquet")
    write_table(
        connection,
        """
        SELECT h.index AS head, relations.index AS relation, t.index AS tail
        FROM triples
        JOIN entities AS h ON h.id = triples.head
        JOIN relations ON relations.id = triples.relation
        JOIN entities AS t ON t.id = triples.tail
        ORDER BY 1, 2, 3
        """,
        folder / "graph.parquet",
    )
    return {
        "triples": _count(connection, "triples"),
        "entities": _count(connection, "entities"),
        "relations": _count(connection, "relations"),
        "linked items": _count(connection, "entity_of_item"),
    }


def _low_rated(connection: DuckDBPyConnection, folder: Path) -> int:
    """Write ``low_rated.parquet`` ("user", item), if there is any: pairs of users and items that stay, whose events do not."""
    connection.execute(
        """
        CREATE TABLE disliked AS
        SELECT u.index AS "user", i.index AS item
        FROM low_rated AS r JOIN user_numbers AS u ON u.code = r."user" JOIN item_numbers AS i ON i.code = r.item
        WHERE (r."user", r.item) NOT IN (SELECT ("user", item) FROM log)
        """
    )
    if pairs := _count(connection, "disliked"):
        write_table(connection, 'SELECT "user", item FROM disliked ORDER BY ALL', folder / LOW_RATED)
    return pairs


def _negatives(connection: DuckDBPyConnection, folder: Path) -> dict[str, int]:
    """Write ``negatives.parquet`` ("user", item, negative, place): those of events that are in the log, none twice.

    Returns how many rows there were, and what became of them: each is kept, repeated, or of one kind of unknown.
    """
    connection.execute(
        """
        CREATE TABLE judged_negatives AS
        SELECT u.index AS "user", i.index AS item, n.index AS negative, r.row,
            u.code IS NULL AS no_user,
            i.code IS NULL OR (u.code, i.code) NOT IN (SELECT ("user", item) FROM log) AS no_event
        FROM raw_negatives AS r
        LEFT JOIN user_numbers AS u ON u.id = r."user" LEFT JOIN item_numbers AS i ON i.id = r.item
        LEFT JOIN item_numbers AS n ON n.id = r.negative
        """
    )
    connection.execute(
        """
        CREATE TABLE listed AS
        SELECT "user", item, negative, min(row) AS row, count(*) AS times FROM judged_negatives
        WHERE NOT no_user AND NOT no_event AND negative IS NOT NULL GROUP BY ALL
        """
    )
    query = """
        SELECT "user", item, negative, row_number() OVER (PARTITION BY "user", item ORDER BY row) AS place FROM listed
        ORDER BY "user", item, place
    """
    write_table(connection, query, folder / "negatives.parquet")
    counts = one_row(
        connection,
        """
        SELECT count(*), (SELECT count(*) FROM listed), (SELECT count(DISTINCT ("user", item)) FROM listed),
            (SELECT coalesce(sum(times - 1), 0)::BIGINT FROM listed), count(*) FILTER (no_user),
            count(*) FILTER (NOT no_user AND no_event), count(*) FILTER (NOT no_user AND NOT no_event AND negative IS NULL)
        FROM judged_negatives
        """,
    )
    names = ("rows", "kept", "events", "repeated", "of unknown users", "of unknown events", "of unknown items")
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _described(connection: DuckDBPyConnection, card: Card, role: str, path: Path) -> dict[str, int]:
    """Write ``users.parquet`` or ``items.parquet``: index, id, features; for items also ``described`` and ``entity``."""
    table = card.tables.items if role == "item" else card.tables.users
    plural = f"{role}s"
    columns, joins = ["numbers.index", "numbers.id"], ""
    if role == "item":
        columns.append("numbers.described")
        if card.tables.graph is not None:
            columns.append("coalesce(entity_of_item.entity, 0) AS entity")
            joins += " LEFT JOIN entity_of_item ON entity_of_item.item = numbers.id"
    if table is not None:
        columns += [f"{plural}.{identifier(name)}" for name in table.features]
        joins += f' LEFT JOIN {plural} ON {plural}."{role}" = numbers.id'
    query = f"SELECT {', '.join(columns)} FROM {role}_numbers AS numbers{joins} ORDER BY numbers.index"
    write_table(connection, query, path)
    facts = {"rows": _count(connection, f"{role}_numbers")}
    if role == "item":
        facts["with events"] = _count(connection, "item_numbers WHERE code IS NOT NULL")
        facts["described"] = _count(connection, "item_numbers WHERE described")
    elif table is not None:
        facts["described"] = _count(connection, 'user_numbers WHERE id IN (SELECT "user" FROM users)')
    return facts
