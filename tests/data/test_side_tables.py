"""Items, features, links and triples are carried through."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from benchbed.data.prepare import Prepared
from benchbed.data.stored import read_json

from .conftest import make_card


def read(prepared: Prepared, name: str = "interactions") -> list[dict]:
    return pq.read_table(prepared.folder / f"{name}.parquet").to_pylist()


SIDE = {
    "items": {
        "files": ["items.csv"],
        "columns": {"item": "id"},
        "features": {
            "title": {"kind": "text", "column": "title"},
            "brand": {"kind": "token", "column": "brand"},
            "tags": {"kind": "token_seq", "column": "tags", "separator": "|"},
            "price": {"kind": "number", "column": "price", "bins": 2},
            "genre": {"kind": "flags", "columns": {"drama": "Drama", "war": "War"}},
        },
    },
    "graph": {"files": ["graph.csv"], "columns": {"head": "h", "relation": "r", "tail": "t"}},
    "links": {"files": ["links.csv"], "columns": {"item": "item", "entity": "entity"}},
}
SIDE_FILES = {
    "items.csv": "id,title,brand,tags,price,drama,war\n"
    'a,"A, the first",x,p|q,1.5,1,0\nb,B,,"",,0,0\nz,Z,y,q,9,1,1\nb,again,y,p,1,1,1\n',
    "graph.csv": "h,r,t\ne1,made_by,m1\ne2,made_by,m1\ne1,made_by,m1\nm1,in,c\n",
    "links.csv": "item,entity\na,e1\nb,lonely\nz,e2\nnobody,e9\n",
}


def with_side_tables(raw: Path, **options):
    for name, text in SIDE_FILES.items():
        (raw / name).write_text(text)
    return make_card(tables=SIDE, **options)


def test_items_carry_features_and_entities(prepared_log, raw):
    prepared = prepared_log([("u", "a", 1), ("u", "b", 2), ("u", "c", 3)], with_side_tables(raw))
    items = {row["id"]: row for row in read(prepared, "items")}
    entities = {row["index"]: row["id"] for row in read(prepared, "entities")}
    assert sorted(items) == ["a", "b", "c", "nobody", "z"]
    a, b, c = items["a"], items["b"], items["c"]
    assert (a["title"], a["brand"], a["tags"], a["price"], a["genre"]) == ("A, the first", "x", ["p", "q"], 1.5, ["Drama"])
    assert (b["title"], b["brand"], b["tags"], b["price"], b["genre"]) == ("B", None, [], None, [])
    assert (c["title"], c["tags"], c["described"], c["entity"]) == (None, None, False, 0)
    assert [entities[items[i]["entity"]] for i in ("a", "b", "z", "nobody")] == ["e1", "lonely", "e2", "e9"]
    assert items["z"]["described"] and items["a"]["described"]
    assert prepared.manifest["graph"] == {"triples": 3, "entities": 6, "relations": 2, "linked items": 4}
    assert prepared.manifest["side_tables"]["items"] == {"rows": 4, "repeated ids": 1}
    assert "tables.items: 1 row with an id that an earlier row has; the first row of each counts." in prepared.audit["warnings"]


def test_triples_are_numbers_of_the_tables_of_names(prepared_log, raw):
    prepared = prepared_log([("u", "a", 1)], with_side_tables(raw))
    entities = {row["index"]: row["id"] for row in read(prepared, "entities")}
    relations = {row["index"]: row["id"] for row in read(prepared, "relations")}
    triples = {(entities[r["head"]], relations[r["relation"]], entities[r["tail"]]) for r in read(prepared, "graph")}
    assert triples == {("e1", "made_by", "m1"), ("e2", "made_by", "m1"), ("m1", "in", "c")}
    assert sorted(entities) == list(range(1, 7)) and sorted(relations) == [1, 2]


def test_without_links_an_item_is_the_entity_of_its_id(prepared_log, raw):
    (raw / "graph.csv").write_text("h,r,t\na,like,b\n")
    prepared = prepared_log([("u", "a", 1), ("u", "c", 2)], make_card(tables={"graph": SIDE["graph"]}))
    entities = {row["index"]: row["id"] for row in read(prepared, "entities")}
    assert {row["id"]: entities.get(row["entity"]) for row in read(prepared, "items")} == {"a": "a", "c": None}


def test_items_whose_events_were_dropped_do_not_come_back_through_the_item_table(prepared_log, raw):
    rows = [("u", "a", 1), ("v", "a", 2), ("v", "b", 3)]
    prepared = prepared_log(rows, with_side_tables(raw, clean={"k_core": {"item": 2}}))
    assert [row["id"] for row in read(prepared, "items")] == ["a", "nobody", "z"]


def test_linked_items_alone(prepared_log, raw):
    """b is linked to an entity that no triple names, and so is nobody; c has no link: they go, and their events are counted."""
    rows = [("u", "a", 1), ("u", "b", 2), ("v", "c", 3), ("v", "a", 4), ("w", "c", 5)]
    prepared = prepared_log(rows, with_side_tables(raw, clean={"linked_items": True}))
    assert [row["id"] for row in read(prepared, "items")] == ["a", "z"]
    assert [row["id"] for row in read(prepared, "users")] == ["u", "v"]
    step = prepared.manifest["cleaning"][1]
    assert (step["step"], step["dropped"], step["interactions"], step["items"]) == ("linked_items", 3, 2, 1)
    assert prepared.manifest["graph"] == {"triples": 3, "entities": 4, "relations": 2, "linked items": 2}


def test_linked_items_come_before_the_core(prepared_log, raw):
    rows = [("u", "a", 1), ("u", "c", 2), ("v", "a", 3), ("v", "a", 4)]
    clean = {"linked_items": True, "k_core": {"user": 2}}
    prepared = prepared_log(rows, with_side_tables(raw, clean=clean))
    assert [row["id"] for row in read(prepared, "users")] == ["v"]


def test_without_links_a_linked_item_is_head_or_tail_of_a_triple(prepared_log, raw):
    (raw / "graph.csv").write_text("h,r,t\na,like,b\n")
    card = make_card(tables={"graph": SIDE["graph"]}, clean={"linked_items": True})
    prepared = prepared_log([("u", item, n) for n, item in enumerate("abc")], card)
    assert [row["id"] for row in read(prepared, "items")] == ["a", "b"]


def test_linked_items_need_a_graph():
    with pytest.raises(ValidationError, match=r"linked_items needs tables\.graph"):
        make_card(clean={"linked_items": True})


def test_a_card_without_the_later_keys_has_the_rules_from_before_them():
    assert set(make_card().rules()["clean"]) == {"min_rating", "duplicates", "k_core"}
    assert make_card(clean={"linked_items": False}).rules() == make_card().rules()


def test_the_audit_says_how_much_of_the_graph_is_about_the_items(prepared_log, raw):
    """A link that is spelt otherwise than the entities would take the graph away from every model, without a word."""
    log = [("u", "a", 1), ("u", "b", 2), ("u", "c", 3)]
    found = read_json(prepared_log(log, with_side_tables(raw)).folder / "audit.json")
    assert found["graph"] == {"triples": 3, "of_items": 2, "items": 5, "items_in_it": 2}
    assert not any("nothing about any item" in warning for warning in found["warnings"])
    (raw / "links.csv").write_text("item,entity\na,E1\nb,E2\n")
    broken = read_json(prepared_log(log, make_card(tables=SIDE)).folder / "audit.json")
    assert broken["graph"]["items_in_it"] == 0 and any("nothing about any item" in warning for warning in broken["warnings"])
