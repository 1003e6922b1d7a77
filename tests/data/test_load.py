from __future__ import annotations

import builtins
import io
import time
from itertools import product

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchbed.config import fingerprint
from benchbed.data.cases import Rules
from benchbed.data.fingerprints import RULES_VERSION, protocol_fingerprint
from benchbed.data.load import case_counts, check_cases, load_training_data
from benchbed.data.raw_cases import read_raw_cases
from benchbed.data.split.make import split_dataset
from benchbed.data.split.spec import SplitSpec
from benchbed.data.vault import open_vault
from benchbed.errors import DataError
from benchbed.evaluation.protocol import Protocol

from .split.test_splits import in_raw_ids
from .test_prepare import random_log
from .test_side_tables import with_side_tables

LEAVE_ONE_OUT = SplitSpec(kind="leave_one_out")


def by_raw_id(data, prepared, sequences, part="items"):
    users = pq.read_table(prepared.folder / "users.parquet").column("id").to_pylist()
    rows = getattr(sequences, part)
    return {users[user - 1]: [data.item_ids[i] for i in rows[row]] for row, user in enumerate(sequences.users)}


@pytest.mark.parametrize("kind", ["user_disjoint", "leave_one_out"])
def test_what_a_trial_sees_is_what_the_split_says(prepared_log, kind):
    prepared = prepared_log(random_log(1, events=600, items=80))
    split = split_dataset(prepared, SplitSpec(kind=kind), 4)
    data = load_training_data(split.folder, Protocol(seen_items="keep"))
    train, valid = (in_raw_ids(prepared, split, part) for part in ("train", "valid"))
    assert by_raw_id(data, prepared, data.train) == {user: history for user, (history, _) in train.items()}
    known = set(data.item_ids)
    expected = {u: [i if i in known else "" for i in history] for u, (history, _) in valid.items()}
    assert by_raw_id(data, prepared, data.valid, "histories") == expected
    assert data.fingerprint == split.fingerprint
    counts = np.bincount(data.train.items.values, minlength=data.n_items + 1)
    assert counts.tolist() == data.item_counts.tolist()
    assert data.item_counts[0] == 0 and (np.diff(data.item_counts[1:]) <= 0).all()
    assert data.train.timestamps is not None and len(data.train.timestamps) == len(data.train.items.values)
    assert all(
        (np.diff(data.train.timestamps[a:b]) >= 0).all()
        for a, b in zip(data.train.items.offsets, data.train.items.offsets[1:], strict=False)
    )


def test_arrays_may_be_written_to(prepared_log):
    data = load_training_data(split_dataset(prepared_log(random_log(1)), LEAVE_ONE_OUT, 0).folder, Protocol(seen_items="keep"))
    for array in (data.train.users, data.train.items.values, data.train.timestamps, data.valid.users, data.item_counts):
        assert array.flags.writeable and array.dtype == np.int64


def test_features_and_entities_follow_the_model_indices(prepared_log, raw):
    rows = [("u", "c", 1), ("u", "a", 2), ("v", "a", 3), ("v", "c", 4), ("w", "a", 5), ("w", "b", 1)]
    prepared = prepared_log(rows, with_side_tables(raw))
    split = split_dataset(prepared, LEAVE_ONE_OUT, 0)
    data = load_training_data(split.folder, Rules("keep", candidates="catalogue"))
    assert sorted(data.item_ids) == ["", "a", "b", "c", "nobody", "z"]
    assert data.item_ids[1] == "a" and set(data.item_ids[4:]) == {"nobody", "z"}

    def values(name: str) -> dict[str, list[str]]:
        feature = data.item_features[name]
        assert len(feature.values) == data.n_items + 1
        return {i: [feature.names[v - 1] for v in feature.values[n]] for n, i in enumerate(data.item_ids)}

    assert set(data.item_features) == {"brand", "tags", "price", "genre"}
    none = {"": [], "c": [], "nobody": []}
    assert values("brand") == none | {"a": ["x"], "b": [], "z": ["y"]}
    assert values("tags") == none | {"a": ["p", "q"], "b": [], "z": ["q"]}
    assert values("genre") == none | {"a": ["Drama"], "b": [], "z": ["Drama", "War"]}
    assert values("price") == none | {"a": ["1: 1.5 to 5.25"], "b": [], "z": ["2: 5.25 to 9"]}
    entities = ["", *pq.read_table(prepared.folder / "entities.parquet").column("id").to_pylist()]
    assert data.graph is not None
    found = {i: entities[e] for i, e in zip(data.item_ids, data.graph.item_entity, strict=True)}
    assert found == {"": "", "a": "e1", "b": "lonely", "c": "", "nobody": "e9", "z": "e2"}
    assert (data.graph.n_entities, data.graph.n_relations, len(data.graph.heads)) == (6, 2, 3)


