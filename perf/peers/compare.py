"""What every comparison with a peer is made of: the row it ends in, data of the peer's sizes, and differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from benchbed.data.dataset import Cases, Features, Graph, Ragged, Sequences, TrainingData

LIMITS = {"scores": 1e-5, "loss": 1e-6, "gradients": 1e-6, "trained": 1e-6}
Dump = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """How far apart ours and the peer's are.

    Attributes
    ----------
    scores
        Largest absolute difference, over all histories and items; in float32 for ``scores_single``.
    loss
        Relative difference.
    gradients
        Largest absolute difference of any weight's gradient, over the largest gradient of the peer.
    trained
        Largest absolute difference of any weight after training; None where the dump has none.
    """

    peer: str
    form: str
    scores: float
    scores_single: float
    loss: float
    gradients: float
    trained: float | None

    @property
    def holds(self) -> bool:
        """Whether all differences are within :data:`LIMITS`."""
        found = {name: getattr(self, name) for name in LIMITS} | {"scores_single": self.scores_single}
        return all(value is None or value <= LIMITS[name.removesuffix("_single")] for name, value in found.items())


def made_up(
    n_items: int, rows: list[list[int]], features: Mapping[str, Features] | None = None, graph: Graph | None = None
) -> TrainingData:
    """Training data of a peer's sizes."""
    empty = Ragged.of([])
    users = np.arange(len(rows))
    counts = np.concatenate([[0], np.ones(n_items, dtype=np.int64)])
    ids = ("", *map(str, range(1, n_items + 1)))
    cases = Cases(users[:0], empty, empty)
    return TrainingData("peer", n_items, counts, ids, Sequences(users, Ragged.of(rows)), cases, features or {}, graph)


def furthest(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """Largest absolute difference of any array; every array must be there on both sides."""
    assert found.keys() == wanted.keys(), sorted(found.keys() ^ wanted.keys())
    return max(float((found[name].to_dense() - wanted[name]).abs().max()) for name in wanted)


def relative(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> float:
    """:func:`furthest` over the largest number of the peer."""
    return furthest(found, wanted) / max(float(value.abs().max()) for value in wanted.values())
