"""The page of measured claims."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def results() -> Iterator[ModuleType]:
    folder = str(Path(__file__).parents[2] / "perf")
    sys.path.insert(0, folder)
    yield importlib.import_module("results")
    sys.path.remove(folder)


def test_ranking_and_memory_stand_below_what_they_were_measured_with(results: ModuleType) -> None:
    row = {"what": "mkr epoch", "command": "c", "ours": 1.5, "peer": 9.0, "ratio": 6.0}
    row |= {"ranking_ours": 0.5, "ranking_peer": 200.0, "peak_mb_ours": 300, "peak_mb_peer": 900}
    alone = {"what": "mf_bpr epoch", "command": "c", "ours": 1.0, "fold_in": [9.0, 0.5], "fold_in_users": 2, "users": 20}
    table = [line for line in results.page([row, alone]).splitlines() if line.startswith("| m")]
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in table] == [
        ["mkr epoch", "1.5", "9", "6", "`python perf/c`"],
        ["mkr, one full ranking (seconds as above)", "0.5", "200", "400", ""],
        ["mkr, peak memory of the process (MB)", "300", "900", "3", ""],
        ["mf_bpr epoch", "1", "-", "-", "`python perf/c`"],
        ["mf_bpr, fold-in of 2 of 20 users, which our protocol adds to a ranking (CPU seconds)", "0.5", "-", "-", ""],
    ]
