"""What all splits share: the order of events, the vocabulary, the files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from benchbed.data.database import identifier, literal
from benchbed.data.split.spec import SplitSpec
from benchbed.errors import DataError, nearest

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SEPARATOR = "\x1f"
"""Stands between the parts of a hashed key, so that ("1", "23") and ("12", "3") differ."""


def keyed(seed: int, *columns: str) -> str:
    """SQL of an MD5 over the seed and some text columns: a reproducible order that knows nothing of the data.

    Examples
    --------
    >>> keyed(7, "u.id")
    "md5(concat_ws(chr(31), '7', u.id))"
    """
    return f"md5(concat_ws(chr({ord(SEPARATOR)}), '{seed}', {', '.join(columns)}))"


class Split(ABC):
    """One kind of split.

    A split makes three views of ``events`` ("user", item, timestamp where there are times, row, position from 1 and length of
    the user's sequence): ``train``, ``valid`` and ``test``. The latter two also have ``target``, true for what is to be
    predicted and false for the history.
    """

    kind: ClassVar[str]
    disjoint: ClassVar[bool]
    """Whether no user is in two parts."""
    labelled: ClassVar[bool] = False
    """Whether there is a view ``labelled`` too ("user", item, label 0 or 1): training rows; the catalogue is all items then."""
    in_time: ClassVar[bool] = True
    """Whether the events of a history come before the targets."""

    def __init__(self, spec: SplitSpec, seed: int, unit: str | None = None) -> None:
        """``unit`` is that of the timestamps; None without times."""
        self.spec, self.seed, self.unit = spec, seed, unit
        self.edges: dict[str, int] = {}
        """The moment at which a part begins for everybody, where it is one and the same; known after :meth:`divide`."""
        self.low_rated = False
        """Whether there is a table ``low_rated`` ("user", item): pairs that cleaning has dropped, and that are no negatives."""
        self.listed: tuple[str, ...] = ()
        """Parts whose cases list negatives: views ``listed_valid``, ``listed_test`` ("user", item, place); known likewise."""

    @property
    def at_random(self) -> bool:
        """Whether ``ties: hash`` may order events that have no times."""
        return not self.in_time

    def without_times(self) -> DataError | None:
        """What is wrong with a log without times, where the split divides by time.

        Asked before events are ordered: what to do about their order would be no help.
        """
        return None

    @abstractmethod
    def divide(self, connection: DuckDBPyConnection) -> dict[str, int]:
        """Make ``train``, ``valid`` and ``test``; returns counts to be kept in the manifest."""

    def warnings(self, counts: dict[str, int]) -> list[str]:
        """What the counts of :meth:`divide` should tell whoever reads the audit."""
        return []


def order_events(
    connection: DuckDBPyConnection, ties: str, seed: int, columns: dict[str, str], *, at_random: bool = False
) -> None:
    """Make ``events`` from the views ``interactions``, ``users`` and ``items``: every user's events, oldest first.

    Parameters
    ----------
    ties
        Of the split: ``hash``, ``file`` or ``column: NAME``.
    columns
        Type of each column of ``interactions``.
    at_random
        Without times ``ties: hash`` puts the events of a user into a random order, instead of being refused.

    Raises
    ------
    DataError
        There are no times and ties are not told otherwise, or the column is absent or text.
    """
    timed = "timestamp" in columns
    keys = ["e.timestamp"] if timed else []
    hashed = keyed(seed, "u.id", "i.id")
    if ties == "file":
        keys.append("e.row")
    elif ties == "hash":
        if not timed and not at_random:
            raise DataError(
                "This dataset has no timestamps, so nothing says which event of a user came first.",
                advice="Set `ties: file` in the split block where the log is in order, or `ties: 'column: NAME'`. Where the "
                "split names its test rows (`test: 'column: NAME'`), `ties: hash` leaves the others' order to chance: say it.",
            )
        keys.append(hashed)
    else:
        name = ties.partition(":")[2].strip()
        keys += [f"e.{identifier(numeric_column(name, columns, 'orders ties by'))}", hashed]
    connection.execute(
        f"""
        CREATE TABLE events AS
        SELECT e."user", e.item, e.row, {"e.timestamp," if timed else ""}
            row_number() OVER (PARTITION BY e."user" ORDER BY {", ".join(keys)}) AS position,
            count(*) OVER (PARTITION BY e."user") AS length
        FROM interactions AS e JOIN users AS u ON u.index = e."user" JOIN items AS i ON i.index = e.item
        """
    )


def numeric_column(name: str, columns: dict[str, str], use: str) -> str:
    """The name of an additional column of numbers.

    Raises
    ------
    DataError
        There is no such column, or it is text; ``use`` says what the split does with it.
    """
    extra = [c for c in columns if c not in ("user", "item", "timestamp", "row")]  # row: the place in the log, no column of it
    if name not in extra:
        close = nearest(name, extra)
        there = ", ".join(extra) or "none but users, items and times"
        raise DataError(
            f"The split {use} the column '{name}', which the prepared log does not have (it has {there}).",
            advice=f"Did you mean '{close}'?" if close else "Name it in the card under tables.interactions.columns.extra.",
        )
    if columns[name] == "VARCHAR":
        raise DataError(
            f"The split {use} the column '{name}', which is text: '10' would come before '9'.",
            advice=f"Declare it in the card as extra: {{{name}: {{column: ..., kind: number}}}}.",
        )
    return name


def training_rows(ties: str, seed: int, *, timed: bool) -> str:
    """SQL: the training events, sequence after sequence, in the order in which the sequences begin.

    Sequences that begin at the same time stand in the order of the log where the split trusts it (``ties: file``), else in that
    of a hash. Without times the order of the log is that of the beginnings.
    """
    starts = [f'min(train.{name}) OVER (PARTITION BY train."user")' for name in ("timestamp", "row")]
    keys = ([starts[0]] if timed else []) + ([starts[1]] if ties == "file" else [keyed(seed, "u.id")])
    return f"""
        SELECT train."user", train.item{", train.timestamp" if timed else ""}
        FROM train JOIN users AS u ON u.index = train."user" ORDER BY {", ".join(keys)}, train."user", train.position
    """


def case_rows(part: str, *, timed: bool, listed: bool) -> str:
    """SQL: the rows of the cases of a part, user after user: the history, oldest first, then targets, then listed negatives.

    The column ``negative`` is there only where negatives are listed.
    """
    time = ", timestamp" if timed else ""
    if not listed:
        return f'SELECT "user", item{time}, target FROM {part} ORDER BY "user", position'
    return f"""
        SELECT "user", item{time}, target, negative
        FROM (
            SELECT "user", item{time}, target, false AS negative, target::INTEGER AS turn, position AS place FROM {part}
            UNION ALL BY NAME
            SELECT "user", item, false AS target, true AS negative, 2 AS turn, place FROM listed_{part}
        )
        ORDER BY "user", turn, place
    """


def make_vocabulary(connection: DuckDBPyConnection, seed: int, *, every_item: bool = False) -> None:
    """Make ``vocabulary`` (index, item, id, count): items of ``train`` by falling count, then items known by side tables only.

    ``index`` is the model index, from 1. Ties between counts follow a hash of seed and raw id. With ``every_item`` the second
    group is all other items.
    """
    connection.execute(
        f"""
        CREATE TABLE vocabulary AS
        WITH counts AS (SELECT item, count(*) AS n FROM train GROUP BY item)
        SELECT row_number() OVER (ORDER BY coalesce(n, 0) DESC, {keyed(seed, "i.id")}) AS index, i.index AS item, i.id,
            coalesce(n, 0) AS count
        FROM items AS i LEFT JOIN counts ON counts.item = i.index
        WHERE n IS NOT NULL OR i.described OR {str(every_item).lower()}
        """
    )


def view(connection: DuckDBPyConnection, name: str, path: str) -> None:
    """A Parquet file under a name."""
    connection.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({literal(path)})")
