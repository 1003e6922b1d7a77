"""Readers of files without columns: sequences, sessions, attributes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from benchbed.data.card import Card
from benchbed.data.prepare import Prepared, prepare
from benchbed.errors import DataError
from benchbed.workspace import Workspace


@pytest.fixture
def prepared(raw: Path, workspace: Workspace):
    def make(files: dict[str, str | bytes], log: dict[str, Any], items: dict[str, Any] | None = None) -> Prepared:
        for name, text in files.items():
            (raw / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        tables = {"interactions": log} | ({"items": items} if items else {})
        return prepare(Card.model_validate({"name": "mine", "max_rejected": 1, "tables": tables}), workspace, raw)

    return make


def sequences_of(made: Prepared) -> dict[str, list[str]]:
    """User -> items, in the order of the column ``row``."""
    users = {row["index"]: row["id"] for row in pq.read_table(made.folder / "users.parquet").to_pylist()}
    items = {row["index"]: row["id"] for row in pq.read_table(made.folder / "items.parquet").to_pylist()}
    found: dict[str, list[str]] = {}
    for row in sorted(pq.read_table(made.folder / "interactions.parquet").to_pylist(), key=lambda row: row["row"]):
        found.setdefault(users[row["user"]], []).append(items[row["item"]])
    return found


def rejects_of(made: Prepared) -> list[tuple[Any, ...]]:
    rows = pq.read_table(made.folder / "rejected.parquet").to_pylist()
    return [(row["file"], row["line"], row["lines"], row["reason"], row["raw"]) for row in rows]


def test_a_line_is_a_user_and_its_items_in_order(prepared):
    made = prepared({"a": "u1 3 1  2 1\r\n\n\tu2\t9 3 \nu3 5"}, {"reader": "sequences", "files": ["a"]})
    assert sequences_of(made) == {"u1": ["3", "1", "2", "1"], "u2": ["9", "3"], "u3": ["5"]}
    assert rejects_of(made) == [] and made.manifest["rows"]["interactions"] == {"read": 3, "rejected": 0}


def test_lines_that_cannot_be_read_are_named_whole(prepared):
    text = b"u1 1 2\nu2\nu3 \xff 4\n\nu4 5 6 7\n"
    made = prepared({"a": text}, {"reader": "sequences", "files": ["a"]})
    assert rejects_of(made) == [
        ("a", 2, 1, "a user without items", "u2"),
        ("a", 3, 1, "bytes that are not utf-8", "u3 \ufdd0 4"),
    ]
    assert made.manifest["rows"]["interactions"] == {"read": 4, "rejected": 2}
    assert sequences_of(made) == {"u1": ["1", "2"], "u4": ["5", "6", "7"]}


def test_a_separator_is_taken_to_the_letter(prepared):
    made = prepared({"a": "u 1,a b,c\nv,,1\nw,1,\n"}, {"reader": "sequences", "files": ["a"], "separator": ","})
    assert sequences_of(made) == {"u 1": ["a b", "c"]}
    assert [(line, reason[:14]) for _, line, _, reason, _ in rejects_of(made)] == [(2, "an id is empty"), (3, "an id is empty")]


def test_a_user_on_several_lines_and_in_several_files_is_one_sequence(prepared):
    made = prepared({"a": "u 1 2\nv 3\nu 4\n", "b": "u 5 1\n"}, {"reader": "sequences", "files": ["b", "a"]})
    assert sequences_of(made) == {"u": ["5", "1", "1", "2", "4"], "v": ["3"]}


def test_sessions_are_numbered_by_file_and_line(prepared):
    log = {"reader": "sessions", "files": ["a", "b"], "columns": {"extra": {"part": {"kind": "file"}}}}
    made = prepared({"a": "7 8 7\n\n9\n", "b": "8 9\n"}, log)
    assert list(sequences_of(made).values()) == [["7", "8", "7"], ["9"], ["8", "9"]]
    assert list(sequences_of(made)) == ["1:000000001", "1:000000003", "2:000000001"]
    assert pq.read_table(made.folder / "interactions.parquet").column("part").to_pylist() == [1, 1, 1, 1, 2, 2]


def expanded(sessions: list[list[str]]) -> str:
    """All prefixes of each session, the longest first, with the next item."""
    return "".join(f"{' '.join(s[:k])}\t{s[k]}\n" for s in sessions for k in range(len(s) - 1, 0, -1))


def test_prefixes_are_joined_to_the_sessions_that_they_come_from(prepared):
    rng = np.random.default_rng(0)
    # Few items, so that neighbouring sessions often begin alike.
    sessions = [rng.integers(1, 4, rng.integers(2, 9)).astype(str).tolist() for _ in range(300)]
    made = prepared({"a": expanded(sessions)}, {"reader": "sessions", "files": ["a"], "expanded": ["a"]})
    assert list(sequences_of(made).values()) == sessions
    assert made.manifest["rows"]["interactions"] == {"read": sum(len(s) - 1 for s in sessions), "rejected": 0}


def test_prefixes_that_are_missing_or_broken_are_rejected_as_a_whole_run(prepared):
    text = "1 2 3\t4\n1 2\t3\n" + expanded([["5", "6", "7"]]) + "8 9\n1\t\n" + expanded([["2", "1"]])
    made = prepared({"a": text}, {"reader": "sessions", "files": ["a"], "expanded": ["a"]})
    assert list(sequences_of(made).values()) == [["5", "6", "7"], ["2", "1"]]
    assert [(line, lines, reason[:16]) for _, line, lines, reason, _ in rejects_of(made)] == [
        (1, 2, "prefixes of 3 to"),
        (5, 1, "one tab expected"),
        (6, 1, "an item is empty"),
    ]


def features(made: Prepared) -> dict[str, Any]:
    return {row["id"]: row["attributes"] for row in pq.read_table(made.folder / "items.parquet").to_pylist()}


ITEMS = {"reader": "attributes", "files": ["f.json"], "features": {"attributes": {"kind": "token_seq"}}}
LOG = {"reader": "sequences", "files": ["a"]}


def test_attributes_are_sets_of_texts(prepared):
    text = json.dumps({"1": [3, 1, 3], "2": [], "3": ["a b", "x,y", "a b", 2.5], "9": ["é"]})
    made = prepared({"a": "u 1 2 3 4\n", "f.json": text}, LOG, ITEMS)
    assert features(made) == {"1": ["3", "1"], "2": [], "3": ["a b", "x,y", "2.5"], "4": None, "9": ["é"]}


def test_bad_entries_are_named_with_their_line(prepared):
    text = '{\n"1": [1],\n "2": 5,\n"3": [[1]], "1": [2], "": [1],\n"4": [null]}\n'
    made = prepared({"a": "u 1 2\n", "f.json": text}, LOG, ITEMS)
    assert rejects_of(made) == [
        ("f.json", 3, 1, "the value is no list", '"2": 5'),
        ("f.json", 4, 1, "the item is empty", '"": [1]'),
        ("f.json", 4, 1, "an attribute is neither text nor a number", '"3": [[1]]'),
        ("f.json", 5, 1, "an attribute is neither text nor a number", '"4": [null]'),
    ]
    assert features(made) == {"1": ["1"], "2": None} and made.manifest["side_tables"]["items"]["repeated ids"] == 1


def test_half_a_character_is_a_flaw_of_its_entry(prepared):
    text = r'{"1": ["\ud800"], "\udfff": ["x"], "2": ["\ud83d\ude00"]}'
    made = prepared({"a": "u 1 2\n", "f.json": text}, LOG, ITEMS)
    assert [(line, reason) for _, line, _, reason, _ in rejects_of(made)] == [(1, "bytes that are not of the encoding")] * 2
    assert features(made) == {"1": None, "2": ["\U0001f600"]}


@pytest.mark.parametrize("value", ["[" * 100_000 + "]" * 100_000, "[" + "9" * 5000 + "]"], ids=["depth", "digits"])
def test_a_value_beyond_all_measure_is_refused_with_its_key(prepared, value):
    with pytest.raises(DataError, match=r"f\.json:2: the value of 'k' cannot be read"):
        prepared({"a": "u 1\n", "f.json": '{"1": [1],\n"k": ' + value + "}"}, LOG, ITEMS)


@pytest.mark.parametrize("text", ["[1]", '{"1": [1]', '{"1" [1]}', '{"1": [1]} x', '{"1": [1] "2": [1]}', "{1: [1]}", ""])
def test_what_is_no_object_is_refused_with_its_line(prepared, text):
    with pytest.raises(DataError, match=r"no JSON object of lists|is empty"):
        prepared({"a": "u 1\n", "f.json": text}, LOG, ITEMS)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"reader": "sequences", "header": True}, "header: the reader sequences has no such choice"),
        ({"reader": "sessions", "quote": '"'}, "quote: the reader sessions has no such choice"),
        ({"reader": "sequences", "columns": {"user": "user", "item": "item", "timestamp": "t"}}, "columns.timestamp"),
        ({"reader": "sequences", "columns": {"user": 0, "item": 1}}, "columns.user"),
        ({"reader": "attributes"}, "is for items and users"),
        ({"reader": "sequences", "expanded": ["a"]}, "expanded belongs to the reader sessions"),
        ({"reader": "sessions", "expanded": ["b"]}, "'b' is no entry of files"),
        ({"reader": "sessions", "expanded": ["a"], "separator": "\t"}, "cannot divide the items"),
        ({"columns": {"user": "u", "item": "i"}, "separator": "whitespace"}, "name the characters"),
        ({"columns": {"user": "u", "item": "i", "extra": {"p": {"kind": "file", "column": "c"}}}}, "comes from no column"),
        ({"columns": {"user": "u", "item": "i", "extra": {"p": {}}}}, "name the column"),
    ],
)
def test_keys_that_would_change_nothing_are_refused(table, problem):
    with pytest.raises(ValidationError, match=problem):
        Card.model_validate({"name": "x", "tables": {"interactions": {"files": ["a"], **table}}})


@pytest.mark.parametrize("feature", [{"kind": "token"}, {"kind": "token_seq", "separator": " "}, {"column": "key"}])
def test_attributes_have_one_form(feature):
    items = {"reader": "attributes", "files": ["f"], "features": {"a": feature}}
    with pytest.raises(ValidationError, match="has no such choice"):
        Card.model_validate({"name": "x", "tables": {"interactions": LOG, "items": items}})


def test_names_of_files_leave_no_trace_in_the_meaning():
    def card(*files: str) -> Card:
        log = {"reader": "sessions", "files": files, "expanded": files[1:]}
        return Card.model_validate({"name": "x", "tables": {"interactions": log}})

    assert card("a", "b").meaning() == card("c", "d").meaning() != card("a").meaning()
