"""The dataset card: a YAML file that says where raw logs are, how to read them and what to clean."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from benchbed.config import Document, Schema, check, problem_at, read_document
from benchbed.data.fields import RESERVED, Column, Extra, Feature, FieldName, Flags
from benchbed.data.readers import FORMS, READERS
from benchbed.errors import ConfigError, Problem, UnknownNameError
from benchbed.workspace import folders_of


class Table(Schema):
    """How one table of raw files is read.

    Attributes
    ----------
    reader
        Name of a reader.
    files
        File names or patterns (``2011-*.csv``), looked for under the raw folder, compressed or not. Several files are read in
        this order, those of one pattern in the order of their names.
    separator
        Between columns; one or more characters. Files without columns may say ``whitespace``: any run of blanks and tabs.
    encoding
        Any encoding that Python knows.
    header
        Whether the first row names the columns.
    quote
        The character around fields that hold separators or line ends; ``none`` where there is no such thing.
    """

    reader: str = "csv"
    files: tuple[str, ...] = Field(min_length=1)
    separator: str = Field(",", min_length=1)
    encoding: str = "utf-8"
    header: bool = True
    quote: str | None = '"'

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            codecs.lookup(value)
        except LookupError:
            raise ValueError(f"'{value}' is no encoding that Python knows (try utf-8, latin-1 or cp1252)") from None
        return value

    @field_validator("separator")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if "\n" in value or "\r" in value:
            raise ValueError("a separator cannot hold a line end")
        return value

    @field_validator("quote")
    @classmethod
    def _one_quote(cls, value: str | None) -> str | None:
        if value is None or value == "none":
            return None
        if len(value) != 1 or not value.isascii() or not value.isprintable():
            raise ValueError("the quote is one printable ASCII character, or none")
        return value

    @model_validator(mode="before")
    @classmethod
    def _formed(cls, values: Any) -> Any:
        form = FORMS.get(str(values.get("reader"))) if isinstance(values, dict) else None
        return values if form is None else form.fill(str(values["reader"]), cls.__name__.lower(), values)

    @model_validator(mode="after")
    def _addressable(self) -> Table:
        if self.reader in FORMS and not FORMS[self.reader].named:
            return self
        if self.separator == "whitespace":
            raise ValueError("separator: name the characters between columns; only files without columns take 'whitespace'")
        for role, column in self.sources():
            if self.header and isinstance(column, int):
                raise ValueError(f"{role}: with a header columns go by name, not by position {column}")
            if not self.header and isinstance(column, str):
                raise ValueError(f"{role}: without a header columns go by position from 0, not by the name '{column}'")
        if self.quote is not None and self.quote in self.separator:
            raise ValueError("the quote cannot be part of the separator")
        return self

    def sources(self) -> Iterator[tuple[str, Column]]:
        """Every (role, column of the raw file) that this table uses."""
        columns: Any = getattr(self, "columns", None)
        for role in type(columns).model_fields if columns is not None else ():
            value = getattr(columns, role)
            if role == "extra":
                yield from ((f"extra.{name}", extra.column) for name, extra in value.items() if extra.column is not None)
            elif value is not None:
                yield role, value


class InteractionColumns(Schema):
    """Roles of the columns of the log."""

    user: Column
    item: Column
    timestamp: Column | None = None
    rating: Column | None = None
    extra: dict[FieldName, Extra] = Field(default_factory=dict)

    @field_validator("extra")
    @classmethod
    def _free_names(cls, value: dict[str, Extra]) -> dict[str, Extra]:
        for name in value:
            if name in RESERVED:
                raise ValueError(f"'{name}' is taken; call this column otherwise")
        return value


class Interactions(Table):
    """The log.

    Attributes
    ----------
    timestamp_unit
        What the numbers of the timestamp column count since 1970. Stored as they are; ``fractional_seconds`` are stored as
        microseconds.
    timestamp_format
        For dates and times as text, in the notation of ``strptime`` (read as UTC); stored as seconds, or as microseconds where
        the format has fractions of a second.
    expanded
        Entries of ``files`` that hold sessions as all of their prefixes, each with a tab and the next item (reader
        ``sessions`` only).
    """

    columns: InteractionColumns
    timestamp_unit: Literal["seconds", "milliseconds", "microseconds", "fractional_seconds"] = "seconds"
    timestamp_format: str | None = None
    expanded: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _joinable(self) -> Interactions:
        if self.expanded and self.reader != "sessions":
            raise ValueError(f"expanded belongs to the reader sessions; with {self.reader} it would change nothing")
        for name in self.expanded:
            if name not in self.files:
                raise ValueError(f"expanded: '{name}' is no entry of files ({', '.join(self.files)})")
        if self.expanded and "\t" in self.separator:
            raise ValueError("separator: a tab stands before the next item of an expanded line, so it cannot divide the items")
        return self

    @model_validator(mode="after")
    def _one_way_to_tell_the_time(self) -> Interactions:
        told = [key for key in ("timestamp_unit", "timestamp_format") if key in self.model_fields_set and getattr(self, key)]
        if told and self.columns.timestamp is None:
            raise ValueError(f"{told[0]} would change nothing: columns names no timestamp")
        if len(told) > 1:
            raise ValueError("give timestamp_unit (for numbers) or timestamp_format (for dates as text), not both")
        return self

    @property
    def stored_unit(self) -> str | None:
        """Unit of the prepared timestamps, None without times."""
        if self.columns.timestamp is None:
            return None
        if self.timestamp_format is not None:
            return "microseconds" if any(f in self.timestamp_format for f in ("%f", "%g", "%n")) else "seconds"
        return "microseconds" if self.timestamp_unit == "fractional_seconds" else self.timestamp_unit


class ItemColumns(Schema):
    """The column of the item's id."""

    item: Column


