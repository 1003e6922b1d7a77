"""Fakes of search and of training, for these tests and for the processes they start."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

FOLDERS = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "search")]
sys.path[:0] = [folder for folder in FOLDERS if folder not in sys.path]


@pytest.fixture(scope="session")
def ray_cluster():
    """One Ray for all tests of a process: it takes seconds to start."""
    from benchbed.engine.connect import cluster

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(FOLDERS)
    try:
        with cluster():
            yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
