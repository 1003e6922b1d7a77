"""Small worlds that many tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Test processes share the cores: threads of their own would only wait for one another. Set before numpy and torch are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from benchbed.data.dataset import Cases, Ragged, Sequences, TrainingData

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real logs that lie beside a checkout; tests that need them skip where they are not."""
    folder = Path(os.environ.get("BENCHBED_SHARED", REPOSITORY.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"real logs are not at {folder}")
    return folder


def make_data(users: int = 60, items: int = 40, seed: int = 0, longest: int = 30) -> TrainingData:
    """Sequences that walk along a ring of items with some noise: order carries a signal, popularity carries little."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(users):
        length = int(rng.integers(4, longest + 1))
        steps = np.where(rng.random(length) < 0.8, 1, rng.integers(1, items, length))
        rows.append(((rng.integers(items) + np.cumsum(steps)) % items + 1).tolist())
    who = np.arange(1, users + 1)
    return TrainingData(
        fingerprint=f"ring-{users}-{items}-{seed}",
        n_items=items,
        item_counts=np.bincount([i for row in rows for i in row[:-1]], minlength=items + 1),
        item_ids=("", *(f"i{n}" for n in range(1, items + 1))),
        train=Sequences(who, Ragged.of([row[:-1] for row in rows])),
        valid=Cases(who, Ragged.of([row[:-1] for row in rows]), Ragged.of([row[-1:] for row in rows])),
    )


@pytest.fixture
def ring() -> TrainingData:
    """60 users, 40 items, deterministic."""
    return make_data()


@pytest.fixture
def make_ring() -> Callable[..., TrainingData]:
    """The maker of such worlds."""
    return make_data
