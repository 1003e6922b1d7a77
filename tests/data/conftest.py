"""Throw-away datasets made from strings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchbed.data.card import Card
from benchbed.data.prepare import Prepared, prepare
from benchbed.workspace import Workspace

LOG = {"files": ["log.tsv"], "separator": "\t", "header": False, "quote": None}
COLUMNS = {"user": 0, "item": 1, "timestamp": 2}


def make_card(log: dict[str, Any] | None = None, *, columns: dict[str, Any] | None = None, **card: Any) -> Card:
    """A card with a tab-separated log of user, item and time; any part can be set otherwise."""
    tables = card.pop("tables", {})
    interactions = {**LOG, "columns": COLUMNS if columns is None else columns, **(log or {})}
    return Card.model_validate({"name": "mine", **card, "tables": {"interactions": interactions, **tables}})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture
def prepared_log(tmp_path: Path, raw: Path) -> Callable[..., Prepared]:
    """Prepares a log given as rows of (user, item, time, ...); a new workspace each time."""
    count = 0

    def make(rows: list[tuple[Any, ...]], card: Card | None = None, **options: Any) -> Prepared:
        nonlocal count
        count += 1
        (raw / "log.tsv").write_text("".join("\t".join(str(v) for v in row) + "\n" for row in rows), encoding="utf-8")
        return prepare(card or make_card(**options), Workspace.open(tmp_path / f"workspace-{count}"), raw)

    return make
