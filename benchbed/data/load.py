"""A split, as a trial sees it: training events, validation cases, side information. The vault is not touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchbed.data.cases import CaseCounts, CaseRules, make_cases, rules_key
from benchbed.data.dataset import Features, Graph, IntArray, Labelled, Planted, Ragged, Sequences, TrainingData
from benchbed.data.drawing import hashed_ids
from benchbed.data.raw_cases import Vocabulary, read_cases, read_vocabulary, run_starts
from benchbed.data.split.make import PreparedSplit
from benchbed.data.stored import count_rows, read_json, read_table
from benchbed.errors import DataError


def load_training_data(split_folder: Path, protocol: CaseRules) -> TrainingData:
    """Training and validation of a split under a protocol.

    Raises
    ------
    DataError
        There is no split in this folder, or a file of it cannot be read.
    """
    split = PreparedSplit.open(split_folder)
    dataset = split_folder.parent.parent
    vocabulary = read_vocabulary(split_folder, protocol.candidates)
    items = read_table(dataset / "items.parquet")
    index = vocabulary.model_index(items.num_rows)
    valid, _ = make_cases(read_cases(split_folder, "valid", sampled=protocol.mode == "sampled"), vocabulary, protocol)
    manifest = read_json(dataset / "manifest.json")
    return TrainingData(
        fingerprint=split.fingerprint,
        n_items=vocabulary.n_items,
        item_counts=vocabulary.counts,
        item_ids=vocabulary.ids,
        train=_sequences(split_folder / "train.parquet", index),
        valid=valid,
        item_features=_item_features(items, vocabulary, manifest["card"]["tables"]["items"]),
        graph=_graph(dataset, items, vocabulary) if (dataset / "graph.parquet").is_file() else None,
        planted=_planted(dataset, manifest, split.manifest.get("edges", {})),
        labelled=_labelled(split_folder / "labelled.parquet", index),
        user_keys=_user_keys(dataset),
    )


def _planted(dataset: Path, manifest: dict[str, Any], edges: dict[str, int]) -> Planted | None:
    """Where the simulator put its truth; a workspace may have moved since."""
    if manifest["card"]["simulate"] is None:
        return None
    told = Path(manifest["raw"]["folder"])
    moved = dataset.parent.parent / "raw" / told.name
    return Planted(moved if moved.is_dir() else told, dataset / "users.parquet", tuple(sorted(edges.values())))


def _user_keys(dataset: Path) -> IntArray:
    """63-bit hashes of raw user ids, by user number."""
    ids = read_table(dataset / "users.parquet", columns=["id"]).column("id").to_pylist()
    return hashed_ids(["", *ids])


def _labelled(path: Path, index: IntArray) -> Labelled | None:
    if not path.is_file():
        return None
    table = read_table(path)
    return Labelled(_whole(table, "user"), index[_whole(table, "item")], _whole(table, "label"))


def case_counts(split_folder: Path, protocol: CaseRules) -> dict[str, CaseCounts]:
    """What became of the validation and test cases under a protocol; counted when the split was made, the vault stays shut.

    Raises
    ------
    DataError
        There is no split in this folder, or the protocol is ``click_through`` and the split has no labelled rows.
    """
    cases = PreparedSplit.open(split_folder).audit["cases"]
    if rules_key(protocol) not in cases["valid"]:
        raise DataError(
            "This split has no labelled rows, and `mode: click_through` judges these.",
            advice="Take `split: {kind: click_through}`.",
        )
    return {part: CaseCounts(**cases[part][rules_key(protocol)]) for part in ("valid", "test")}


def sampled_validation(split_folder: Path, protocol: CaseRules) -> dict[str, int]:
    """What became of the validation cases under ``mode: sampled``, which no audit counts: it depends on how many are drawn.

    Returns
    -------
    dict
        ``cases``; ``cases_without_negatives``, which are left out; ``wanted_negatives`` of each, the ``fewest_negatives`` that
        one has, and ``cases_with_fewer_negatives`` than wanted.
    """
    raw = read_cases(split_folder, "valid", sampled=True)
    cases, counts = make_cases(raw, read_vocabulary(split_folder, protocol.candidates), protocol)
    wanted = protocol.negatives if isinstance(protocol.negatives, int) else raw.shipped or 0
    lengths = np.zeros(0, np.int64) if cases.others is None else cases.others.lengths
    return {
        "cases": counts.cases,
        "cases_without_negatives": counts.cases_without_negatives or 0,
        "wanted_negatives": wanted,
        "cases_with_fewer_negatives": int((lengths < wanted).sum()),
        "fewest_negatives": int(lengths.min()) if len(lengths) else 0,
    }


def check_cases(split: PreparedSplit, protocol: CaseRules) -> None:
    """Refuse a split that leaves nothing to validate or nothing to test.

    Raises
    ------
    DataError
        Saying which part is empty, and how many cases went by which rule.
    """
    for part, counts in case_counts(split.folder, protocol).items():
        if counts.cases == 0:
            name = "validation" if part == "valid" else "test"
            went = [
                f"{number} had only targets {which}"
                for number, which in (
                    (counts.cases_without_unseen_targets, "that their history holds"),
                    (counts.cases_without_known_targets, "outside the candidates"),
                    (counts.cases_without_known_history, "that no known event comes before"),
                )
                if number
            ]
            why = f": {' and '.join(went)}" if went else ""
            raise DataError(
                f"The split {split.split_id} of '{split.manifest['dataset']}' leaves no {name} case{why}.",
                advice="Take other `split` settings (more users in that part), other `evaluation` rules, or a larger log.",
            )
    listed = split.audit.get("negatives")
    if protocol.negatives == "shipped" and listed is not None:
        sound = protocol.flawed_negatives == "drop"
        if listed["cases"] == listed.get("cases_without_sound" if sound else "cases_without"):
            raise DataError(
                f"The split {split.split_id} of '{split.manifest['dataset']}' leaves nothing to test: none of its "
                f"{listed['cases']} test cases has a {'sound ' if sound else ''}negative.",
                advice="Check the file of negatives against the log, or say how many are drawn for each case "
                "(`evaluation.negatives: 99`).",
            )


def _sequences(path: Path, index: IntArray) -> Sequences:
    table = read_table(path)
    user = _whole(table, "user")
    starts = run_starts(user)
    offsets = np.append(starts, len(user))
    times = _whole(table, "timestamp") if "timestamp" in table.column_names else None
    return Sequences(user[starts], Ragged(index[_whole(table, "item")], offsets), times)


def _whole(table: pa.Table, column: str) -> IntArray:
    """A column as an array of its own, which may be written to (torch wants that)."""
    return np.array(table.column(column).to_numpy(), dtype=np.int64)


def _item_features(items: pa.Table, vocabulary: Vocabulary, described: dict[str, Any] | None) -> dict[str, Features]:
    """The categorical fields of the item table, by name; rows are model indices."""
    found = {}
    rows = pa.array(vocabulary.items[1:] - 1)
    for name, feature in (described or {"features": {}})["features"].items():
        if feature["kind"] == "text" or (feature["kind"] == "number" and feature["bins"] is None):
            continue
        column = items.column(name).combine_chunks()
        if feature["kind"] == "number":
            column = _binned(column, feature["bins"])
        found[name] = _categories(name, column.take(rows))
    return found


def _categories(name: str, column: pa.Array) -> Features:
    """Values as numbers from 1, in the order of the values' texts; a missing value is an empty row."""
    if pa.types.is_list(column.type):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        values = pc.list_flatten(column)
    else:
        lengths = column.is_valid().to_numpy(zero_copy_only=False).astype(np.int64)
        values = column.drop_null()
    encoded = values.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    number = np.zeros(len(names), np.int64)
    number[order] = np.arange(1, len(names) + 1)
    codes = number[encoded.indices.to_numpy(zero_copy_only=False)] if len(values) else np.zeros(0, np.int64)
    # Row 0 is padding: it starts and ends at 0.
    offsets = np.concatenate([np.zeros(2, np.int64), np.cumsum(lengths)]).astype(np.int64)
    return Features(name, Ragged(codes, offsets), tuple(names[i] for i in order))