class UserColumns(Schema):
    """The column of the user's id."""

    user: Column


class Described(Table):
    """A table with one row per item or user."""

    features: dict[FieldName, Feature] = Field(default_factory=dict)

    @field_validator("features")
    @classmethod
    def _free_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name in RESERVED:
                raise ValueError(f"'{name}' is taken; call this feature otherwise")
        return value

    def sources(self) -> Iterator[tuple[str, Column]]:
        """Every (role, column of the raw file); flags give one role per column."""
        yield from super().sources()
        for name, feature in self.features.items():
            if isinstance(feature, Flags):
                yield from ((f"features.{name}.{number}", column) for number, column in enumerate(feature.columns))
            else:
                yield f"features.{name}", feature.column


class Items(Described):
    """One row per item."""

    columns: ItemColumns


class Users(Described):
    """One row per user."""

    columns: UserColumns


class GraphColumns(Schema):
    """A triple."""

    head: Column
    relation: Column
    tail: Column


class GraphTable(Table):
    """Knowledge-graph triples."""

    columns: GraphColumns


class LinkColumns(Schema):
    """An item and its entity."""

    item: Column
    entity: Column


class Links(Table):
    """Which entity of the graph an item is. Without this table an item is the entity of the same id."""

    columns: LinkColumns


class NegativeColumns(Schema):
    """An event, by its user and item, and an item that it is to be told from."""

    user: Column
    item: Column
    negative: Column


class Negatives(Table):
    """Negatives that were published with a test set: for an event, the items among which its own is ranked."""

    columns: NegativeColumns