def test_the_catalogue_adds_described_items_and_not_those_of_held_out_users(prepared_log, raw):
    rows = [(f"u{n}", item, k) for n in range(30) for k, item in enumerate(("a", "b", f"own{n}"))]
    split = split_dataset(prepared_log(rows, with_side_tables(raw)), SplitSpec(kind="user_disjoint"), 0)
    small, large = (load_training_data(split.folder, Rules("keep", candidates=c)) for c in ("vocabulary", "catalogue"))
    assert large.item_ids[: small.n_items + 1] == small.item_ids
    assert set(large.item_ids[small.n_items + 1 :]) == {"z", "nobody"}
    assert large.item_counts[small.n_items + 1 :].tolist() == [0, 0]
    assert small.n_items == 2 + 24


def test_cases_are_counted_without_opening_the_vault(prepared_log):
    split = split_dataset(prepared_log(random_log(2, events=400, items=60)), SplitSpec(kind="user_disjoint"), 0)
    for rules in (Rules("exclude"), Rules("keep", unknown_targets="drop"), Rules("exclude", targets="next")):
        counts = case_counts(split.folder, rules)
        assert not (split.folder / "vault" / "openings.jsonl").exists()
        assert counts["valid"].cases == len(load_training_data(split.folder, rules).valid)
    cases = open_vault(split.folder, rules, model="m", seed=0, by="test", sweep="s", fingerprint=split.fingerprint)
    assert counts["test"].cases == len(cases)
    assert counts["test"].targets == len(cases.targets.values)


def test_loading_never_looks_into_the_vault(prepared_log, monkeypatch):
    split = split_dataset(prepared_log(random_log(3)), LEAVE_ONE_OUT, 0)
    opened: list[str] = []
    for module in (builtins, io):
        real = module.open
        monkeypatch.setattr(module, "open", lambda file, *a, _real=real, **k: opened.append(str(file)) or _real(file, *a, **k))
    real_table = pq.read_table
    monkeypatch.setattr(pq, "read_table", lambda source, *a, **k: opened.append(str(source)) or real_table(source, *a, **k))
    (split.folder / "vault").chmod(0)
    try:
        load_training_data(split.folder, Protocol(seen_items="exclude"))
        case_counts(split.folder, Protocol(seen_items="exclude"))
    finally:
        (split.folder / "vault").chmod(0o700)
    assert any(name.endswith("train.parquet") for name in opened)
    assert not [name for name in opened if "vault" in name]


def test_no_split_is_the_users_mistake(tmp_path):
    with pytest.raises(DataError, match="No split"):
        load_training_data(tmp_path, Protocol(seen_items="keep"))


@pytest.mark.fidelity("D5")
def test_protocol_fingerprints_tell_protocols_and_splits_apart():
    base = Protocol(seen_items="exclude")
    made = {
        protocol_fingerprint("s", base),
        protocol_fingerprint("s", Protocol(seen_items="keep")),
        protocol_fingerprint("s", Protocol(seen_items="exclude", cutoffs=[10, 20, 50])),
        protocol_fingerprint("t", base),
    }
    assert len(made) == 4
    assert protocol_fingerprint("s", Protocol(seen_items="exclude")) in made


def test_results_of_an_every_next_that_kept_unknown_histories_are_of_another_protocol():
    """Fingerprints of all other protocols are made as they were."""
    for targets, unknown in product(("rest", "next", "every_next"), ("miss", "drop")):
        said = Protocol(seen_items="keep", targets=targets, unknown_targets=unknown)
        before = fingerprint("protocol", RULES_VERSION, "s", said)
        assert (protocol_fingerprint("s", said) != before) == (targets == "every_next" and unknown == "drop")


@pytest.mark.fidelity("D2")
def test_histories_end_before_targets(prepared_log):
    rows = random_log(5, events=500)
    prepared = prepared_log(rows)
    for kind in ("user_disjoint", "leave_one_out"):
        split = split_dataset(prepared, SplitSpec(kind=kind), 0)
        for path in (split.folder / "valid.parquet", split.folder / "vault" / "test.parquet"):
            table = pq.read_table(path).to_pandas()
            last = table[~table.target].groupby("user").timestamp.max()
            first = table[table.target].groupby("user").timestamp.min()
            assert (last <= first).all() and len(last) == len(first) == len(read_raw_cases(path).users)


def test_loading_is_quick(prepared_log):
    split = split_dataset(prepared_log(random_log(6, events=100_000, users=1000, items=1500)), LEAVE_ONE_OUT, 0)
    load_training_data(split.folder, Protocol(seen_items="exclude"))
    start = time.process_time()
    load_training_data(split.folder, Protocol(seen_items="exclude"))
    assert time.process_time() - start < 0.6  # measured: 0.03 s


def test_a_split_without_cases_is_refused_and_says_why(prepared_log):
    few = prepared_log([(f"u{user}", f"i{(user + at) % 7}", at) for user in range(8) for at in range(5)])
    with pytest.raises(DataError, match=r"no validation case\.\n"):
        check_cases(split_dataset(few, SplitSpec(kind="user_disjoint"), 0), Rules("exclude"))
    again = split_dataset(prepared_log([(user, "only", at) for user in "abcd" for at in range(4)]), LEAVE_ONE_OUT, 0)
    with pytest.raises(DataError, match="no validation case: 4 had only targets that their history holds"):
        check_cases(again, Rules("exclude"))
    check_cases(again, Rules("keep"))
