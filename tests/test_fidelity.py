"""docs/model-fidelity.md says of each property which test shows it, or why none does; markers in the tests say the same."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "model-fidelity.md").read_text(encoding="utf-8")
NUMBERS = {"G": 24, "F": 6, "S": 16, "A": 8, "T": 5, "D": 5, "M": 11, "N": 12, "U": 7}
"""Letter of a family -> how many properties it has."""

ROW = re.compile(r"^\| ([A-Z]\d+) \| ([^|]+) \| ([^|]+) \|$", flags=re.MULTILINE)
TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows() -> list[tuple[str, str, str]]:
    """Code, property, and what shows it or why nothing does."""
    return [(code, said.strip(), shown.strip()) for code, said, shown in ROW.findall(PAGE)]


def markers() -> Iterator[tuple[str, str, str]]:
    """(file, name, code) of every ``@pytest.mark.fidelity(...)`` on a test or a suite."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fidelity":
                    assert mark.args, f"{path.name}::{node.name} is marked with no code"
                    for argument in mark.args:
                        yield path.relative_to(ROOT / "tests").as_posix(), node.name, ast.literal_eval(argument)


def test_every_property_stands_once_and_in_order() -> None:
    expected = [f"{letter}{number}" for letter, last in NUMBERS.items() for number in range(1, last + 1)]
    assert [code for code, _, _ in rows()] == expected


def test_what_is_claimed_as_tested_is_marked() -> None:
    marked = set(markers())
    claimed = {(file, name, code) for code, _, shown in rows() for file, name in TEST.findall(shown)}
    assert claimed and not claimed - marked


def test_what_is_marked_is_claimed() -> None:
    claimed = {code for code, _, shown in rows() if TEST.search(shown)}
    assert {code for _, _, code in markers()} == claimed


def test_what_no_test_shows_has_a_reason() -> None:
    for code, said, shown in rows():
        assert len(said) > 15, code
        assert TEST.search(shown) or len(shown) > 15, f"{code} is neither tested nor explained"


def test_the_page_counts_right() -> None:
    tested = sum(bool(TEST.search(shown)) for _, _, shown in rows())
    assert f"{tested} of {len(rows())} are shown by a test" in " ".join(PAGE.split())
