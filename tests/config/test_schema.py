from __future__ import annotations

import pickle
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, field_validator

from benchbed.config import Schema, canonical, check, fingerprint, load, mistake, read_document
from benchbed.errors import ConfigError


class Cat(Schema):
    kind: Literal["cat"]
    lives: int = Field(9, ge=1)


class Dog(Schema):
    kind: Literal["dog"]
    tricks: tuple[str, ...] = ()


class House(Schema):
    name: str
    rooms: int = 3
    heating: Literal["gas", "wood"] = "wood"
    pets: tuple[Annotated[Cat | Dog, Field(discriminator="kind")], ...] = ()
    rent: float | Literal["free"] = "free"
    garden: dict[str, float] = Field(default_factory=dict)
    models: tuple[str, ...] = ()

    @field_validator("rooms")
    @classmethod
    def _even(cls, value: int) -> int:
        if value == 13:
            raise ValueError("thirteen rooms bring bad luck")
        return value

    @field_validator("models")
    @classmethod
    def _quiet(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for place, name in enumerate(value):
            if name.isupper():
                raise mistake("shouted", suggestion=name.lower(), at=(place,))
        return value


def problems_of(tmp_path: Path, text: str, **options):
    path = tmp_path / "house.yaml"
    path.write_text(text, encoding="utf-8")
    made, problems = check(read_document(path), House, **options)
    assert (made is None) == bool(problems)
    return [(p.line, p.key, p.message, p.suggestion) for p in problems]


def test_five_mistakes_come_in_one_message_with_lines_and_keys(tmp_path):
    path = tmp_path / "house.yaml"
    path.write_text("nmae: x\nrooms: many\nheating: would\npets:\n  - {kind: cat, lifes: 7}\n  - {kind: bird}\n")
    with pytest.raises(ConfigError) as caught:
        load(path, House)
    text = str(caught.value)
    assert text.startswith("6 mistakes found:")
    for line in (
        f"{path}:1:1: nmae: unknown key 'nmae'; did you mean 'name'?",
        f"{path}:1:1: name: the key 'name' is missing",
        f"{path}:2:1: rooms: expected a whole number (it is 'many')",
        f"{path}:3:1: heating: 'would' is not one of gas, wood; did you mean 'wood'?",
        f"{path}:5:17: pets[0].lifes: unknown key 'lifes'; did you mean 'lives'?",
        f"{path}:6:6: pets[1].kind: 'bird' is not one of cat, dog",
    ):
        assert f"  {line}\n" in f"{text}\n", line


def test_mistakes_survive_pickling(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "absent.yaml", House)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.problems == caught.value.problems


def test_a_failed_union_is_told_once(tmp_path):
    assert len(problems_of(tmp_path, "name: x\nrent: [1]\n")) == 1


def test_true_is_no_number_wherever_it_stands(tmp_path):
    text = "name: true\nrooms: true\npets:\n  - {kind: cat, lives: false}\nrent: true\ngarden: {a: true}\n"
    assert problems_of(tmp_path, text) == [
        (1, "name", "expected text (it is true)", None),
        (2, "rooms", "expected a whole number (it is true)", None),
        (4, "pets[0].lives", "expected a whole number (it is false)", None),
        (5, "rent", "expected a number (it is true)", None),
        (6, "garden.a", "expected a number (it is true)", None),
    ]


def test_all_that_is_allowed_is_named_with_the_nearest(tmp_path):
    assert problems_of(tmp_path, "name: x\nrent: fere\npets: [{kind: cat, lives: 0}]\nheating: true\n") == [
        (2, "rent", "expected free or a number (it is 'fere')", "free"),
        (3, "pets[0].lives", "expected 1 or more (it is 0)", None),
        (4, "heating", "true is not one of gas, wood", None),
    ]


def test_own_rules_name_a_place_and_the_nearest(tmp_path):
    assert problems_of(tmp_path, "name: x\nmodels: [ease, EASE]\n") == [(2, "models[1]", "shouted", "ease")]


def test_own_rules_are_told_in_their_own_words(tmp_path):
    assert problems_of(tmp_path, "name: x\nrooms: 13\n") == [(2, "rooms", "thirteen rooms bring bad luck", None)]


def test_names_are_looked_up_in_catalogues(tmp_path):
    found = problems_of(tmp_path, "name: x\nmodels: [ease, gru4rce]\n", names={"models.*": ["ease", "gru4rec"]})
    assert found == [(2, "models[1]", "'gru4rce' is not known here (known: ease, gru4rec)", "gru4rec")]


def test_shapes_are_named_in_the_words_of_yaml(tmp_path):
    found = problems_of(tmp_path, "name: x\ngarden: 5\nmodels: ease\npets: {a: 1}\n")
    assert [(line, message.split(" (")[0]) for line, _, message, _ in found] == [
        (2, "expected a mapping of keys to values"),
        (3, "expected a list"),
        (4, "expected a list"),
    ]


def test_not_finite_numbers_are_refused(tmp_path):
    assert [message for _, _, message, _ in problems_of(tmp_path, "name: x\ngarden: {a: .nan, b: .inf}\n")] == [
        "expected a finite number (it is nan)",
        "expected a finite number (it is inf)",
    ]


def test_a_missing_tag_is_a_missing_key(tmp_path):
    ((line, key, message, _),) = problems_of(tmp_path, "name: x\npets:\n  - {lives: 3}\n")
    assert (line, key, message) == (3, "pets[0]", "the key 'kind' is missing")


def test_schemas_are_frozen():
    house = House(name="x")
    with pytest.raises(ValueError, match="frozen"):
        house.rooms = 4  # type: ignore[misc]


def test_fingerprints_do_not_see_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint("a", "b") != fingerprint("ab")
    assert canonical(House(name="é")).startswith('{"garden":{}')
