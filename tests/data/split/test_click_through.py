from __future__ import annotations

import hashlib
import json
from collections import defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from benchbed.data.cases import Rules
from benchbed.data.load import case_counts, load_training_data
from benchbed.data.prepare import prepare
from benchbed.data.split.make import split_dataset
from benchbed.data.split.spec import SplitSpec
from benchbed.data.vault import open_vault
from benchbed.errors import DataError

from ..conftest import make_card

SPEC = SplitSpec(kind="click_through")
RULES = Rules("keep", candidates="catalogue", mode="click_through")


def ids(prepared, table):
    return ["", *pq.read_table(prepared.folder / f"{table}.parquet").column("id").to_pylist()]


def opened(split, rules=RULES):
    return open_vault(split.folder, rules, model="m", seed=0, by="test", sweep="s", fingerprint=split.fingerprint)


def rows_of(prepared, split):
    """Every labelled row as it reaches training and evaluation: part -> {(user, item): label}, in raw ids."""
    data, test = load_training_data(split.folder, RULES), opened(split)
    users = ids(prepared, "users")
    found = {"train": {}, "valid": {}, "test": {}}
    assert data.labelled is not None
    for user, item, label in zip(data.labelled.users, data.labelled.items, data.labelled.labels, strict=True):
        found["train"][users[user], data.item_ids[item]] = int(label)
    for part, cases in (("valid", data.valid), ("test", test)):
        for values, label in ((cases.targets, 1), (cases.others, 0)):
            for row, item in zip(values.row_of_value, values.values, strict=True):
                found[part][users[cases.users[row]], data.item_ids[item]] = label
    return found


@pytest.fixture
def log():
    rng = np.random.default_rng(3)
    return [(f"u{rng.integers(40)}", f"i{rng.integers(80)}", int(rng.integers(200))) for _ in range(700)]


