"""MovieLens 100K, where its files lie beside the checkout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchbed.data.card import load_card
from benchbed.data.load import load_training_data
from benchbed.data.prepare import Prepared, prepare
from benchbed.data.split.make import split_dataset
from benchbed.data.split.spec import SplitSpec
from benchbed.evaluation.protocol import Protocol
from benchbed.workspace import Workspace


@pytest.fixture(scope="module")
def prepared(shared_data, tmp_path_factory) -> Prepared:
    return prepare(load_card("ml-100k"), Workspace.open(tmp_path_factory.mktemp("ml")), shared_data / "ml-100k")


def test_counts_are_those_of_grouplens(prepared):
    assert prepared.manifest["counts"] == {"interactions": 100_000, "users": 943, "items": 1682}
    assert all(table["rejected"] == 0 for table in prepared.manifest["rows"].values())
    assert prepared.audit["tied_events_share"] == pytest.approx(0.506, abs=0.001)
    times = pq.read_table(prepared.folder / "interactions.parquet").column("timestamp").to_numpy()
    assert (times.min(), times.max()) == (874724710, 893286638)


def test_latin_letters_and_flags_are_read(prepared):
    items = {row["id"]: row for row in pq.read_table(prepared.folder / "items.parquet").to_pylist()}
    assert items["1"]["title"] == "Toy Story (1995)"
    assert items["1"]["genre"] == ["Animation", "Children's", "Comedy"]
    assert any("é" in row["title"] for row in items.values() if row["title"])


def test_user_disjoint_split(prepared):
    later = []
    for seed in range(5):
        split = split_dataset(prepared, SplitSpec(kind="user_disjoint"), seed)
        assert (split.audit["training_users"], split.audit["valid"]["cases"], split.audit["test"]["cases"]) == (755, 94, 94)
        later += [split.audit[part]["training_events_after_cut_share"] for part in ("valid", "test")]
    assert np.mean(later) == pytest.approx(0.47, abs=0.04)


def test_leave_one_out_split(prepared):
    split = split_dataset(prepared, SplitSpec(kind="leave_one_out"), 0)
    assert (split.audit["training_events"], split.audit["valid"]["cases"], split.audit["test"]["cases"]) == (98_114, 943, 943)
    data = load_training_data(split.folder, Protocol(seen_items="exclude"))
    assert data.item_features["genre"].names[:2] == ("Action", "Adventure")
    assert 1670 <= data.n_items <= 1682


@pytest.fixture(scope="module")
def atomic(shared_data, tmp_path_factory) -> Prepared:
    return prepare(load_card("ml-100k-recbole"), Workspace.open(tmp_path_factory.mktemp("rb")), shared_data / "ml-100k")


def in_raw_ids(made: Prepared, path: Path) -> pd.DataFrame:
    """A table of the dataset or of a split with raw ids, in the order of its rows."""
    table = pq.read_table(path).to_pandas().drop(columns=["row"], errors="ignore")
    for role in ("user", "item"):
        ids = np.array(["", *pq.read_table(made.folder / f"{role}s.parquet").column("id").to_pylist()])
        table[role] = ids[table[role].to_numpy()]
    return table


def test_both_cards_give_the_same_interactions_and_splits(prepared, atomic):
    assert atomic.manifest["counts"] == prepared.manifest["counts"]
    logs = [in_raw_ids(made, made.folder / "interactions.parquet") for made in (prepared, atomic)]
    pd.testing.assert_frame_equal(*logs)
    assert set(logs[0].columns) == {"user", "item", "timestamp", "rating"}
    for spec in (SplitSpec(kind="user_disjoint"), SplitSpec(kind="leave_one_out"), SplitSpec(kind="temporal")):
        splits = [split_dataset(made, spec, 42) for made in (prepared, atomic)]
        for name in ("train.parquet", "valid.parquet", "vault/test.parquet"):
            pd.testing.assert_frame_equal(
                *(in_raw_ids(made, split.folder / name) for made, split in zip((prepared, atomic), splits, strict=True))
            )


def test_recbole_graph(atomic):
    assert atomic.manifest["graph"] == {"triples": 91_631, "entities": 34_628, "relations": 24, "linked items": 1_598}
    assert all(table["rejected"] == 0 for table in atomic.manifest["rows"].values())
    split = split_dataset(atomic, SplitSpec(kind="user_disjoint"), 42)
    data = load_training_data(split.folder, Protocol(seen_items="exclude", candidates="catalogue"))
    assert data.graph is not None and (data.graph.item_entity > 0).sum() == 1_598
    assert set(data.item_features) == {"release_year", "genre"}
    assert "Children's" in data.item_features["genre"].names


def test_the_raw_ratings_can_have_the_graph_of_the_other_form(shared_data, tmp_path):
    card, other = load_card("ml-100k"), load_card("ml-100k-recbole")
    both = card.tables.model_copy(update={"graph": other.tables.graph, "links": other.tables.links})
    made = prepare(card.model_copy(update={"name": "both", "tables": both}), Workspace.open(tmp_path), shared_data / "ml-100k")
    assert made.manifest["graph"]["linked items"] == 1_598 and made.manifest["counts"]["interactions"] == 100_000