class Tables(Schema):
    """The tables of a dataset; only the log is required."""

    interactions: Interactions
    items: Items | None = None
    users: Users | None = None
    graph: GraphTable | None = None
    links: Links | None = None
    negatives: Negatives | None = None

    @model_validator(mode="after")
    def _linked(self) -> Tables:
        if self.links is not None and self.graph is None:
            raise ValueError("links without a graph would change nothing")
        return self

    def present(self) -> dict[str, Table]:
        """The tables that the card has, by name."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: table for name, table in found.items() if table is not None}


class KCore(Schema):
    """Every user keeps at least ``user`` events and every item at least ``item``, repeated until nothing is dropped."""

    user: int = Field(1, ge=1)
    item: int = Field(1, ge=1)


class Clean(Schema):
    """What is dropped, in this order.

    Attributes
    ----------
    linked_items
        Events of items that are no entity of the graph, and all else about such items.
    min_rating
        Events with a smaller rating.
    duplicates
        Which of several events of the same user and item stay.
    k_core
        Users and items outside of it.
    """

    linked_items: bool = False
    min_rating: float | None = None
    duplicates: Literal["keep", "first", "last"] = "keep"
    k_core: KCore | None = None


class Card(Schema):
    """A dataset card.

    Examples
    --------
    >>> log = {"files": ["log.csv"], "columns": {"user": "u", "item": "i"}}
    >>> card = Card(name="mine", tables={"interactions": log})
    >>> card.clean.duplicates, card.tables.interactions.stored_unit
    ('keep', None)
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)]
    title: str = ""
    description: str = ""
    homepage: str = ""
    licence: str = ""
    citation: str = ""
    simulate: dict[str, JsonValue] | None = None
    tables: Tables
    clean: Clean = Clean()
    max_rejected: float = Field(0.01, ge=0, le=1)

    DESCRIPTIVE: ClassVar[frozenset[str]] = frozenset({"name", "title", "description", "homepage", "licence", "citation"})

    @model_validator(mode="after")
    def _cleanable(self) -> Card:
        if self.clean.min_rating is not None and self.tables.interactions.columns.rating is None:
            raise ValueError("clean.min_rating needs a rating column in tables.interactions.columns")
        if self.clean.linked_items and self.tables.graph is None:
            raise ValueError("clean.linked_items needs tables.graph: without a graph no item is linked to it")
        return self

    def rules(self) -> dict[str, Any]:
        """All that decides what ``prepare`` does."""
        rules = self.model_dump(mode="json", exclude=set(self.DESCRIPTIVE))
        # Keys that came later and are not used are left out: fingerprints stay those from before there were any.
        if not self.tables.interactions.expanded:
            rules["tables"]["interactions"].pop("expanded")
        if self.tables.negatives is None:
            rules["tables"].pop("negatives")
        if not self.clean.linked_items:
            rules["clean"].pop("linked_items")
        return rules

    def meaning(self) -> dict[str, Any]:
        """All that decides the prepared rows, given the contents of the raw files (names of files do not)."""
        rules = self.rules()
        rules.pop("max_rejected")
        rules.pop("simulate")
        log = self.tables.interactions
        if log.expanded:
            rules["tables"]["interactions"]["expanded"] = [log.files.index(name) for name in log.expanded]
        for table in rules["tables"].values():
            if table is not None:
                table.pop("files")
        return rules


def known_cards() -> dict[str, Path]:
    """Every card that can be named, with its file."""
    found: dict[str, Path] = {}
    for folder in folders_of("datasets"):
        for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def find_card(name_or_path: str | Path) -> Path:
    """The file of a card: a path, a name in ``./datasets``, or the name of a shipped card.

    Raises
    ------
    UnknownNameError
        There is no such file and no card of that name.
    """
    text = str(name_or_path)
    path = Path(text).expanduser()
    if path.is_file():
        return path
    known = known_cards()
    if text not in known:
        raise UnknownNameError("dataset card", text, known)
    return known[text]


def load_card(name_or_path: str | Path) -> Card:
    """Find and read a card.

    Raises
    ------
    UnknownNameError
        There is no such card.
    ConfigError
        The card has mistakes; all of them are named.
    """
    card, problems = check_card(read_document(find_card(name_or_path)))
    if problems or card is None:
        raise ConfigError(problems)
    return card


def check_card(document: Document) -> tuple[Card | None, list[Problem]]:
    """Validate a card, its ``simulate`` block included; returns it (None when it has mistakes) and every mistake."""
    return check(document, Card, names={"tables.*.reader": READERS}, more=_more)


def _more(document: Document, card: Card | None) -> list[Problem]:
    """A name that is not the file's, and mistakes of the ``simulate`` block."""
    return [*_misnamed(document), *_simulated(document, card)]


def _misnamed(document: Document) -> list[Problem]:
    """In ``datasets/`` a card is found by its file, and what is prepared lies under its name: two of one name would collide."""
    path, name = Path(document.source).absolute(), document.values.get("name")
    if path.parent.name != "datasets" or not isinstance(name, str) or name == path.stem:
        return []
    message = (
        f"this is '{name}', and its file is datasets/{path.name}: benchmarks find the card by its file, and prepared data lie "
        "under its name. Call both the same"
    )
    return [problem_at(document, ("name",), message)]


def _simulated(document: Document, _card: Card | None) -> list[Problem]:
    """Mistakes of the ``simulate`` block, whose schema belongs to the simulator."""
    settings = document.values.get("simulate")
    if not isinstance(settings, dict):
        return []
    from benchbed.data.simulate import SimulateSpec

    places = {path[1:]: place for path, place in document.positions.items() if path[0:1] == ("simulate",)}
    problems = check(Document(settings, document.source, places), SimulateSpec)[1]
    return [replace(problem, key=f"simulate.{problem.key}".rstrip(".")) for problem in problems]