@pytest.mark.fidelity("M11")
def test_rows_are_pooled_drawn_before_the_split_and_divided_6_2_2(prepared_log, log):
    prepared = prepared_log(log)
    split = split_dataset(prepared, SPEC, 1)
    parts = rows_of(prepared, split)
    everything = {pair: label for rows in parts.values() for pair, label in rows.items()}
    positives = {(user, item) for user, item, *_ in log}
    assert {pair for pair, label in everything.items() if label} == positives
    assert len(everything) == sum(map(len, parts.values())) == 2 * len(positives)
    per_user = defaultdict(lambda: [0, 0])
    for (user, _), label in everything.items():
        per_user[user][label] += 1
    assert all(negatives == events for negatives, events in per_user.values())
    n = len(everything)
    assert [len(rows) for rows in parts.values()] == [n - 2 * (n * 2 // 10), n * 2 // 10, n * 2 // 10]
    for part, rows in parts.items():
        counts = split.audit["counts"]
        assert (counts[f"{part}_positives"], counts[f"{part}_negatives"]) == (
            sum(rows.values()),
            len(rows) - sum(rows.values()),
        )


def test_division_is_that_of_a_hash_of_seed_and_raw_ids(prepared_log, log):
    prepared = prepared_log(log)
    parts = rows_of(prepared, split_dataset(prepared, SPEC, 9))
    pairs = [pair for rows in parts.values() for pair in rows]
    ordered = sorted(pairs, key=lambda pair: hashlib.md5("\x1f".join(("9", "part", *pair)).encode()).hexdigest())
    assert set(ordered[: len(parts["train"])]) == set(parts["train"])
    assert set(ordered[-len(parts["test"]) :]) == set(parts["test"])


def test_histories_are_the_positives_of_the_parts_before(prepared_log, log):
    prepared = prepared_log(log)
    split = split_dataset(prepared, SPEC, 0)
    data, test, parts = load_training_data(split.folder, RULES), opened(split), rows_of(prepared, split)
    users = ids(prepared, "users")

    def positives(*names):
        found = defaultdict(set)
        for name in names:
            for (user, item), label in parts[name].items():
                found[user] |= {item} if label else set()
        return found

    for cases, known in ((data.valid, positives("train")), (test, positives("train", "valid"))):
        assert len(cases) > 30
        for row, user in enumerate(cases.users):
            assert {data.item_ids[i] for i in cases.histories[row]} == known[users[user]]
    trained = {users[user]: {data.item_ids[i] for i in data.train.items[row]} for row, user in enumerate(data.train.users)}
    assert trained == {user: items for user, items in positives("train").items() if items}


def test_the_order_of_the_log_does_not_matter_and_seeds_do(prepared_log, log):
    prepared, turned = prepared_log(log), prepared_log(log[::-1])
    one, two, other = (split_dataset(p, SPEC, seed) for p, seed in ((prepared, 0), (turned, 0), (prepared, 1)))
    assert rows_of(prepared, one) == rows_of(turned, two)
    assert rows_of(prepared, one)["train"] != rows_of(prepared, other)["train"]
    negatives = [
        {pair for rows in rows_of(prepared, split).values() for pair, label in rows.items() if not label}
        for split in (one, other)
    ]
    assert negatives[0] != negatives[1]


def test_a_log_without_times_needs_no_order(prepared_log):
    rows = [(f"u{n % 7}", f"i{n * n % 31}") for n in range(60)]
    prepared = prepared_log(rows, columns={"user": 0, "item": 1})
    assert load_training_data(split_dataset(prepared, SPEC, 0).folder, RULES).train.timestamps is None
    assert any("Only click_through" in told and "needs no order" in told for told in prepared.audit["warnings"])
    load_training_data(split_dataset(prepared, SPEC, 2**63 - 1).folder, RULES)


def test_who_has_most_items_gets_fewer_negatives_and_is_counted(prepared_log):
    rows = [("greedy", f"i{n}", n) for n in range(8)] + [("modest", f"i{n}", n) for n in range(6, 10)] * 2
    prepared = prepared_log(rows)
    split = split_dataset(prepared, SplitSpec(kind="click_through", ratios=(1, 1, 1)), 0)
    parts = rows_of(prepared, split)
    labels = {pair: label for rows in parts.values() for pair, label in rows.items()}
    assert {item for (user, item), label in labels.items() if user == "greedy" and not label} == {"i8", "i9"}
    counts = split.audit["counts"]
    assert (counts["users_with_fewer_negatives"], counts["negatives_missing"], counts["repeated_events"]) == (1, 6, 4)
    told = " ".join(split.audit["warnings"])
    assert "6 negatives fewer" in told and "4 events repeat" in told


def low_ratings_of(prepared):
    users, items = ids(prepared, "users"), ids(prepared, "items")
    rows = pq.read_table(prepared.folder / "low_rated.parquet").to_pylist()
    return {(users[row["user"]], items[row["item"]]) for row in rows}


RATED = {"columns": {"user": 0, "item": 1, "rating": 2}, "clean": {"min_rating": 4}}


@pytest.mark.fidelity("M11")
def test_what_a_user_rated_low_is_no_negative(prepared_log):
    rng = np.random.default_rng(1)
    rows = [(f"u{n % 20:02d}", f"i{rng.integers(40):02d}", int(rng.integers(1, 6))) for n in range(500)]
    prepared = prepared_log(rows, **RATED)
    positives = {(user, item) for user, item, rating in rows if rating >= 4}
    left = {role: {pair[place] for pair in positives} for place, role in enumerate(("users", "items"))}
    low = {(user, item) for user, item, _ in rows if user in left["users"] and item in left["items"]} - positives
    assert low and low_ratings_of(prepared) == low
    split = split_dataset(prepared, SPEC, 0)
    labels = {pair: label for rows in rows_of(prepared, split).values() for pair, label in rows.items()}
    assert not low & labels.keys() and {pair for pair, label in labels.items() if label} == positives
    assert split.audit["counts"]["low_rated_pairs"] == len(low)
    assert any(f"{len(low)} pairs of user and item were rated below" in told for told in split.audit["warnings"])


def test_low_ratings_leave_too_few_items_and_no_trace_where_there_are_none(prepared_log):
    rows = [("u", f"i{n}", 5 if n < 3 else 1) for n in range(8)] + [("v", f"i{n}", 5) for n in range(3, 10)]
    split = split_dataset(prepared_log(rows, **RATED), SPEC, 0)
    counts = split.audit["counts"]  # u may get i8 and i9, v the first three
    assert (counts["users_with_fewer_negatives"], counts["negatives_missing"]) == (2, 1 + 4)
    assert any("or low ratings of too many" in told for told in split.audit["warnings"])
    plain = prepared_log([row for row in rows if row[2] > 3], **RATED)
    assert not (plain.folder / "low_rated.parquet").exists()
    assert "low_rated_pairs" not in split_dataset(plain, SPEC, 0).audit["counts"]


def test_low_ratings_are_in_no_fingerprint_and_are_kept_by_preparing_again(raw, workspace):
    (raw / "log.tsv").write_text("".join(f"u{n % 9}\ti{n * n % 31}\t{n % 5 + 1}\n" for n in range(200)))
    card = make_card(**RATED)
    new = prepare(card, workspace, raw)
    # As an earlier version has left it.
    manifest = json.loads((new.folder / "manifest.json").read_text())
    del manifest["low_rated"], manifest["sizes"]["low_rated.parquet"]
    (new.folder / "manifest.json").write_text(json.dumps(manifest))
    (new.folder / "low_rated.parquet").unlink()
    old = prepare(card, workspace)
    split_dataset(old, SplitSpec(kind="leave_one_out", ties="file"), 0)
    with pytest.raises(DataError, match=r"before benchbed kept the pairs that min_rating drops(.|\n)*--raw DIR"):
        split_dataset(old, SPEC, 0)
    again = prepare(card, workspace, raw)
    assert low_ratings_of(again) and again.fingerprint == old.fingerprint == new.fingerprint
    assert split_dataset(again, SPEC, 0).audit["counts"]["low_rated_pairs"] == again.manifest["low_rated"] > 0


def test_counts_are_known_without_opening_the_vault(prepared_log):
    prepared = prepared_log([(f"u{n % 23}", f"i{n * n % 97}", n) for n in range(150)])
    split = split_dataset(prepared, SPEC, 2)
    assert any(split.audit["counts"][f"{part}_users_without_positives"] for part in ("valid", "test"))
    for rules in (RULES, Rules("keep", mode="click_through"), Rules("keep", "vocabulary", "drop", mode="click_through")):
        counts = case_counts(split.folder, rules)
        for part, cases in (("valid", load_training_data(split.folder, rules).valid), ("test", opened(split, rules))):
            known = [int((rows.values > 0).sum()) for rows in (cases.targets, cases.others)]
            every = [len(rows.values) for rows in (cases.targets, cases.others)]
            found = counts[part]
            told = known if rules.unknown_targets == "drop" else every
            assert [found.targets, found.negatives] == told and found.cases == len(cases)
            assert [found.unknown_targets, found.unknown_negatives] == [a - b for a, b in zip(every, known, strict=True)]
    data = load_training_data(split.folder, RULES)
    assert all((rows.values > 0).all() for rows in (data.valid.targets, data.valid.others, data.valid.histories))
    assert (data.labelled.items > 0).all() and data.n_items == len(ids(prepared, "items")) - 1


def test_full_ranking_takes_the_positives_of_the_same_split(prepared_log, log):
    split = split_dataset(prepared_log(log), SPEC, 0)
    data = load_training_data(split.folder, Rules("exclude"))
    assert data.valid.others is None and (data.valid.targets.lengths > 0).all()
    assert len(data.valid) == case_counts(split.folder, Rules("exclude"))["valid"].cases
    positives = split.audit["counts"]["valid_positives"]
    assert len(data.valid.targets.values) == positives


def test_other_splits_have_no_labelled_rows(prepared_log, log):
    split = split_dataset(prepared_log(log), SplitSpec(kind="leave_one_out"), 0)
    assert load_training_data(split.folder, Rules("keep")).labelled is None
    for use in (load_training_data, case_counts):
        with pytest.raises(DataError, match=r"no labelled rows.*\n.*kind: click_through"):
            use(split.folder, RULES)


def test_ratios_are_of_rows_and_other_keys_are_refused():
    assert SPEC.parts == (6, 2, 2)
    assert SplitSpec(kind="click_through", ratios=(6, 2, 2)).split_id(1) == SPEC.split_id(1)
    with pytest.raises(ValidationError, match="with click_through it would change nothing"):
        SplitSpec(kind="click_through", input_fraction=0.5)


def test_negatives_are_spread_evenly(prepared_log):
    """With 40 items, 4 of them its own, each of the others is a user's negative with probability 4 / 36."""
    rows = [(f"u{n:03d}", f"i{(n + k * k) % 40:02d}", k) for n in range(400) for k in (0, 1, 2, 3)]
    prepared = prepared_log(rows)
    parts = rows_of(prepared, split_dataset(prepared, SPEC, 0))
    drawn = [item for rows in parts.values() for (_, item), label in rows.items() if not label]
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(counts) == 40
    # Of each item 360 users draw 4 of 36: 40 times on average, with a standard deviation of 6 at most.
    assert abs(counts - 40).max() < 26 and ((counts - 40) ** 2).mean() < 60
