"""What stops a sweep before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchbed.errors import ConfigError
from benchbed.search.space_file import find_space
from benchbed.sweep.lookup import load_benchmark
from benchbed.sweep.preflight import preflight
from benchbed.workspace import Workspace


def test_a_search_space_of_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo, ease = load_benchmark("demo"), find_space("ease").read_text()
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.open(tmp_path / "workspace")
    assert preflight(demo, workspace).spaces["gru4rec"].model == "gru4rec"
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces/gru4rec.yaml").write_text(ease)
    with pytest.raises(ConfigError, match=r"search_spaces/gru4rec\.yaml.*taken for the model 'gru4rec'.*of 'ease'"):
        preflight(demo, workspace)
