"""What the data itself says about leakage and fairness: ``audit.json`` of a dataset and of a split.

Shares lie between 0 and 1; None where there is nothing to divide by or no times. A split is audited when it is made, test part
included, before any model exists; afterwards nothing but the vault reads the test part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbed.data.card import Card
from benchbed.data.database import literal, one_row
from benchbed.errors import counted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MANY_REPEATS = 0.01
"""Above this share of targets that repeat the history the audit warns."""


def _one(connection: DuckDBPyConnection, query: str) -> Any:
    row = one_row(connection, query)
    return row[0] if len(row) == 1 else row


def audit_dataset(
    connection: DuckDBPyConnection,
    card: Card,
    folder: Path,
    steps: Sequence[Mapping[str, Any]],
    rows: Mapping[str, Mapping[str, int]],
    listed: Mapping[str, int],
    sides: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """Of the prepared tables in ``folder``: sizes, times, ties, repeats, what cleaning dropped, and warnings.

    ``listed`` says what became of the rows of the table of negatives, ``sides`` of those of the tables beside the log, both as
    in the manifest.
    """
    log = f"read_parquet({literal(str(folder / 'interactions.parquet'))})"
    unit = card.tables.interactions.stored_unit
    events, users, items, pairs = _one(
        connection, f'SELECT count(*), count(DISTINCT "user"), count(DISTINCT item), count(DISTINCT ("user", item)) FROM {log}'
    )
    lengths = f'(SELECT count(*) AS n FROM {log} GROUP BY "user")'
    shortest, median, longest = _one(connection, f"SELECT min(n), median(n), max(n) FROM {lengths}")
    found: dict[str, Any] = {
        "interactions": events,
        "users": users,
        "items": items,
        "density": events / (users * items),
        "events_per_user": {"least": shortest, "median": median, "most": longest},
        "repeated_pairs_share": (events - pairs) / events,
        "timestamp_unit": unit,
        "tied_events_share": None,
        "rejected": {name: count["rejected"] for name, count in rows.items()},
        "cleaning": list(steps),
        "repeated_ids": {name: table["repeated ids"] for name, table in sides.items() if "repeated ids" in table},
    }
    if unit is not None:
        distinct = _one(connection, f'SELECT count(*) FROM (SELECT DISTINCT "user", timestamp FROM {log})')
        found["tied_events_share"] = (events - distinct) / events
        found["first_time"], found["last_time"] = _one(connection, f"SELECT min(timestamp), max(timestamp) FROM {log}")
    if card.tables.negatives is not None:
        unknown = {name.replace(" ", "_"): count for name, count in listed.items() if name.startswith("of unknown")}
        found["negatives"] = _audit_negatives(connection, folder) | unknown
    if card.tables.graph is not None:
        found["graph"] = _audit_graph(connection, folder)
    return found | {"warnings": _dataset_warnings(found, card)}


def _audit_graph(connection: DuckDBPyConnection, folder: Path) -> dict[str, int]:
    """How much of the graph is about the items: a link that is spelt otherwise than the entities loses it silently."""
    triples, items = (f"read_parquet({literal(str(folder / name))})" for name in ("graph.parquet", "items.parquet"))
    counts = _one(
        connection,
        f"""
        SELECT (SELECT count(*) FROM {triples}),
            (SELECT count(*) FROM {triples} WHERE head IN (SELECT entity FROM {items} WHERE entity > 0)),
            (SELECT count(*) FROM {items}),
            (SELECT count(*) FROM {items} WHERE entity IN (SELECT head FROM {triples} UNION SELECT tail FROM {triples}))
        """,
    )
    return {name: int(n) for name, n in zip(("triples", "of_items", "items", "items_in_it"), counts, strict=True)}


def _audit_negatives(connection: DuckDBPyConnection, folder: Path) -> dict[str, int]:
    """Of the negatives that came with the data: how many are none, since the user has an event with the item."""
    log, listed = (f"read_parquet({literal(str(folder / name))})" for name in ("interactions.parquet", "negatives.parquet"))
    names = ("negatives", "events", "fewest", "most", "the_event_itself", "other_events", "events_with_other_events")
    counts = _one(
        connection,
        f"""
        WITH judged AS (
            SELECT "user", item, negative = item AS itself,
                negative <> item AND ("user", negative) IN (SELECT ("user", item) FROM {log}) AS other
            FROM {listed}
        ),
        per_event AS (
            SELECT count(*) AS n, count(*) FILTER (itself) AS itself, count(*) FILTER (other) AS other
            FROM judged GROUP BY "user", item
        )
        SELECT coalesce(sum(n), 0)::BIGINT, count(*), min(n), max(n), coalesce(sum(itself), 0)::BIGINT,
            coalesce(sum(other), 0)::BIGINT, count(*) FILTER (other > 0) FROM per_event
        """,
    )
    return {name: int(count or 0) for name, count in zip(names, counts, strict=True)}


_LATEST = {"seconds": 4_102_444_800, "milliseconds": 4_102_444_800_000, "microseconds": 4_102_444_800_000_000}


def _dataset_warnings(found: Mapping[str, Any], card: Card) -> list[str]:
    told = []
    unit = found["timestamp_unit"]
    if unit is None:
        told.append(
            "The log has no times: a split must order events by `ties: file` or `ties: column: NAME`. Only click_through, "
            "which divides rows at random, needs no order, and a split that names its test rows may leave it to chance "
            "(`ties: hash`), without models of the order."
        )
    elif found["last_time"] > _LATEST[unit]:
        told.append(
            f"The latest time, {found['last_time']} {unit}, lies beyond the year 2100: check timestamp_unit in the card."
        )
    tied = found["tied_events_share"]
    if tied is not None and tied > 0.01:
        told.append(
            f"{100 * tied:.1f} % of the events share their time with an earlier event of the same user; their order is decided "
            "by the `ties` of the split."
        )
    repeated = found["repeated_pairs_share"]
    if repeated > MANY_REPEATS:
        told.append(
            f"{100 * repeated:.1f} % of the events repeat an earlier pair of user and item: consider `seen_items: keep`."
        )
    rejected = sum(found["rejected"].values())
    if rejected:
        told.append(f"{counted(rejected, 'raw row')} could not be read; rejected.parquet gives file, line and reason.")
    told += [
        f"tables.{name}: {counted(repeated, 'row')} with an id that an earlier row has; the first row of each counts."
        for name, repeated in found["repeated_ids"].items()
        if repeated
    ]
    if (shipped := found.get("negatives")) is not None:
        told.append(f"{counted(shipped['negatives'], 'negative')} came with {counted(shipped['events'], 'event')}.")
        told += _left_out(shipped)
        if shipped["other_events"] or shipped["the_event_itself"]:
            told.append(
                f"{shipped['other_events']} of them are items of other events of the same user (in the lists of "
                f"{shipped['events_with_other_events']} events), and {shipped['the_event_itself']} lists hold the event's own "
                "item: `evaluation.flawed_negatives` says whether these are dropped."
            )
    if (graph := found.get("graph")) is not None:
        told.append(
            f"{graph['items_in_it']} of {graph['items']} items are entities of the graph, {graph['of_items']} of its "
            f"{graph['triples']} triples have an item as head."
        )
        if graph["items_in_it"] == 0:
            told.append("The graph says nothing about any item: are entities spelt alike in tables.graph and tables.links?")
    if card.clean.k_core is not None:
        before, after = found["cleaning"][-2], found["cleaning"][-1]
        told.append(
            f"The k-core dropped {counted(before['interactions'] - after['interactions'], 'event')}, "
            f"{counted(before['users'] - after['users'], 'user')} and {counted(before['items'] - after['items'], 'item')}; "
            "it was computed before any split, held-out users included."
        )
    return told


def _left_out(shipped: Mapping[str, int]) -> list[str]:
    """Negatives that stand in the files and belong to nothing in the data."""
    kinds = (
        ("of_unknown_users", "of users without events in the log"),
        ("of_unknown_events", "of events that are not in the log"),
        ("of_unknown_items", "that are no item of the data"),
    )
    parts = [f"{shipped[name]} {words}" for name, words in kinds if shipped.get(name)]
    return [f"Left out are negatives of the files that belong to nothing in the data: {', '.join(parts)}."] if parts else []


def audit_split(
    connection: DuckDBPyConnection, *, timed: bool, disjoint: bool, k_core_item: int | None, edges: Mapping[str, int]
) -> dict[str, Any]:
    """Of a split whose rows are in the tables ``events``, ``train``, ``valid``, ``test`` and ``vocabulary``.

    ``edges`` has the moment at which a part begins for everybody, where there is one; a user's cut is that moment then.
    """
    users, short = _one(
        connection, 'SELECT count(*), count(*) FILTER (length < 3) FROM (SELECT DISTINCT "user", length FROM events)'
    )
    found: dict[str, Any] = {
        "users": users,
        "training_users": _one(connection, 'SELECT count(DISTINCT "user") FROM train'),
        "training_events": _one(connection, "SELECT count(*) FROM train"),
        "training_items": _one(connection, "SELECT count(*) FROM vocabulary WHERE count > 0"),
        "catalogue_items": _one(connection, "SELECT count(*) FROM vocabulary"),
        "users_shorter_than_3": short,
    }
    for part in ("valid", "test"):
        found[part] = _audit_part(connection, part, timed=timed, edge=edges.get(part))
    shared = """
        SELECT
            (SELECT count(*) FROM (SELECT "user" FROM train INTERSECT SELECT "user" FROM valid)),
            (SELECT count(*) FROM (SELECT "user" FROM train INTERSECT SELECT "user" FROM test)),
            (SELECT count(*) FROM (SELECT "user" FROM valid INTERSECT SELECT "user" FROM test))
    """
    names = ("train and valid", "train and test", "valid and test")
    found["shared_users"] = dict(zip(names, _one(connection, shared), strict=True))
    if disjoint and any(found["shared_users"].values()):  # pragma: no cover - would be a bug of the split
        raise AssertionError(f"user sets overlap: {found['shared_users']}")
    if k_core_item is not None:
        found["k_core_items_short_in_training"] = _one(
            connection,
            f"""
            SELECT count(*) FROM (SELECT DISTINCT item FROM events) AS present
            LEFT JOIN (SELECT item, count(*) AS n FROM train GROUP BY item) AS trained USING (item)
            WHERE coalesce(n, 0) < {k_core_item}
            """,
        )
    return found | {"warnings": _split_warnings(found)}


def audit_listed(connection: DuckDBPyConnection) -> dict[str, int]:
    """Of the negatives that a split lists for its test cases, in ``listed_test``; counts of negatives unless said otherwise."""
    names = (
        *(
            "cases",
            "cases_without",
            "cases_without_sound",
            "negatives",
            "fewest",
            "most",
            "target_itself",
            "cases_with_target_itself",
        ),
        *("in_history", "cases_with_some_in_history", "without_training_event", "of_events_not_tested"),
    )
    counts = _one(
        connection,
        """
        WITH judged AS (
            SELECT "user", ("user", item) IN (SELECT ("user", item) FROM test WHERE target) AS itself,
                ("user", item) IN (SELECT ("user", item) FROM test WHERE NOT target) AS seen,
                item NOT IN (SELECT item FROM vocabulary WHERE count > 0) AS unknown
            FROM listed_test
        ),
        per_case AS (
            SELECT count(judged."user") AS n, count(*) FILTER (itself) AS itself, count(*) FILTER (seen) AS seen,
                count(*) FILTER (unknown) AS unknown, count(*) FILTER (NOT itself AND NOT seen) AS sound
            FROM (SELECT DISTINCT "user" FROM test) AS cases LEFT JOIN judged USING ("user") GROUP BY cases."user"
        )
        SELECT count(*), count(*) FILTER (n = 0), count(*) FILTER (sound = 0), sum(n), min(n), max(n), sum(itself),
            count(*) FILTER (itself > 0), sum(seen), count(*) FILTER (seen > 0), sum(unknown),
            (SELECT count(*) FROM negatives ANTI JOIN (SELECT "user", item FROM test WHERE target) USING ("user", item))
        FROM per_case
        """,
    )
    return {name: int(count or 0) for name, count in zip(names, counts, strict=True)}


def listed_warnings(listed: Mapping[str, int]) -> list[str]:
    """What :func:`audit_listed` found that takes cases away from ``negatives: shipped``, or that is of no use to it."""
    told = []
    if unused := listed["of_events_not_tested"]:
        told.append(f"Not used: {counted(unused, 'shipped negative')} of events that this split does not test.")
    if without := listed["cases_without"]:
        told.append(
            f"Without shipped negatives, and left out by `negatives: shipped`: {without} of "
            f"{counted(listed['cases'], 'test case')}."
        )
    if emptied := listed["cases_without_sound"] - without:
        told.append(
            f"Of {listed['cases']} test cases {emptied}{' more' if without else ''} have none that is sound, only targets and "
            "items of the history: `flawed_negatives: drop` leaves them out."
        )
    return told


def _audit_part(connection: DuckDBPyConnection, part: str, *, timed: bool, edge: int | None) -> dict[str, Any]:
    cases = _one(connection, f'SELECT count(DISTINCT "user") FROM {part}')
    targets, unknown, repeats = _one(
        connection,
        f"""
        SELECT count(*), count(*) FILTER (item NOT IN (SELECT item FROM vocabulary WHERE count > 0)),
            count(*) FILTER (("user", item) IN (SELECT ("user", item) FROM {part} WHERE NOT target))
        FROM {part} WHERE target
        """,
    )
    found: dict[str, Any] = {
        "cases": cases,
        "history_events": _one(connection, f"SELECT count(*) FROM {part} WHERE NOT target"),
        "targets": targets,
        "unknown_targets_share": unknown / targets if targets else None,
        "repeated_targets_share": repeats / targets if targets else None,
        "cuts_inside_a_tie_share": None,
        "training_events_after_cut_share": None,
    }
    if timed and cases:
        cuts = f"""
            SELECT max(timestamp) FILTER (NOT target) AS cut, min(timestamp) FILTER (target) AS next FROM {part} GROUP BY "user"
        """
        found["cuts_inside_a_tie_share"] = _one(connection, f"SELECT avg((cut = next)::INTEGER) FROM ({cuts})")
        if edge is not None:  # what is older than the part was known when it began, however long ago a user was there
            cuts = f"SELECT {edge - 1} AS cut"
        found["training_events_after_cut_share"] = _one(
            connection,
            f"""
            WITH counted AS (SELECT timestamp, max(place) AS place FROM
                (SELECT timestamp, row_number() OVER (ORDER BY timestamp) AS place FROM train) GROUP BY timestamp)
            SELECT 1 - avg(coalesce(place, 0)) / (SELECT count(*) FROM train)
            FROM ({cuts}) AS cuts ASOF LEFT JOIN counted ON cuts.cut >= counted.timestamp
            """,
        )
    return found


def _split_warnings(found: Mapping[str, Any]) -> list[str]:
    told = []
    for part, name in (("valid", "validation"), ("test", "test")):
        facts = found[part]
        if facts["cases"] == 0:
            told.append(f"There are no {name} cases.")
            continue
        if facts["repeated_targets_share"] > MANY_REPEATS:
            told.append(
                f"{100 * facts['repeated_targets_share']:.1f} % of the {name} targets repeat the history: "
                "`seen_items: exclude` would remove them; sessions and listening want `keep`."
            )
        if (tied := facts["cuts_inside_a_tie_share"]) is not None and tied > 0.01:
            told.append(f"{100 * tied:.1f} % of the {name} cuts fall between events of the same time.")
        if (later := facts["training_events_after_cut_share"]) is not None and later > 0:
            told.append(
                f"{100 * later:.1f} % of the training events are later than a {name} user's cut, on average over the users."
            )
        if facts["unknown_targets_share"] > MANY_REPEATS:
            told.append(f"{100 * facts['unknown_targets_share']:.1f} % of the {name} targets have no training event.")
    if short := found.get("k_core_items_short_in_training"):
        told.append(
            f"{counted(short, 'item is', 'items are')} in the k-core only through events of held-out users: "
            "with training events alone they would have been dropped."
        )
    return told
