"""Runs the real command in a shell of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def benchbed(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """``benchbed ARGUMENTS`` in a folder, with its output captured."""
    return subprocess.run(
        [sys.executable, "-m", "benchbed", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
