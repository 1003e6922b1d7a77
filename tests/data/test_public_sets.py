"""The shipped cards of public sets, where their files lie beside the checkout: the counts are those of their publishers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchbed.data.card import load_card
from benchbed.data.cases import Rules
from benchbed.data.load import case_counts, load_training_data
from benchbed.data.prepare import Prepared, prepare
from benchbed.data.split.make import split_dataset
from benchbed.data.split.spec import SplitSpec
from benchbed.data.vault import open_vault
from benchbed.workspace import Workspace

from .conftest import make_card


@pytest.fixture(scope="module")
def prepared(shared_data, tmp_path_factory) -> Callable[[str, str], Prepared]:
    made: dict[str, Prepared] = {}
    workspace = Workspace.open(tmp_path_factory.mktemp("public"))

    def make(name: str, folder: str) -> Prepared:
        return made.setdefault(name, prepare(load_card(name), workspace, shared_data / folder))

    return make


@pytest.mark.parametrize(
    ("name", "counts", "lengths", "attributes", "of_an_item"),
    [
        ("beauty", (198_502, 22_363, 12_101), (5, 6, 204), 637, 3.7),
        ("lastfm-s3rec", (52_551, 1_090, 3_646), (5, 19, 899), 388, None),
    ],
)
def test_sequences_with_attributes(prepared, name, counts, lengths, attributes, of_an_item):
    made = prepared(name, "s3rec-beauty-lastfm")
    assert made.manifest["counts"] == dict(zip(("interactions", "users", "items"), counts, strict=True))
    assert all(table["rejected"] == 0 for table in made.manifest["rows"].values())
    assert tuple(made.audit["events_per_user"].values()) == lengths
    lists = pq.read_table(made.folder / "items.parquet").column("attributes").to_pylist()
    assert len({value for values in lists for value in values}) == attributes
    assert all(len(set(values)) == len(values) for values in lists)
    if of_an_item is not None:
        assert sum(map(len, lists)) / len(lists) == pytest.approx(of_an_item, abs=0.05)


def test_diginetica(prepared):
    made = prepared("diginetica", "sessions/diginetica")
    log = pq.read_table(made.folder / "interactions.parquet").to_pandas()
    sizes = log.groupby(["part", "user"]).size()
    train, test = sizes[1], sizes[2]
    assert (len(train), train.sum(), log[log.part == 1].item.nunique()) == (186_670, 906_140, 43_097)
    assert (train.min(), train.max(), (train - 1).sum()) == (2, 70, 719_470)
    assert (test - 1).sum() == 60_858 == made.manifest["rows"]["interactions"]["read"] - 186_670
    assert made.manifest["rows"]["interactions"]["rejected"] == 0


def test_diginetica_every_next(prepared):
    made = prepared("diginetica", "sessions/diginetica")
    spec = SplitSpec(kind="session", by="column: part", valid_share=0.05, ties="file")
    split = split_dataset(made, spec, 0)
    counts = case_counts(split.folder, Rules("keep", targets="every_next"))
    assert counts["test"].cases == counts["test"].targets == 60_858
    data = load_training_data(split.folder, Rules("keep", targets="every_next"))
    assert len(data.train.users) + len(np.unique(data.valid.users)) == 186_670
    # Lines of the file: the ids of its sessions count up, and so do the users.
    assert (np.diff(data.train.users) > 0).all()
    dropped = case_counts(split.folder, Rules("keep", unknown_targets="drop", targets="every_next"))["test"]
    assert dropped.cases == pairs_of_the_authors(made.folder, split.folder) == 60_627
    # Items of validation sessions alone: 202 targets, and 29 that nothing known comes before.
    assert (dropped.unknown_targets, dropped.cases_without_known_history) == (202, 29)


def pairs_of_the_authors(dataset: Path, split: Path) -> int:
    """As GRU4Rec's ``preprocess.py``: test events of training items, of the sessions of two such events or more."""
    log = pq.read_table(dataset / "interactions.parquet").to_pandas()
    trained = pq.read_table(split / "train.parquet").column("item").to_numpy()
    test = log[(log.part == log.part.max()) & log.item.isin(trained)]
    sizes = test.groupby("user").size()
    return int((sizes - 1).sum())


def test_rsc15(prepared):
    made = prepared("rsc15-100k", "sessions/rsc15-100k")
    log = pq.read_table(made.folder / "interactions.parquet").to_pandas()
    counts = log.groupby("part").agg(clicks=("item", "size"), sessions=("user", "nunique"), items=("item", "nunique"))
    assert counts.to_numpy().tolist() == [[70_278, 17_794, 2_933], [13_568, 3_416, 1_771]]
    assert made.manifest["timestamp_unit"] == "microseconds"
    split = split_dataset(made, SplitSpec(kind="session", by="column: part"), 0)
    assert case_counts(split.folder, Rules("keep", targets="every_next"))["test"].cases == 13_568 - 3_416
    dropped = case_counts(split.folder, Rules("keep", unknown_targets="drop", targets="every_next"))["test"]
    assert dropped.cases == pairs_of_the_authors(made.folder, split.folder)


