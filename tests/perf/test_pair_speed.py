"""What a timing of pairs hands to the peer, and when it counts."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchbed.data.dataset import Cases, Graph, Ragged, Sequences, TrainingData

MEASURED = {
    "targets": 10,
    "triples": 4,
    "users": 2,
    "items": 3,
    "epochs": [9.0, 1.0, 2.0],
    "cpu": [9.0, 1.0, 1.0],
    "ranking": [1.0],
    "ranking_cpu": [1.0],
    "peak_mb": 100,
    "fold_in": [1.0, 1.0],
    "fold_in_users": 2,
    "fold_in_events": 5,
    "fold_in_steps": 20,
    "peak_mb_with_fold_in": 110,
}


@pytest.fixture(scope="module")
def pair_speed() -> Iterator[ModuleType]:
    folder = str(Path(__file__).parents[2] / "perf")
    sys.path.insert(0, folder)
    yield importlib.import_module("pair_speed")
    sys.path.remove(folder)


def test_the_peer_gets_our_pairs_and_our_graph(pair_speed: ModuleType, tmp_path: Path) -> None:
    train = Sequences(np.array([4, 2]), Ragged.of([[1, 3], [2]]))
    valid = Cases(np.array([2, 4]), Ragged.of([[2], [1, 3]]), Ragged.of([[3], [2]]))
    graph = Graph(np.array([7, 5]), np.array([1, 2]), np.array([5, 9]), 9, 2, np.array([0, 7, 0, 5]))
    ids, counts = ("", "a", "b", "c"), np.array([0, 1, 1, 1])
    pair_speed.write_atomic(TrainingData("f", 3, counts, ids, train, valid, graph=graph), tmp_path)
    files = {path.name: path.read_text().splitlines()[1:] for path in (tmp_path / "pairs").iterdir()}
    assert files["pairs.train.inter"] == ["4\t1", "4\t3", "2\t2"]
    assert files["pairs.valid.inter"] == ["2\t3", "4\t2"]
    assert files["pairs.kg"] == ["7\t1\t5", "5\t2\t9"]
    assert files["pairs.link"] == ["1\t7", "3\t5"]


@pytest.mark.parametrize(
    ("peer", "holds"),
    [
        ({"cpu": [9.0, 6.0, 6.0], "ranking_cpu": [400.0]}, True),
        ({"cpu": [9.0, 4.0, 4.0], "ranking_cpu": [400.0]}, False),
        ({"cpu": [9.0, 6.0, 6.0], "ranking_cpu": [200.0]}, False),
        ({"cpu": [9.0, 6.0, 6.0], "ranking_cpu": [400.0], "targets": 11}, False),
        ({"cpu": [9.0, 6.0, 6.0], "ranking_cpu": [400.0], "peak_mb": 99}, False),
    ],
)
def test_a_claim_holds_for_the_same_work_alone(
    pair_speed: ModuleType, monkeypatch: pytest.MonkeyPatch, peer: dict[str, Any], holds: bool
) -> None:
    """Training, ranking, work and memory each can break it."""
    monkeypatch.setattr(pair_speed, "load", lambda split: None)
    monkeypatch.setattr(pair_speed, "write_atomic", lambda data, folder: None)
    monkeypatch.setattr(pair_speed, "ours", lambda *_, **__: MEASURED)
    monkeypatch.setattr(pair_speed, "theirs", lambda *_: MEASURED | peer)
    assert pair_speed.against_recbole("mkr", Path(), "python", 2)["holds"] is holds


def test_without_the_peer_nothing_is_claimed(pair_speed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_speed, "load", lambda split: None)
    monkeypatch.setattr(pair_speed, "write_atomic", lambda data, folder: None)
    monkeypatch.setattr(pair_speed, "ours", lambda *_, **__: MEASURED)
    found = pair_speed.against_recbole("mkr", Path(), None, 1)
    assert found["ours"] == 1.0
    assert not {"holds", "claim", "ratio", "peer"} & found.keys()
