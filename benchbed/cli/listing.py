"""``benchbed list``: what there is."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from benchbed.cli.options import JsonOption


class Kind(StrEnum):
    """What can be listed."""

    models = "models"
    spaces = "spaces"
    datasets = "datasets"
    benchmarks = "benchmarks"
    splits = "splits"
    metrics = "metrics"
    readers = "readers"


def list_names(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    json: JsonOption = False,
) -> None:
    """List models, search spaces, datasets, benchmarks, splits, metrics or readers."""
    rows = _ROWS[kind]()
    if json:
        import json as encoder

        print(encoder.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in rows[0] if rows else ["name"]:
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=column == "name")
    for row in rows:
        table.add_row(*("yes" if value is True else "" if value in (False, None) else str(value) for value in row.values()))
    Console().print(table)


def _models() -> list[dict[str, object]]:
    from benchbed.models.registry import MODELS, is_baseline, model_class

    rows: list[dict[str, object]] = []
    for name in MODELS:
        kind = model_class(name)
        rows.append(
            {
                "name": name,
                "variant": kind.variant(kind.Config()),
                "baseline": is_baseline(name),
                "user_mode": kind.user_mode,
                "needs": ", ".join(sorted(kind.needs)).replace("_", " "),
                "reference": kind.reference,
            }
        )
    return rows


def _spaces() -> list[dict[str, object]]:
    from benchbed.search.space_file import known_spaces, load_space

    rows: list[dict[str, object]] = []
    for name, path in sorted(known_spaces().items()):
        space = load_space(path)
        rows.append(
            {
                "name": name,
                "model": space.model,
                "variant": space.default_variant,
                "dimensions": len(space.order),
                "max_epochs": space.max_epochs,
            }
        )
    return rows


def _datasets() -> list[dict[str, object]]:
    from benchbed.data.card import known_cards, load_card

    return [{"name": name, "title": (card := load_card(name)).title, "licence": card.licence} for name in known_cards()]


def _benchmarks() -> list[dict[str, object]]:
    from benchbed.sweep.lookup import known_benchmarks, load_benchmark

    rows: list[dict[str, object]] = []
    for name in known_benchmarks():
        benchmark = load_benchmark(name)
        rows.append(
            {"name": name, "dataset": benchmark.dataset, "split": benchmark.split.kind, "models": ", ".join(benchmark.models)}
        )
    return rows


def _splits() -> list[dict[str, object]]:
    from benchbed.data.split.spec import SPLITS

    return [{"name": name, "meaning": meaning} for name, meaning in SPLITS.items()]


def _metrics() -> list[dict[str, object]]:
    from benchbed.evaluation.protocol import LABELLED, METRICS, VARIANTS

    return [{"name": name, "meaning": meaning} for name, meaning in (METRICS | VARIANTS | LABELLED).items()]


def _readers() -> list[dict[str, object]]:
    from benchbed.data.readers import READERS

    return [{"name": name, "meaning": meaning} for name, meaning in READERS.items()]


_ROWS = {
    Kind.models: _models,
    Kind.spaces: _spaces,
    Kind.datasets: _datasets,
    Kind.benchmarks: _benchmarks,
    Kind.splits: _splits,
    Kind.metrics: _metrics,
    Kind.readers: _readers,
}
