"""The vault: the test cases of a split, and the log of who opened them. An opening is on record before it happens."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchbed.data.cases import CaseRules, make_cases
from benchbed.data.dataset import Cases
from benchbed.data.raw_cases import read_cases, read_vocabulary
from benchbed.data.split.make import PreparedSplit
from benchbed.errors import DataError


def open_vault(
    split_folder: Path,
    protocol: CaseRules,
    *,
    model: str,
    seed: int,
    by: Mapping[str, Any] | str,
    sweep: str,
    fingerprint: str,
) -> Cases:
    """The test cases of a split. The opening is written to ``vault/openings.jsonl`` first.

    Parameters
    ----------
    split_folder
        Of a prepared split.
    protocol
        Decides what becomes a case.
    model, seed, sweep
        For whom it is opened. A second opening for the same three is marked ``repeated``.
    by
        Who opens it, for example ``{"host": ..., "pid": ...}``.
    fingerprint
        Of the data that the model was trained on (``TrainingData.fingerprint``). Item numbers mean the same in no other split.

    Raises
    ------
    DataError
        There is no such split, it is not the one that was trained on (nothing is opened, nor put on record, then), or its files
        cannot be read.
    """
    path = split_folder / "vault" / "test.parquet"
    if not path.is_file():
        raise DataError(f"No test cases in {split_folder}.", advice="Prepare the dataset and split it again.")
    found = PreparedSplit.open(split_folder).fingerprint
    if found != fingerprint:
        raise DataError(
            f"The split in {split_folder} is not the one that {model} was trained on: its fingerprint is {found[:12]}, "
            f"that of the training data {fingerprint[:12]}. The dataset was prepared anew in between.",
            advice="The vault stays shut. Run the sweep again: it trains on the data that are there now.",
        )
    _record(split_folder, {"sweep": sweep, "model": model, "seed": seed, "by": by if isinstance(by, str) else dict(by)})
    vocabulary = read_vocabulary(split_folder, protocol.candidates)
    raw = read_cases(split_folder, "test", sampled=protocol.mode == "sampled")
    return make_cases(raw, vocabulary, protocol)[0]


def _record(split_folder: Path, opening: dict[str, Any]) -> None:
    log = split_folder / "vault" / "openings.jsonl"
    with log.open("a+", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.seek(0)
        same = ("sweep", "model", "seed")
        text = handle.read()
        known = [tuple(entry.get(key) for key in same) for entry in _entries(text)]
        opening = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **opening,
            "repeated": tuple(opening[key] for key in same) in known,
        }
        # A line that a crash cut short is ended first, so that it cannot swallow this one.
        start = "\n" if text and not text.endswith("\n") else ""
        handle.write(start + json.dumps(opening, ensure_ascii=False) + "\n")
        handle.flush()
        os.fsync(handle.fileno())


def _entries(text: str) -> list[dict[str, Any]]:
    found = []
    # Not splitlines: a text in an opening may hold U+2028 and its like, which JSON leaves as they are.
    for line in filter(None, text.split("\n")):
        try:
            found.append(json.loads(line))
        except ValueError:
            found.append({"unreadable": line})
    return found


def read_openings(split_folder: Path) -> list[dict[str, Any]]:
    """Every opening of a split's vault, oldest first. A line cut short by a crash is given as ``{"unreadable": ...}``."""
    log = split_folder / "vault" / "openings.jsonl"
    return _entries(log.read_text(encoding="utf-8")) if log.is_file() else []
