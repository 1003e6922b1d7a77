"""What validate tells of a benchmark whose data are prepared, and of one whose data are not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchbed.cli.validate import validate
from benchbed.data.card import load_card
from benchbed.data.prepare import prepare
from benchbed.errors import BenchbedError, ConfigError
from benchbed.sweep.lookup import load_benchmark
from benchbed.sweep.preflight import preflight
from benchbed.sweep.rehearsal import gather, rehearse
from benchbed.workspace import Workspace

CARD: dict[str, Any] = {
    "name": "mine",
    "tables": {
        "interactions": {"files": ["log.csv"], "columns": {"user": "u", "item": "i", "timestamp": "t"}},
        "items": {"files": ["items.csv"], "columns": {"item": "i"}, "features": {"brand": {"kind": "token", "column": "b"}}},
        "graph": {"files": ["graph.csv"], "columns": {"head": "h", "relation": "r", "tail": "t"}},
    },
}
ASKED: dict[str, Any] = {
    "name": "mine",
    "dataset": "mine.yaml",
    "split": {"kind": "user_disjoint"},
    "evaluation": {"seen_items": "exclude"},
    "models": ["mkr", "gru4recf", "gru4rec"],
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A log in the current folder, whose graph and features are as its card says and hold nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCHBED_HOME", str(tmp_path / "home"))
    log = "".join(f"u{n},i{(3 * n + k) % 17},{k}\n" for n in range(40) for k in range(6))
    Path("log.csv").write_text("u,i,t\n" + log)
    Path("items.csv").write_text("i,b\n" + "".join(f"i{n},\n" for n in range(17)))
    Path("graph.csv").write_text("h,r,t\nsomebody,knows,nobody\n")
    Path("mine.yaml").write_text(yaml.safe_dump(CARD))
    Path("b.yaml").write_text(yaml.safe_dump(ASKED))
    return Workspace.at()


def refused() -> str:
    with pytest.raises(ConfigError) as caught:
        validate([Path("b.yaml")])
    return str(caught.value)


def test_what_only_data_tell_waits_for_prepare(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    validate([Path("b.yaml")])
    told = capsys.readouterr().out
    assert "b.yaml: a valid benchmark" in told and f"'mine' is not prepared in {workspace.root}" in told
    assert "waits for `benchbed prepare mine.yaml --raw DIR`" in told and not workspace.root.exists()


def test_on_prepared_data_validate_says_what_the_sweep_says(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    prepared = prepare(load_card("mine.yaml"), workspace, Path())
    told = refused()
    benchmark = load_benchmark("b.yaml")
    material = gather(benchmark, preflight(benchmark, workspace), prepared)
    with pytest.raises(BenchbedError) as caught:
        rehearse(material, material.checked.chosen)
    said = caught.value.message.split("\n")
    assert len(said) == 1 and all(re.search(rf"b\.yaml:\d+:\d+: models: {re.escape(line)}", told) for line in said)
    assert "mkr" not in told, "a graph that says nothing is the model without a graph, and a mark on its row"
    assert "gru4recf learns from features of the items, and no candidate of this dataset has a value in any" in told
    Path("b.yaml").write_text(yaml.safe_dump({**ASKED, "models": ["gru4rec"]}))
    validate([Path("b.yaml")])
    told = capsys.readouterr().out
    assert "default model of every row was made once on the data of 'mine'" in told
    assert "note: The test part has 4 users: with fewer than 30 no difference between models is evidence." in told
    assert not workspace.sweeps.exists()  # nothing is recorded


def test_a_split_that_leaves_nothing_is_told_at_its_block(workspace: Workspace) -> None:
    prepare(load_card("mine.yaml"), workspace, Path())
    Path("b.yaml").write_text(yaml.safe_dump({**ASKED, "split": {"kind": "temporal", "test_share": 0.4}}))
    assert re.search(r"b\.yaml:\d+:\d+: split: The split temporal\S+ of 'mine' has no training events", refused())


def test_data_of_another_form_of_the_card_are_not_looked_at(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(load_card("mine.yaml"), workspace, Path())
    Path("mine.yaml").write_text(yaml.safe_dump({**CARD, "clean": {"duplicates": "first"}}))
    validate([Path("b.yaml")])
    assert "incomplete, or of another form of its card" in capsys.readouterr().out
