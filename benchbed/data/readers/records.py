"""Divides text into records, by array arithmetic on blocks of bytes: no parser state per character, no loop over rows.

A record ends at a line end that no quoted field holds. A quote opens a field only at the field's start, as in every CSV
dialect; elsewhere it is an ordinary character. Line numbers count physical lines from 1.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchbed.errors import DataError

UNDECODABLE = "\ufdd0"
"""Stands for bytes that the encoding does not know: a code point that Unicode reserves for uses inside a program."""

LONGEST_RECORD = 16 * 2**20
SCHEMA = pa.schema(
    [("line", pa.int64()), ("span", pa.int32()), ("text", pa.string()), ("unclosed", pa.bool_()), ("undecodable", pa.bool_())]
)

_LINE_END = ord("\n")
Positions = NDArray[np.int64]


def _mark(error: UnicodeError) -> tuple[str, int]:
    end = getattr(error, "end", None)
    if end is None:  # pragma: no cover - every decoding error has an end
        raise error
    return UNDECODABLE, int(end)


codecs.register_error("benchbed.mark", _mark)


def decoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The same text as UTF-8, without byte order mark; what cannot be decoded becomes :data:`UNDECODABLE`."""
    decoder = codecs.getincrementaldecoder(encoding)(errors="benchbed.mark")
    first = True
    for chunk in chunks:
        text = decoder.decode(chunk)
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        yield text.encode("utf-8", errors="surrogatepass")
    yield decoder.decode(b"", True).encode("utf-8", errors="surrogatepass")


@dataclass
class Splitter:
    """Divides blocks of UTF-8 into records.

    Parameters
    ----------
    separator, quote
        As UTF-8. Without a quote every line is a record.
    marker
        Replaces separators outside of quotes when there is a quote, so that a plain split finds the fields. As long as the
        separator.
    source
        Name of the file, for messages.
    """

    separator: bytes
    quote: int | None
    marker: bytes
    source: str

    def records(self, blocks: Iterable[bytes]) -> Iterator[pa.RecordBatch]:
        """Batches of :data:`SCHEMA`; the text of a record keeps its line end."""
        line, rest = 1, b""
        for block in blocks:
            block = rest + block
            bounds, marked = self._bounds(block)
            if len(bounds) == 0:
                rest = block
                if len(rest) > LONGEST_RECORD:
                    raise self._too_long(line)
                continue
            rest = block[bounds[-1] :]
            batch = self._batch(marked, bounds, line, unclosed=False)
            line += int(batch.column("span").to_numpy().sum())
            yield batch
        if rest:
            bounds, marked = self._bounds(rest if rest.endswith(b"\n") else rest + b"\n")
            unclosed = len(bounds) == 0
            yield self._batch(marked, np.array([len(marked)]) if unclosed else bounds, line, unclosed=unclosed)

    def _bounds(self, block: bytes) -> tuple[Positions, bytes]:
        """Where records end (one past the line end), and the block with its separators marked."""
        characters = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(characters == _LINE_END)
        if self.quote is None:
            return ends + 1, block
        quotes = np.flatnonzero(characters == self.quote)
        separators = _occurrences(block, characters, self.separator)
        if len(quotes):
            quotes = self._structural(quotes, characters, separators)
            ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
            separators = separators[np.searchsorted(quotes, separators) % 2 == 0]
        marked = characters.copy()
        for offset, byte in enumerate(self.marker):
            marked[separators + offset] = byte
        return ends + 1, marked.tobytes()

    def _structural(self, quotes: Positions, characters: NDArray[np.uint8], separators: Positions) -> Positions:
        """The quotes that open or close a field (or stand doubled inside one)."""
        before = characters[np.maximum(quotes - 1, 0)]
        at_start = (quotes == 0) | (before == _LINE_END)
        if len(self.separator) == 1:
            at_start |= before == self.separator[0]
        elif len(separators):
            place = np.searchsorted(separators, quotes) - 1
            at_start |= (place >= 0) & (separators[place] + len(self.separator) == quotes)
        doubled = np.concatenate([[False], np.diff(quotes) == 1])
        if (at_start | doubled)[::2].all():
            return quotes
        # Somewhere a quote stands inside an unquoted field. Rare: go through the quotes of this block one by one.
        kept: list[int] = []
        for position, opens in zip(quotes.tolist(), at_start.tolist(), strict=True):
            if len(kept) % 2 or opens or (kept and kept[-1] == position - 1):
                kept.append(position)
        return np.array(kept, dtype=np.int64)

    def _batch(self, block: bytes, bounds: Positions, line: int, *, unclosed: bool) -> pa.RecordBatch:
        offsets = np.concatenate([[0], bounds]).astype(np.int32)
        count = len(bounds)
        if self.quote is None:
            lines, spans = np.arange(line, line + count), np.ones(count, np.int32)
        else:
            physical = np.flatnonzero(np.frombuffer(block, np.uint8) == _LINE_END)
            before = np.searchsorted(physical, offsets)
            spans = np.diff(before).astype(np.int32)
            lines = line + before[:-1]
        text = pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(offsets), pa.py_buffer(block)])
        # Looked for once a block: hardly any has one, and then each record need not be searched.
        flags = [pa.array(np.full(count, flag)) for flag in (unclosed, UNDECODABLE.encode() in block)]
        return pa.record_batch([pa.array(lines, pa.int64()), pa.array(spans), text, *flags], schema=SCHEMA)

    def _too_long(self, line: int) -> DataError:
        return DataError(
            f"{self.source}:{line}: this row is longer than {LONGEST_RECORD // 2**20} MiB.",
            advice="Probably a quoted field is never closed: check 'quote' and 'separator' in the card.",
        )


def _occurrences(block: bytes, characters: NDArray[np.uint8], wanted: bytes) -> Positions:
    """Where ``wanted`` stands, from the left, without overlaps."""
    found = np.flatnonzero(characters[: len(characters) - len(wanted) + 1] == wanted[0])
    for offset in range(1, len(wanted)):
        found = found[characters[found + offset] == wanted[offset]]
    if len(wanted) > 1 and len(found) > 1 and (np.diff(found) < len(wanted)).any():
        kept: list[int] = []
        for position in found.tolist():
            if not kept or position - kept[-1] >= len(wanted):
                kept.append(position)
        found = np.array(kept, dtype=np.int64)
    return found
