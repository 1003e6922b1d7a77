from __future__ import annotations

from pathlib import Path

import pytest

from benchbed.config import Schema, check, dotted, read_document
from benchbed.errors import ConfigError


def read(tmp_path: Path, text: str):
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return read_document(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        ("-2.5e+1", -25.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("10", 10),
        ("010", 10),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("2020-01-02", "2020-01-02"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("'7'", "7"),
        ("e5", "e5"),
        ("-", [None]),
    ],
)
def test_scalars_mean_what_people_mean(tmp_path, text, value):
    found = read(tmp_path, f"a:\n  {text}\n").values["a"]
    assert found == value
    assert type(found) is type(value)


def test_every_key_and_element_has_its_place(tmp_path):
    document = read(tmp_path, "a:\n  b: [x, y]\n  c:\n    - d: 1\n  5: five\n")
    assert document.place(("a",)) == (1, 1)
    assert document.place(("a", "b", 1)) == (2, 10)
    assert document.place(("a", "c", 0, "d")) == (4, 7)
    assert document.place(("a", 5)) == (5, 3)


def test_an_absent_key_has_the_place_of_its_nearest_parent(tmp_path):
    document = read(tmp_path, "a:\n  b: 1\n")
    assert document.place(("a", "nothing", "at all")) == (1, 1)


def test_keys_that_stand_twice_are_all_named_with_their_lines_beside_other_mistakes(tmp_path):
    document = read(tmp_path, "a: 1\nb:\n  c: 1\n  c: 2\na: 2\n")
    assert [(p.line, p.key) for p in document.problems] == [(4, "b.c"), (5, "a")]

    class Small(Schema):
        a: bool

    made, problems = check(document, Small)
    assert made is None
    assert [(p.line, p.key) for p in problems] == [(2, "b"), (4, "b.c"), (5, "a"), (5, "a")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1,\n", 2),
        ("a: 1\n\tb: 2\n", 2),
        ("a: *nowhere\n", 1),
        ("x: 1\na: !!python/object:os.system x\n", 2),
        ("a: 1\nb: \x00\n", 2),
    ],
)
def test_what_is_no_yaml_is_one_problem_with_its_line(tmp_path, text, line):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    (problem,) = caught.value.problems
    assert problem.line == line
    assert "not valid YAML" in problem.message


def test_absent_files_folders_and_other_encodings_are_the_users_mistakes(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        read_document(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="folder"):
        read_document(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("title: café\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_document(latin)


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: !!int abc\n", "a: !!float abc\n"])
def test_values_that_cannot_be_made_are_the_users_mistakes(tmp_path, text):
    with pytest.raises(ConfigError, match="YAML"):
        read(tmp_path, text)


def test_a_path_through_a_file_is_the_users_mistake(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_document(tmp_path / "a.yaml" / "b.yaml")


def test_the_top_must_be_a_mapping_and_an_empty_file_is_an_empty_one(tmp_path):
    with pytest.raises(ConfigError, match="mapping"):
        read(tmp_path, "- a\n")
    assert read(tmp_path, "# nothing\n").values == {}


def test_merge_keys_work(tmp_path):
    document = read(tmp_path, "base: &base {a: 1, b: 2}\nmine:\n  <<: *base\n  b: 3\n")
    assert document.values["mine"] == {"a": 1, "b": 3}


def test_dotted_paths():
    assert dotted(("a", 0, "b")) == "a[0].b"
