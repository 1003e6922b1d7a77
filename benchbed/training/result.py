"""The result of one opening of the test set, kept case by case."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchbed.data.dataset import Cases, TrainingData
from benchbed.evaluation.metrics import metric_values
from benchbed.evaluation.protocol import Protocol
from benchbed.evaluation.ranking import RankedCases
from benchbed.workspace import replacing


@dataclass(frozen=True)
class TestResult:
    """What a model did on the test cases.

    Attributes
    ----------
    metrics
        Means over cases, by column.
    facts
        ``cases``, ``coverage`` (share of candidates that are in some list of ``select_by``'s cutoff), ``constant_cases``
        (all candidates got one score), ``test_seconds``.
    table
        One row a case: ``user``, ``n_targets``, every metric column, ``target_ranks``, ``top_items`` (model indices) and
        ``top_scores``.
    """

    __test__ = False  # not a test class, whatever its name looks like to pytest

    metrics: dict[str, float]
    facts: dict[str, float]
    table: pa.Table

    def write(self, path: Path) -> None:
        """Write the table as Parquet, whole or not at all."""
        with replacing(path) as temporary:
            pq.write_table(self.table, temporary, compression="zstd")


def make_result(cases: Cases, ranked: RankedCases, protocol: Protocol, data: TrainingData, *, seconds: float) -> TestResult:
    """Metrics and table of ranked test cases."""
    values = metric_values(ranked.ranks, protocol.columns, cases.repeats)
    columns: dict[str, pa.Array] = {
        "user": pa.array(cases.users),
        "n_targets": pa.array(cases.targets.lengths),
        **{name: pa.array(value) for name, value in values.items()},
        "target_ranks": pa.ListArray.from_arrays(pa.array(ranked.ranks.offsets, pa.int32()), pa.array(ranked.ranks.values)),
    }
    facts: dict[str, float] = {
        "cases": float(len(cases)),
        "constant_cases": float(ranked.constant),
        "test_seconds": seconds,
    }
    if ranked.top_items is not None and ranked.top_scores is not None:
        width = ranked.top_items.shape[1]
        offsets = pa.array(np.arange(len(cases) + 1) * width, pa.int32())
        columns["top_items"] = pa.ListArray.from_arrays(offsets, pa.array(ranked.top_items.ravel()))
        scores = pa.array(ranked.top_scores.ravel(), from_pandas=True)
        columns["top_scores"] = pa.ListArray.from_arrays(offsets, scores.cast(pa.float32()))
        head = ranked.top_items[:, : int(protocol.select_by.rpartition("@")[2])]
        facts["coverage"] = float(len(np.setdiff1d(np.unique(head), [0])) / max(1, data.n_items))
    return TestResult({name: float(value.mean()) for name, value in values.items()}, facts, pa.table(columns))
