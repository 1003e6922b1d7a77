from __future__ import annotations

import csv as python_csv
import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from benchbed.data import raw_files
from benchbed.data.card import Card
from benchbed.data.database import database
from benchbed.data.raw_files import RawFile
from benchbed.data.readers.csv import read
from benchbed.errors import DataError


def table(width: int, **options: Any):
    extra = {f"c{n}": {"column": n, "kind": "text"} for n in range(2, width)}
    log = {"files": ["x"], "header": False, "columns": {"user": 0, "item": 1, "extra": extra}, **options}
    return Card.model_validate({"name": "x", "tables": {"interactions": log}}).tables.interactions


def rows_of(path: Path, table: Any) -> list[tuple[Any, ...]]:
    """(line, span, flaw, raw where there is a flaw, fields...) of every row, in the order of the file."""
    scratch = path.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    fields = ", ".join(f"c{n}" for n, _ in enumerate(table.sources()))
    with database(scratch) as connection, read(connection, RawFile(path, path.parent), table) as rows:
        query = (
            f"SELECT line, span, flaw, CASE WHEN flaw IS NOT NULL THEN {rows.raw} END, {fields} FROM ({rows.sql}) ORDER BY line"
        )
        return connection.execute(query).fetchall()


def fields_of(path: Path, table: Any) -> list[tuple[Any, ...]]:
    found = rows_of(path, table)
    assert [row[2] for row in found] == [None] * len(found)
    return [row[4:] for row in found]


def write(folder: Path, content: bytes | str) -> Path:
    path = folder / "x"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("separator", [",", "\t", "|", "::", ":::", " ", "\x1f", "; "])
@pytest.mark.parametrize("quote", [None, '"'])
def test_any_separator_divides_with_and_without_quotes(raw, separator, quote):
    path = write(raw, "".join(separator.join(row) + "\n" for row in (("1", "a", "x.y"), ("007", "b", ""))))
    assert fields_of(path, table(3, separator=separator, quote=quote)) == [("1", "a", "x.y"), ("007", "b", "")]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_blank_lines_and_byte_order_marks_leave_no_trace(raw, end, last):
    text = "\ufeff" + end.join(["u,i", "", "1,a", "", "2,b"]) + (end * 3 if last else "")
    path = write(raw, text)
    with_header = table(2, header=True, columns={"user": "u", "item": "i"})
    assert [row[0] for row in rows_of(path, with_header)] == [3, 5]
    assert fields_of(path, with_header) == [("1", "a"), ("2", "b")]


def test_quoted_fields_hold_separators_quotes_and_line_ends(raw):
    path = write(raw, '1,"a,b"\n2,"say ""hi"""\n3,"two\nlines"\n"4",""\n5,inch 5"\n')
    assert fields_of(path, table(2)) == [("1", "a,b"), ("2", 'say "hi"'), ("3", "two\nlines"), ("4", ""), ("5", 'inch 5"')]
    assert [row[:2] for row in rows_of(path, table(2))] == [(1, 1), (2, 1), (3, 2), (5, 1), (6, 1)]


def test_every_broken_row_is_named_with_its_true_line_and_text(raw):
    path = write(raw, b'1,"a\n b"\n\n2\n3,c\xff\n4,d,e\n5,"f"g\n6,h\n7,"open\n8,i\n')
    found = [(line, span, flaw, text) for line, span, flaw, text, *_ in rows_of(path, table(2)) if flaw]
    assert found == [
        (4, 1, "2 columns expected, 1 found", "2"),
        (5, 1, "bytes that are not utf-8", "3,c\ufdd0"),
        (6, 1, "2 columns expected, 3 found", "4,d,e"),
        (7, 1, "text after the closing quote", '5,"f"g'),
        (9, 2, "a quote opened in this row is never closed", '7,"open\n8,i'),
    ]
    assert [row[4:] for row in rows_of(path, table(2)) if row[2] is None] == [("1", "a\n b"), ("6", "h")]


def test_without_a_quote_the_quote_is_a_character_like_others(raw):
    path = write(raw, '1,"a\n2,b"\n')
    assert fields_of(path, table(2, quote=None)) == [("1", '"a'), ("2", 'b"')]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig", "shift_jis", "gb18030"])
def test_encodings(raw, encoding):
    words = {"shift_jis": "映画", "gb18030": "电影"}.get(encoding, "café")
    path = write(raw, f"1,{words}\n2,b\n".encode(encoding))
    assert fields_of(path, table(2, encoding=encoding)) == [("1", words), ("2", "b")]


