"""Columns of raw files, and what a card makes of them: features of items and users, additional columns of the log."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from benchbed.config import Schema

Column = Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)]
"""A column of a raw file: its name where the file has a header, else its position counted from 0."""

FieldName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
RESERVED = frozenset({"index", "id", "entity", "described", "user", "item", "timestamp", "rating", "row"})
"""Column names of the prepared tables that no feature and no extra column may take."""


class Text(Schema):
    """Text for people to read, such as a title. Models do not see it."""

    kind: Literal["text"]
    column: Column


class Token(Schema):
    """One category per item or user."""

    kind: Literal["token"]
    column: Column


class TokenSequence(Schema):
    """Several categories in one column, divided by ``separator``."""

    kind: Literal["token_seq"]
    column: Column
    separator: str = Field(" ", min_length=1)


class Number(Schema):
    """A number. With ``bins`` models see it as that many categories of equal frequency; without, they do not see it."""

    kind: Literal["number"]
    column: Column
    bins: int | None = Field(None, ge=2, le=1000)


class Flags(Schema):
    """Several columns of 0 and 1 that together are one multi-valued category: column -> value."""

    kind: Literal["flags"]
    columns: dict[Column, str] = Field(min_length=1)


Feature = Annotated[Text | Token | TokenSequence | Number | Flags, Field(discriminator="kind")]


class Extra(Schema):
    """An additional column of the log, kept in ``interactions.parquet``; ``ties: column: NAME`` orders by it.

    ``kind: file`` has no column: it is the entry of ``files`` that the row came from, counted from 1.
    """

    column: Column | None = None
    kind: Literal["number", "text", "file"] = "number"

    @model_validator(mode="after")
    def _from_somewhere(self) -> Extra:
        if (self.kind == "file") == (self.column is not None):
            raise ValueError(
                "name the column" if self.column is None else "kind: file comes from no column; leave `column` out"
            )
        return self
