from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from benchbed.data.card import find_card, known_cards, load_card
from benchbed.errors import ConfigError, UnknownNameError

from .conftest import make_card

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["ml-100k", "bazaar"])
def test_shipped_cards_are_valid_and_tell_how_to_start(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    card = load_card(name)
    assert card.name == name and card.title and card.licence
    assert f"benchbed prepare {name}" in find_card(name).read_text().split("name:")[0]


def test_lookup_prefers_a_path_then_the_current_folder_then_the_shipped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_card("bazaar").parent == REPOSITORY / "datasets"
    text = find_card("bazaar").read_text()
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "bazaar.yaml").write_text(text)
    (tmp_path / "datasets" / "mine.yaml").write_text(text.replace("name: bazaar\n", "name: mine\n"))
    assert find_card("bazaar") == Path("datasets/bazaar.yaml")
    assert set(known_cards()) >= {"bazaar", "mine", "ml-100k"}
    (tmp_path / "bazaar").write_text(text)
    assert find_card("bazaar") == Path("bazaar")
    assert load_card(tmp_path / "datasets" / "mine.yaml").name == "mine"


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'ml-100k'"):
        find_card("ml100k")


def test_mistakes_are_found_all_at_once(tmp_path):
    text = find_card("ml-100k").read_text()
    broken = (
        text.replace("reader: csv", "reader: cvs", 1)
        .replace("rating: 2", "ratting: 2")
        .replace("kind: flags", "kind: flag")
        .replace("duplicates: keep", "duplicates: frist")
        .replace("latin-1", "latin-77")
    )
    path = tmp_path / "broken.yaml"
    path.write_text(broken)
    with pytest.raises(ConfigError) as caught:
        load_card(path)
    assert {p.key.split(".")[-1] for p in caught.value.problems} == {"reader", "ratting", "kind", "duplicates", "encoding"}
    assert {p.suggestion for p in caught.value.problems} == {"csv", "rating", "flags", "first", None}
    lines = broken.split("\n")
    assert all(p.key.split(".")[-1] in lines[p.line - 1] for p in caught.value.problems)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ({"header": True}, "by name"),
        ({"columns": {"user": "u", "item": 1}}, "by position"),
        ({"separator": ""}, "at least 1 character"),
        ({"separator": "\n"}, "line end"),
        ({"quote": "''"}, "one printable"),
        ({"quote": "|", "separator": "||"}, "part of the separator"),
        ({"encoding": "latin-77"}, "no encoding"),
        ({"files": []}, "at least 1 item"),
        ({"columns": {"user": 0, "item": 1, "extra": {"timestamp": {"column": 2}}}}, "taken"),
        ({"columns": {"user": 0, "item": 1}, "timestamp_unit": "seconds"}, "columns names no timestamp"),
        ({"columns": {"user": 0, "item": 1}, "timestamp_format": "%Y"}, "columns names no timestamp"),
        ({"timestamp_unit": "seconds", "timestamp_format": "%Y"}, "not both"),
    ],
)
def test_what_cannot_work_is_refused(log, said):
    with pytest.raises(ValidationError, match=said):
        make_card(log)


def test_rules_that_would_do_nothing_are_refused():
    with pytest.raises(ValidationError, match="needs a rating column"):
        make_card(clean={"min_rating": 4})
    links = {"files": ["l.csv"], "columns": {"item": "i", "entity": "e"}}
    with pytest.raises(ValidationError, match="links without a graph"):
        make_card(tables={"links": links})


def test_words_files_and_tolerance_are_no_part_of_the_meaning():
    base = make_card()
    for other in (make_card(title="T", licence="L", max_rejected=0.5), make_card({"files": ["other.tsv"]})):
        assert other.meaning() == base.meaning()
    for other in (make_card(clean={"duplicates": "last"}), make_card({"separator": ","}), make_card({"encoding": "latin-1"})):
        assert other.meaning() != base.meaning()


def test_mistakes_in_the_simulate_block_have_their_place(tmp_path):
    path = tmp_path / "shop.yaml"
    text = find_card("bazaar").read_text()
    path.write_text(text.replace("users: 2000, items", "usres: 2000, itmes").replace("reader: csv", "reader: cvs", 1))
    with pytest.raises(ConfigError) as caught:
        load_card(path)
    lines = path.read_text().split("\n")
    found = {(p.key, p.suggestion) for p in caught.value.problems}
    assert found == {("simulate.usres", "users"), ("simulate.itmes", "items"), ("tables.interactions.reader", "csv")}
    assert all(lines[p.line - 1][p.column - 1 :].startswith(p.key.split(".")[-1]) for p in caught.value.problems)
    path.write_text(text.replace("events: 60000", "events: 60"))
    with pytest.raises(ConfigError, match="simulate: 2000 users and 1000 items make between 10000 and 500000 events") as caught:
        load_card(path)
    assert lines[caught.value.problems[0].line - 1].startswith("simulate:")
