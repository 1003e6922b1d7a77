"""RecBole's atomic files: headers with types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from benchbed.data.card import Card
from benchbed.data.prepare import Prepared, prepare
from benchbed.errors import DataError
from benchbed.workspace import Workspace

FILES = {
    "x.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t007\t3.5\t10\n1\tb\t4\t11.0\n2\tb\t1\t9\n",
    "x.item": "item_id:token\ttitle:token_seq\tclass:token_seq\tprice:float\tvector:float_seq\n"
    "007\tThe Thing\tHorror Sci-Fi\t1.5\t1 2\nb\t\t\t\t3\n",
    "x.kg": "head_id:token\trelation_id:token\ttail_id:token\nm.1\tfilm.actor\tm.2\nm.3\tfilm.actor\tm.2\n",
    "x.link": "item_id:token\tentity_id:token\n007\tm.1\n",
}


@pytest.fixture
def prepared(raw: Path, workspace: Workspace):
    def make(changed: dict[str, str] | None = None, **tables: Any) -> Prepared:
        for name, text in (FILES | (changed or {})).items():
            (raw / name).write_text(text, encoding="utf-8")
        made = {name: {"reader": "recbole", **table} for name, table in tables.items()}
        made.setdefault("interactions", {"reader": "recbole", "files": ["x.inter"]})
        return prepare(Card.model_validate({"name": "mine", "tables": made, "max_rejected": 1}), workspace, raw)

    return make


def read(made: Prepared, name: str) -> list[dict[str, Any]]:
    return pq.read_table(made.folder / f"{name}.parquet").to_pylist()


def features(**given: Any) -> dict[str, Any]:
    return {"files": ["x.item"], "features": given}


def test_roles_have_the_usual_names(prepared):
    made = prepared(
        items=features(title={"kind": "text", "column": "title"}, genre={"kind": "token_seq", "column": "class"}),
        graph={"files": ["x.kg"]},
        links={"files": ["x.link"]},
    )
    users, items = ([row["id"] for row in read(made, name)] for name in ("users", "items"))
    log = [(users[r["user"] - 1], items[r["item"] - 1], r["timestamp"]) for r in read(made, "interactions")]
    assert log == [("1", "007", 10), ("1", "b", 11), ("2", "b", 9)]
    assert "rating" not in read(made, "interactions")[0]
    bond, b = read(made, "items")
    assert (bond["title"], bond["genre"], b["title"], b["genre"]) == ("The Thing", ["Horror", "Sci-Fi"], None, [])
    assert made.manifest["graph"] == {"triples": 2, "entities": 3, "relations": 1, "linked items": 1}


def test_other_columns_are_named_without_their_types(prepared):
    text = FILES["x.inter"].replace("user_id", "session").replace("timestamp", "when")
    columns = {"user": "session", "timestamp": "when", "rating": "rating", "extra": {"again": {"column": "when"}}}
    made = prepared({"x.inter": text}, interactions={"files": ["x.inter"], "columns": columns})
    assert [(row["rating"], row["again"]) for row in read(made, "interactions")] == [(3.5, 10.0), (4.0, 11.0), (1.0, 9.0)]


def test_a_log_without_times_says_so(prepared):
    text = "user_id:token\titem_id:token\n1\ta\n"
    with pytest.raises(DataError, match=r"x.inter:1: there is no column 'timestamp'(.|\n)*timestamp: null"):
        prepared({"x.inter": text})
    made = prepared({"x.inter": text}, interactions={"files": ["x.inter"], "columns": {"timestamp": None}})
    assert made.manifest["timestamp_unit"] is None and made.manifest["counts"]["interactions"] == 1


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("user_id\titem_id\ttimestamp", r"the header has no type for 'user_id'.*\n.*reader: csv"),
        ("user_id:token\titem_id:tokken\ttimestamp:float", r"unknown type 'tokken'.*\n.*item_id:token'"),
        ("user_id:token\titem_id:float\ttimestamp:float", r"'item_id' is float; the card makes the item of it.*wants token"),
        ("user_id:token\titem_id:token\ttimestamp:token", r"'timestamp' is token.* the timestamp .*wants float"),
        ("user_id:token\titem:token\ttimestamp:float", r"x.inter:1: there is no column 'item_id'.*\n.*'item'"),
        (
            "user_id:token\titem_id:token\titem_id:float\ttimestamp:float",
            r"x.inter:1: the columns number 2 and 3 have the same",
        ),
        (
            "\nuser_id:token,item_id:token,timestamp:float",
            r"x.inter:2: .* divided by \",\", and .* is expected(.|\n)*`separator: \",\"`",
        ),
        ("user_id,item_id,timestamp", r"x.inter:1: the header has no type(.|\n)*`reader: csv`, `separator: \",\"`"),
    ],
)
def test_headers_that_do_not_fit_are_refused(prepared, header, problem):
    with pytest.raises(DataError, match=problem):
        prepared({"x.inter": f"{header}\n1\ta\t2\n"})


@pytest.mark.parametrize(
    ("feature", "problem"),
    [
        ({"kind": "number", "column": "class"}, r"'class' is token_seq.*a \(number\) of it, which wants float"),
        ({"kind": "token", "column": "price"}, r"'price' is float.*\n.*number or text"),
        ({"kind": "token_seq", "column": "vector"}, r"'vector' is float_seq.*\n.*text; models see no lists of numbers"),
    ],
)
def test_features_fit_their_types(prepared, feature, problem):
    with pytest.raises(DataError, match=problem):
        prepared(items=features(a=feature))


def test_types_that_fit(prepared):
    made = prepared(items=features(price={"kind": "number", "column": "price"}, v={"kind": "text", "column": "vector"}))
    assert [(row["price"], row["v"]) for row in read(made, "items")] == [(1.5, "1 2"), (None, "3")]


def test_lines_with_too_few_fields_are_rejected(prepared):
    text = FILES["x.inter"] + "3\tb\t4\n4\tb\tx\t5\n5\tb\t1\tsoon\n\tb\t1\t5\n"
    made = prepared({"x.inter": text}, interactions={"files": ["x.inter"], "columns": {"rating": "rating"}})
    found = [(row["line"], row["reason"]) for row in read(made, "rejected")]
    assert found == [
        (5, "4 columns expected, 3 found"),
        (6, "'x' is no number"),
        (7, "'soon' is no time in seconds"),
        (8, "the user is empty"),
    ]


@pytest.mark.parametrize(
    ("log", "problem"),
    [
        ({"columns": {"user": 0}}, "columns go by name"),
        ({"header": False}, "the reader recbole has no such choice"),
        ({"quote": '"'}, "the reader recbole has no such choice"),
        ({"columns": {"usr": "user_id"}}, "usr"),
    ],
)
def test_what_the_format_decides_is_no_choice(log, problem):
    table = {"reader": "recbole", "files": ["x.inter"], **log}
    with pytest.raises(ValidationError, match=problem):
        Card.model_validate({"name": "mine", "tables": {"interactions": table}})
