"""Readers: from a raw file to rows of text, with line numbers. One file per format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchbed.errors import UnknownNameError

if TYPE_CHECKING:
    from benchbed.data.readers.base import Reader

READERS: dict[str, str] = {
    "csv": "columns divided by a separator of one or more characters, quoted or not, compressed or not",
    "sequences": "a log with one line a user: user item item ..., oldest first",
    "sessions": "a log with one line a session: item item ..., or all of its prefixes each with the next item",
    "attributes": "a JSON object of lists, item -> attributes (or user -> attributes)",
    "ncf": "negatives of test events, one line an event: (user,item), then items, divided by tabs",
    "recbole": "RecBole's atomic files: columns divided by tabs, under a header that types them, such as user_id:token",
}
"""Every reader with its meaning in words. The reader ``NAME`` is the function ``read`` of ``benchbed.data.readers.NAME``."""


@dataclass(frozen=True)
class Form:
    """What the format of a reader gives, and what it takes from the card.

    Attributes
    ----------
    tables
        Those it can read.
    columns
        Role -> column, for every role that it can fill; features may name the columns too.
    fixed
        Keys of the table whose value is given by the format.
    usual
        Keys of the table with another default than a table of columns has.
    feature
        Keys of each feature whose value is given by the format.
    named
        The files have a header: ``columns`` are those that the format usually has, and the card may name others.
    """

    tables: tuple[str, ...]
    columns: tuple[Mapping[str, str], ...]
    fixed: Mapping[str, Any]
    usual: Mapping[str, Any] = field(default_factory=dict)
    feature: Mapping[str, Any] = field(default_factory=dict)
    named: bool = False

    def fill(self, reader: str, table: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The keys of a table, with those that follow from the format.

        Raises
        ------
        ValueError
            This table cannot be read so, or a key says something else than the format.
        """
        if table not in self.tables:
            raise ValueError(f"the reader {reader} is for {' and '.join(self.tables)}, not for {table}")
        values = {**self.usual, **given}
        self._fix(reader, values, self.fixed)
        columns = self.columns[self.tables.index(table)]
        chosen = dict(values["columns"]) if isinstance(values.get("columns"), dict) else {}
        extra = chosen.pop("extra", None)
        for role, column in chosen.items() if not self.named else ():
            if columns.get(role) != column:
                gives = ", ".join(f"{known}: {name}" for known, name in columns.items())
                raise ValueError(f"columns.{role}: the reader {reader} gives {{{gives}}} and nothing else; leave `columns` out")
        values["columns"] = {**columns, **chosen} | ({} if extra is None else {"extra": extra})
        for name, feature in dict(values.get("features") or {}).items():
            if isinstance(feature, dict):
                values["features"] = {**values["features"], name: self._fix(reader, {**feature}, self.feature)}
        return values

    def _fix(self, reader: str, values: dict[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
        for key, value in fixed.items():
            if values.setdefault(key, value) != value:
                raise ValueError(f"{key}: the reader {reader} has no such choice; leave it out")
        return values


FORMS: dict[str, Form] = {
    "sequences": Form(
        ("interactions",), ({"user": "user", "item": "item"},), {"header": False, "quote": None}, {"separator": "whitespace"}
    ),
    "sessions": Form(
        ("interactions",), ({"user": "session", "item": "item"},), {"header": False, "quote": None}, {"separator": "whitespace"}
    ),
    "attributes": Form(
        ("items", "users"),
        ({"item": "key"}, {"user": "key"}),
        {"header": False, "quote": None, "separator": ","},
        feature={"kind": "token_seq", "column": "values", "separator": "\x1f"},
    ),
    "ncf": Form(
        ("negatives",),
        ({"user": "user", "item": "item", "negative": "negative"},),
        {"header": False, "quote": None, "separator": "\t"},
    ),
    "recbole": Form(
        ("interactions", "items", "users", "graphtable", "links"),
        (
            {"user": "user_id", "item": "item_id", "timestamp": "timestamp"},
            {"item": "item_id"},
            {"user": "user_id"},
            {"head": "head_id", "relation": "relation_id", "tail": "tail_id"},
            {"item": "item_id", "entity": "entity_id"},
        ),
        {"header": True, "quote": None},
        {"separator": "\t"},
        named=True,
    ),
}
"""Readers whose format says much of what a card otherwise must: those of files without columns, and of typed headers."""


def reader(name: str) -> Reader:
    """The function of a reader.

    Raises
    ------
    UnknownNameError
        No reader has that name.
    """
    if name not in READERS:
        raise UnknownNameError("reader", name, READERS)
    found: Reader = import_module(f"benchbed.data.readers.{name}").read
    return found