def _binned(column: pa.Array, bins: int) -> pa.Array:
    """Numbers as intervals that hold about equally many items, named so that their texts sort like the numbers."""
    numbers = column.to_numpy(zero_copy_only=False).astype(np.float64)
    present = np.isfinite(numbers)
    if not present.any():
        return pa.nulls(len(column), pa.string())
    edges = np.unique(np.quantile(numbers[present], np.linspace(0, 1, bins + 1)))
    place = np.clip(np.searchsorted(edges, numbers[present], side="right") - 1, 0, max(len(edges) - 2, 0))
    width = len(str(len(edges)))
    names = [f"{i + 1:0{width}d}: {edges[i]:g} to {edges[min(i + 1, len(edges) - 1)]:g}" for i in range(max(len(edges) - 1, 1))]
    texts = np.full(len(numbers), None, dtype=object)
    texts[present] = np.array(names, dtype=object)[place]
    return pa.array(texts, pa.string())


def _graph(dataset: Path, items: pa.Table, vocabulary: Vocabulary) -> Graph:
    triples = read_table(dataset / "graph.parquet")
    head, relation, tail = (_whole(triples, name) for name in ("head", "relation", "tail"))
    entity = items.column("entity").to_numpy()
    return Graph(
        heads=head,
        relations=relation,
        tails=tail,
        n_entities=count_rows(dataset / "entities.parquet"),
        n_relations=count_rows(dataset / "relations.parquet"),
        item_entity=np.concatenate([[0], entity[vocabulary.items[1:] - 1]]).astype(np.int64),
    )
