"""MovieLens 100K, where its files lie beside the checkout."""

from __future__ import annotations

import numpy as np
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
