"""Readers: from a raw file to rows of text, with line numbers. One file per format."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchbed.errors import UnknownNameError

if TYPE_CHECKING:
    from benchbed.data.readers.base import Reader

READERS: dict[str, str] = {
    "csv": "columns divided by a separator of one or more characters, quoted or not, compressed or not",
}
"""Every reader with its meaning in words. The reader ``NAME`` is the function ``read`` of ``benchbed.data.readers.NAME``."""


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
