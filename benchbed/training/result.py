"""The result of one opening of the test set, kept case by case."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchbed.data.dataset import Cases, IntArray, TrainingData
from benchbed.errors import ModelError, nearest
from benchbed.evaluation.aggregation import ItemCategories
from benchbed.evaluation.averages import mean_over
from benchbed.evaluation.diversity import Variety
from benchbed.evaluation.listed import LabelledRows
from benchbed.evaluation.metrics import FloatArray, metric_values
from benchbed.evaluation.protocol import Protocol, parse_column
from benchbed.evaluation.ranking import RankedCases
from benchbed.workspace import replacing


@dataclass(frozen=True)
class TestResult:
    """What a model did on the test cases.

    Attributes
    ----------
    metrics
        Means over users or cases, as the protocol says, by column; without those that the model does not have.
    facts
        ``cases``, ``coverage`` (share of candidates that are in some list of ``select_by``'s cutoff; of full rankings alone),
        ``constant_cases`` (all candidates got one score), ``test_seconds``; with listed negatives ``negatives``,
        ``fewest_negatives`` of a case and, of drawn ones, ``cases_with_fewer_negatives`` than asked for; with labelled rows
        ``rows``.
    table
        One row a case: ``user``, ``n_targets``, every metric column, ``target_ranks``, ``top_items`` (model indices) and
        ``top_scores``. Ranks and lists are the model's own, also where the metrics are of re-ranked lists. Among listed
        negatives there are no lists, but ``n_negatives``. Of labelled rows one row each: ``user``, ``item`` (model index),
        ``label``, ``score``, ``placement``, and ``auc`` and ``accuracy``, whose means are the metrics (see
        :mod:`benchbed.evaluation.listed`); accuracy is null where it is not known.
    variety
        Where the protocol asks for it: ``feature``, ``cutoff`` and ``curve``, one entry for each weight with its means.
    """

    __test__ = False  # not a test class, whatever its name looks like to pytest

    metrics: dict[str, float]
    facts: dict[str, float]
    table: pa.Table
    variety: dict[str, Any] | None = None

    def write(self, path: Path) -> None:
        """Write the table as Parquet, whole or not at all."""
        with replacing(path) as temporary:
            pq.write_table(self.table, temporary, compression="zstd")


def make_variety(
    cases: Cases, protocol: Protocol, data: TrainingData, device: torch.device, weight: float = 0
) -> Variety | None:
    """What re-ranks the lists of cases, with ``weight`` behind the rows; None where the protocol does not ask for it.

    Raises
    ------
    ModelError
        The data have no such feature.
    """
    said = protocol.diversity
    if said is None:
        return None
    if said.feature not in data.item_features:
        close = nearest(said.feature, data.item_features)
        raise ModelError(
            f"There is no categorical item feature '{said.feature}' to measure diversity by.",
            advice=f"Did you mean '{close}'?" if close else "Name one of the dataset card in `evaluation.diversity`.",
        )
    feature = data.item_features[said.feature]
    return Variety(said, ItemCategories.of(feature, uncategorised=said.uncategorised, device=device), cases, weight)


def make_result(
    cases: Cases,
    ranked: RankedCases,
    protocol: Protocol,
    data: TrainingData,
    *,
    seconds: float,
    variety: Variety | None = None,
) -> TestResult:
    """Metrics and table of evaluated test cases; ``variety`` has seen the same cases."""
    facts: dict[str, float] = {
        "cases": float(len(cases)),
        "constant_cases": float(ranked.constant),
        "test_seconds": seconds,
    }
    if ranked.labelled is not None:
        return _of_rows(ranked.labelled, protocol, facts)
    applied = variety is not None and variety.weight > 0
    counted = variety.reranked(variety.weight).ranks if variety is not None and applied else ranked.ranks
    values = metric_values(counted, protocol.columns, cases.repeats)
    if variety is not None:
        own = variety.reranked(variety.weight).diversity if applied else variety.own_diversity
        values[variety.said.column] = own
    columns: dict[str, pa.Array] = {
        "user": pa.array(cases.users),
        "n_targets": pa.array(cases.targets.lengths),
        **({"n_negatives": pa.array(cases.others.lengths)} if cases.others is not None else {}),
        **{name: pa.array(value) for name, value in values.items()},
        "target_ranks": pa.ListArray.from_arrays(pa.array(ranked.ranks.offsets, pa.int32()), pa.array(ranked.ranks.values)),
    }
    if cases.others is not None:
        facts["negatives"] = float(len(cases.others.values))
        facts["fewest_negatives"] = float(cases.others.lengths.min()) if len(cases) else 0.0
        if isinstance(protocol.negatives, int):
            facts["cases_with_fewer_negatives"] = float((cases.others.lengths < protocol.negatives).sum())
    if ranked.top_items is not None and ranked.top_scores is not None:
        width = ranked.top_items.shape[1]
        offsets = pa.array(np.arange(len(cases) + 1) * width, pa.int32())
        columns["top_items"] = pa.ListArray.from_arrays(offsets, pa.array(ranked.top_items.ravel()))
        scores = pa.array(ranked.top_scores.ravel(), from_pandas=True)
        columns["top_scores"] = pa.ListArray.from_arrays(offsets, scores.cast(pa.float32()))
        lists = variety.applied if variety is not None and applied else ranked.top_items
        head = lists[:, : parse_column(protocol.select_by)[1]]
        facts["coverage"] = float(len(np.setdiff1d(np.unique(head), [0])) / max(1, data.n_items))
    return TestResult(
        _means(values, cases, protocol), facts, pa.table(columns), _curve(cases, protocol, variety) if variety else None
    )


def _of_rows(rows: LabelledRows, protocol: Protocol, facts: dict[str, float]) -> TestResult:
    values = {name: value for name, value in rows.values.items() if name in protocol.metrics}
    unknown = pa.nulls(len(rows.labels), pa.float64())
    table: dict[str, pa.Array] = {
        "user": pa.array(rows.users),
        "item": pa.array(rows.items),
        "label": pa.array(rows.labels),
        "score": pa.array(rows.scores),
        "placement": pa.array(rows.placement),
        **{name: pa.array(values[name]) if name in values else unknown for name in protocol.metrics},
    }
    facts["rows"] = float(len(rows.labels))
    return TestResult({name: float(value.mean()) for name, value in values.items()}, facts, pa.table(table))


def _means(values: dict[str, FloatArray], cases: Cases, protocol: Protocol) -> dict[str, float]:
    return {name: mean_over(value, cases.users, protocol.average) for name, value in values.items()}


def _curve(cases: Cases, protocol: Protocol, variety: Variety) -> dict[str, Any]:
    """Means of every metric at the cutoff of the lists, and of their diversity, by weight."""
    said = variety.said
    columns = [f"{metric}@{said.cutoff}" for metric in protocol.metrics]
    curve = []
    for weight in said.lambdas:
        reranked = variety.reranked(weight)
        values = metric_values(reranked.ranks, columns, cases.repeats) | {said.column: reranked.diversity}
        curve.append({"lambda": weight, **_means(values, cases, protocol)})
    return {"feature": said.feature, "cutoff": said.cutoff, "weight": variety.weight, "curve": curve}


def chosen_weight(variety: Variety, ranked: RankedCases, protocol: Protocol, repeats: IntArray | None) -> float:
    """The largest weight of variety that keeps enough of ``select_by``, by the lists of *validation* cases; 0 where none does.

    Parameters
    ----------
    variety, ranked
        Have seen the validation cases.
    protocol
        Its ``diversity.keep`` says how much is enough.
    repeats
        Of the cases.
    """
    column, users = protocol.select_by, variety.cases.users
    own = mean_over(metric_values(ranked.ranks, [column], repeats)[column], users, protocol.average)
    found = {
        weight: mean_over(metric_values(variety.reranked(weight).ranks, [column], repeats)[column], users, protocol.average)
        for weight in variety.said.lambdas
    }
    return max((weight for weight, value in found.items() if value >= variety.said.kept * own), default=0.0)
