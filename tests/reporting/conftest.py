import sys
from pathlib import Path

import pytest

from benchbed.workspace import Workspace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def workspace(tmp_path):
    return Workspace.open(tmp_path / "home")
