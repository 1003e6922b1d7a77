"""Measured processes: each prints one JSON line last."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
THREADS = "1"


def last_line(command: list[str]) -> dict[str, Any]:
    """The JSON line that a measuring process prints last."""
    with tempfile.TemporaryDirectory() as folder:  # RecBole writes logs where it stands
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def ours(model: str, folder: Path, epochs: int, *, script: str = "own_epoch.py", **parameters: Any) -> dict[str, Any]:
    """One of our models in a process of its own."""
    given = [model, str(folder), str(epochs), THREADS, json.dumps(parameters)]
    return last_line([sys.executable, str(HERE / script), *given])


def theirs(python: str, model: str, epochs: int, *folder: Path) -> dict[str, Any]:
    """One of RecBole's models in a process of its own."""
    return last_line([python, str(HERE / "peers" / "recbole_epoch.py"), model, str(epochs), THREADS, *map(str, folder)])


def epoch_of(measured: dict[str, Any]) -> float:
    """Median epoch without the first, which warms up."""
    return statistics.median(measured["epochs"][1:])


def cpu_of(runs: list[dict[str, Any]]) -> float:
    """Median CPU seconds of an epoch, first ones left out; those of our sequence models hold the validation too."""
    return middle(each["cpu"][1:] for each in runs)


def middle(values: Iterable[list[float]]) -> float:
    """Median of all numbers of all runs."""
    return float(statistics.median(np.concatenate(list(values))))