def _zip(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside/u.data", content)
    return buffer.getvalue()


def _long_zstd(content: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=28, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(content) + compressor.flush()


COMPRESSED = {
    "": lambda content: content,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".long.zst": _long_zstd,
    ".two.zst": lambda content: zstandard.compress(content[:4]) + zstandard.compress(content[4:]),
    ".zip": _zip,
}


@pytest.mark.parametrize("ending", COMPRESSED)
def test_compressed_files_are_read_as_they_are(raw, ending):
    path = raw / f"x{ending}"
    path.write_bytes(COMPRESSED[ending](b"1,a\n2,b\n"))
    assert fields_of(path, table(2)) == [("1", "a"), ("2", "b")]
    assert RawFile(path, raw).hash() == RawFile(write(raw, "1,a\n2,b\n"), raw).hash()


@pytest.mark.parametrize("ending", [".gz", ".zst", ".zip"])
def test_a_file_that_was_cut_short_is_the_users_mistake(raw, ending):
    path = raw / f"x{ending}"
    path.write_bytes(COMPRESSED[ending](bytes(range(256)) * 300)[:-40])
    with pytest.raises(DataError, match="decompress"):
        RawFile(path, raw).hash()


def test_blocks_leave_no_trace(raw, monkeypatch):
    """Records, quotes, separators and characters of several bytes may lie across the border of two blocks."""
    path = write(raw, '1::"é::\n""x"\n\n22::b\nstray::5" é\n3::"c"\n4\n5::"never\n6::d')
    chosen = table(2, separator="::")
    expected = rows_of(path, chosen)
    assert len(expected) == 6
    for size in range(1, 30):
        monkeypatch.setattr(raw_files, "CHUNK", size)
        assert rows_of(path, chosen) == expected


def _random_file(rng: np.random.Generator) -> str:
    texts = ["a", "7", "", "x y", 'quote " inside', "comma , inside", "line\nend", "\r\n", "é", '""', ",", "\n\n"]
    buffer = io.StringIO(newline="")
    writer = python_csv.writer(
        buffer,
        lineterminator=["\n", "\r\n"][rng.integers(2)],
        quoting=[python_csv.QUOTE_MINIMAL, python_csv.QUOTE_ALL][rng.integers(2)],
    )
    for _ in range(int(rng.integers(1, 30))):
        writer.writerow([f"u{rng.integers(5)}", *(texts[k] for k in rng.integers(len(texts), size=3))])
    return buffer.getvalue()


@pytest.mark.parametrize("seed", range(25))
def test_well_formed_files_are_read_as_pythons_own_module_reads_them(raw, seed, monkeypatch):
    text = _random_file(np.random.default_rng(seed))
    path = write(raw, text)
    monkeypatch.setattr(raw_files, "CHUNK", 64)
    reader = python_csv.reader(io.StringIO(text, newline=""))
    lines, expected, before = [], [], 0
    for row in reader:
        lines.append(before + 1)
        before = reader.line_num
        expected.append(tuple(row))
    assert fields_of(path, table(4)) == expected
    assert [row[0] for row in rows_of(path, table(4))] == lines


def test_a_row_without_end_is_refused_before_memory_is_full(raw, monkeypatch):
    from benchbed.data.readers import records

    monkeypatch.setattr(records, "LONGEST_RECORD", 1000)
    monkeypatch.setattr(raw_files, "CHUNK", 100)
    path = write(raw, "1,a\n" + '2,"' + "b\n" * 1000)
    with pytest.raises(DataError, match=r"x:2: this row is longer"):
        rows_of(path, table(2))


def test_a_header_that_lacks_a_column_is_answered_with_the_nearest(raw):
    path = write(raw, "user_id,item_id\n1,2\n")
    with pytest.raises(DataError, match="there is no column 'userid'") as caught:
        rows_of(path, table(2, header=True, columns={"user": "userid", "item": "item_id"}))
    assert "Did you mean 'user_id'?" in str(caught.value)
    assert "separator" not in str(caught.value)


def test_a_wrong_separator_is_answered_with_the_number_of_columns(raw):
    path = write(raw, "1;2;3\n1;2;3\n")
    with pytest.raises(DataError, match=r"has 1 column .*item from column 1") as caught:
        rows_of(path, table(2))
    assert 'its rows look like separator: ";"' in str(caught.value)


@pytest.mark.parametrize(("written", "shown"), [(";", '";"'), ("\t", r'"\t"'), ("::", '"::"'), ("|", '"|"')])
@pytest.mark.parametrize("quoted", ["", '"'])
def test_a_wrong_separator_under_a_header_is_answered_with_the_likely_one(raw, written, shown, quoted):
    header = written.join(f"{quoted}{name}{quoted}" for name in ("customer", "article", "when"))
    path = write(raw, f"{header}\n{written.join('123')}\n")
    with pytest.raises(DataError, match="there is no column 'customer'") as caught:
        rows_of(path, table(2, header=True, columns={"user": "customer", "item": "article"}))
    assert f'The card says separator: ","; its header looks like separator: {shown}.' in str(caught.value)
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "\n\n\n", "\ufeff"])
def test_empty_files_are_the_users_mistake(raw, content):
    with pytest.raises(DataError, match=r"empty|blank"):
        rows_of(write(raw, content), table(2))