def test_lastfm_of_mkr(prepared):
    made = prepared("lastfm-mkr", "lastfm-mkr")
    assert made.manifest["counts"] == {"interactions": 21_173, "users": 1_872, "items": 3_846}
    first = made.manifest["cleaning"][0]
    assert (first["interactions"], first["users"], first["items"]) == (92_834, 1_892, 17_632)
    assert made.manifest["graph"] == {"triples": 15_518, "entities": 9_366, "relations": 60, "linked items": 3_846}
    assert all(table["rejected"] == 0 for table in made.manifest["rows"].values())
    names = {row["id"]: row["name"] for row in pq.read_table(made.folder / "items.parquet").to_pylist()}
    assert names["2"] == "Diary of Dreams" and all(names.values())
    # Names in many scripts: the file is UTF-8.
    assert any(not name.isascii() for name in names.values()) and not any("\ufffd" in name for name in names.values())


def test_lastfm_of_mkr_click_through(prepared):
    made = prepared("lastfm-mkr", "lastfm-mkr")
    split = split_dataset(made, SplitSpec(kind="click_through"), 1)
    rules = Rules("keep", candidates="catalogue", mode="click_through")
    data, counts = load_training_data(split.folder, rules), case_counts(split.folder, rules)
    rows = [len(data.labelled), *(counts[part].targets + counts[part].negatives for part in ("valid", "test"))]
    assert rows == [25_408, 8_469, 8_469] and sum(rows) == 42_346
    positives = int(data.labelled.labels.sum()) + counts["valid"].targets + counts["test"].targets
    assert positives == 21_173 == sum(rows) // 2
    assert split.audit["counts"]["negatives_missing"] == 0
    assert data.n_items == 3_846 and (data.graph.item_entity[1:] > 0).all()
    assert counts["test"].unknown_targets == counts["test"].unknown_negatives == 0
    # Every head of a triple is an item.
    assert np.isin(data.graph.heads, data.graph.item_entity).all()


@pytest.mark.parametrize(
    ("name", "counts", "flaws", "cold"),
    [
        ("lastfm-ncf", (69_149, 1_741, 2_665), (86, 2_434, 1_282), 0),
        ("amusic-ncf", (46_087, 1_776, 12_929), (18, 348, 274), 43),
    ],
)
def test_fixed_negatives(prepared, name, counts, flaws, cold):
    made = prepared(name, "ncf-format")
    assert made.manifest["counts"] == dict(zip(("interactions", "users", "items"), counts, strict=True))
    assert all(table["rejected"] == 0 for table in made.manifest["rows"].values())
    told = made.audit["negatives"]
    assert (told["the_event_itself"], told["other_events"], told["events_with_other_events"]) == flaws
    assert (told["events"], told["fewest"], told["most"]) == (counts[1], 99, 99)
    split = split_dataset(made, SplitSpec(kind="leave_one_out", test="column: part", ties="hash"), 0)
    listed = split.audit["negatives"]
    assert (listed["target_itself"], listed["in_history"], listed["cases_with_some_in_history"]) == flaws
    assert split.audit["counts"]["test_users_without_history"] == cold
    assert split.audit["test"]["cases"] == counts[1] == split.audit["test"]["targets"]
    rules = Rules("keep", "catalogue", mode="sampled", negatives="shipped")
    data = load_training_data(split.folder, rules)
    assert data.n_items == counts[2] and (data.valid.others.lengths == 99).all()
    cases = open_vault(split.folder, rules, model="m", seed=0, by="test", sweep="s", fingerprint=split.fingerprint)
    assert len(cases.others.values) == 99 * counts[1] - flaws[0] - flaws[1] and (cases.others.values > 0).all()


def test_the_authors_yelp_file_has_the_same_columns(shared_data, tmp_path):
    log = {"files": ["yelp.test.rating"], "separator": "\t", "header": False, "quote": None}
    columns = {"user": 0, "item": 1, "rating": 2, "timestamp": 3}
    made = prepare(make_card(log, columns=columns), Workspace.open(tmp_path), shared_data / "ncf-format" / "convncf-yelp")
    assert made.manifest["counts"]["interactions"] == made.manifest["counts"]["users"] == 25_677
    assert max(int(row["id"]) for row in pq.read_table(made.folder / "items.parquet").to_pylist()) == 25_813
