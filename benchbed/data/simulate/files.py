"""The simulated shop as raw files, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchbed.data.simulate.log import Log, generator, simulate
from benchbed.data.simulate.shop import Ints, Shop, numbered
from benchbed.data.simulate.spec import SimulateSpec, read_settings
from benchbed.data.simulate.visitors import WAYS
from benchbed.workspace import replacing

MISSING_TRIPLES = 0.10
"""Share of the triples of items that nobody wrote down: knowledge graphs are never complete."""

Texts = NDArray[np.str_]


def write_raw(settings: Mapping[str, Any], folder: Path) -> None:
    """Simulate a shop and write its raw files.

    ``interactions.csv`` (user,item,timestamp; in order of time), ``items.csv`` (item,category,brand,tags; tags divided by
    spaces), ``graph.csv`` (head,relation,tail), ``links.csv`` (item,entity), and the planted truth, which no model may see:
    ``truth.parquet`` (a row an event), ``truth_users.parquet`` and ``truth_items.parquet``. Each is written to a temporary
    name and renamed; the same settings give the same bytes.

    Parameters
    ----------
    settings
        The ``simulate`` block of a card, see :class:`SimulateSpec`.
    folder
        Where the files go; made when absent.

    Raises
    ------
    ConfigError
        The settings have mistakes.
    """
    spec = read_settings(settings)
    shop, log = simulate(spec)
    users = numbered("u", spec.users)
    rng = generator(spec.seed, 4)
    _write_csv(folder / "items.csv", *_items(shop, rng))
    graph, links = _graph(shop, rng)
    _write_csv(folder / "graph.csv", ("head", "relation", "tail"), graph)
    _write_csv(folder / "links.csv", ("item", "entity"), links)
    _write_truth(folder, spec, shop, log, users)
    # last, because what reads the log may take it for the sign that all is there
    order = np.argsort(log.timestamps, kind="stable")
    rows = [users[log.users[order]], shop.ids[log.items[order]], log.timestamps[order].astype(str)]
    _write_csv(folder / "interactions.csv", ("user", "item", "timestamp"), rows)


def _write_csv(path: Path, header: Sequence[str], columns: Sequence[Texts]) -> None:
    """No value holds a comma or a quote, so that none needs quoting."""
    lines = pc.binary_join_element_wise(*(pa.array(column) for column in columns), ",").to_pylist()
    with replacing(path) as temporary:
        temporary.write_text("\n".join([",".join(header), *lines, ""]), encoding="utf-8", newline="\n")


def _names(prefix: str, count: int, rng: np.random.Generator) -> Texts:
    """Names whose order says nothing about what they name."""
    return numbered(prefix, count)[rng.permutation(count)]


def _items(shop: Shop, rng: np.random.Generator) -> tuple[Sequence[str], list[Texts]]:
    category = _names("category", int(shop.category.max()) + 1, rng)[shop.category]
    brand = _names("brand", shop.makers, rng)[shop.maker]
    tag = _names("tag", int(shop.tags.max()) + 1, rng)
    tags = np.char.add(np.char.add(tag[shop.tags[:, 0]], " "), tag[shop.tags[:, 1]])
    order = np.argsort(shop.ids)
    return ("item", "category", "brand", "tags"), [column[order] for column in (shop.ids, category, brand, tags)]


def _graph(shop: Shop, rng: np.random.Generator) -> tuple[list[Texts], list[Texts]]:
    """Triples and links. Entities are items, series, makers, categories and departments, all named alike."""
    sizes = [len(shop), int(shop.series.max()) + 1, shop.makers, int(shop.category.max()) + 1, int(shop.department.max()) + 1]
    starts = np.cumsum([0, *sizes])
    entity = _names("e", int(starts[-1]), rng)
    of_item, of_series, of_maker, of_category, of_department = starts[:5]
    item = np.arange(len(shop))
    parts: list[tuple[Ints, str, Ints]] = [
        (item, "in_category", of_category + shop.category),
        (item, "made_by", of_maker + shop.maker),
    ]
    several = np.bincount(shop.series)[shop.series] > 1
    parts.append((item[several], "in_series", of_series + shop.series[several]))
    for column in shop.complements.T:
        there = column >= 0
        parts.append((item[there], "goes_with", of_item + column[there]))
    kept = [rng.random(len(head)) >= MISSING_TRIPLES for head, _, _ in parts]
    parts = [(head[keep], relation, tail[keep]) for (head, relation, tail), keep in zip(parts, kept, strict=True)]
    parts.append((of_category + np.arange(sizes[3]), "part_of", of_department + shop.department_of_category))
    head, tail = np.concatenate([p[0] for p in parts]), np.concatenate([p[2] for p in parts])
    relation = np.concatenate([np.full(len(p[0]), p[1], dtype="U16") for p in parts])
    triples = [entity[head], relation, entity[tail]]
    order = np.lexsort(triples[::-1])
    by_id = np.argsort(shop.ids)
    return [column[order] for column in triples], [shop.ids[by_id], entity[item[by_id]]]


def _write_truth(folder: Path, spec: SimulateSpec, shop: Shop, log: Log, users: Texts) -> None:
    first = np.cumsum(log.lengths) - log.lengths
    position = np.arange(len(log.items)) - np.repeat(first, log.lengths)
    events = {
        "user": pa.DictionaryArray.from_arrays(pa.array(log.users.astype(np.int32)), pa.array(users)),
        "position": position.astype(np.int32),
        "item": pa.DictionaryArray.from_arrays(pa.array(log.items.astype(np.int32)), pa.array(shop.ids)),
        "timestamp": log.timestamps,
        "way": pa.DictionaryArray.from_arrays(pa.array(log.ways.astype(np.int8)), pa.array(WAYS)),
        "opened_session": log.opened,
        "topic": log.topic.astype(np.int16),
        "interests": _lists(log.interests.astype(np.int16)),
        "logits": _lists(log.logits),
    }
    people = {"user": users, "events": log.lengths, "maker": _lists(log.maker)}
    goods = {name: _lists(column) if column.ndim == 2 else column for name, column in shop.columns.items()}
    # what is not asked for is not written, so that settings of old give the bytes of old
    metadata = {"benchbed.simulate": spec.model_dump_json(exclude=None if spec.launches else {"launches"})}
    for name, columns in (("truth_items", goods), ("truth_users", people), ("truth", events)):
        with replacing(folder / f"{name}.parquet") as temporary:
            table = pa.table({k: pa.array(v) if isinstance(v, np.ndarray) else v for k, v in columns.items()})
            pq.write_table(table.replace_schema_metadata(metadata), temporary, compression="zstd")


def _lists(values: NDArray[Any]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
