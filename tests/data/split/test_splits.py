from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from benchbed.data.prepare import Prepared, prepare
from benchbed.data.split.make import PreparedSplit, split_dataset
from benchbed.data.split.spec import SplitSpec
from benchbed.errors import DataError

from ..conftest import make_card
from ..test_prepare import random_log

KINDS = ("user_disjoint", "leave_one_out")


def md5(*parts: object) -> str:
    return hashlib.md5("\x1f".join(map(str, parts)).encode()).hexdigest()


def in_raw_ids(prepared: Prepared, split: PreparedSplit, part: str) -> dict[str, tuple[list[str], list[str]]]:
    """User -> (history, targets); training sequences have no targets."""
    path = split.folder / ("vault" if part == "test" else "") / f"{part}.parquet"
    users = {row["index"]: row["id"] for row in pq.read_table(prepared.folder / "users.parquet").to_pylist()}
    items = {row["index"]: row["id"] for row in pq.read_table(prepared.folder / "items.parquet").to_pylist()}
    found: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for row in pq.read_table(path).to_pylist():
        found[users[row["user"]]][bool(row.get("target"))].append(items[row["item"]])
    return dict(found)


def sequences(rows: list[tuple[str, str, int]], seed: int) -> dict[str, list[str]]:
    """Every user's items, oldest first, ties by hash; by brute force."""
    found: dict[str, list[str]] = {}
    for user in {row[0] for row in rows}:
        events = [(t, md5(seed, user, item), item) for u, item, t in rows if u == user]
        found[user] = [item for *_, item in sorted(events)]
    return found


def all_parts(prepared: Prepared, split: PreparedSplit):
    return {part: in_raw_ids(prepared, split, part) for part in ("train", "valid", "test")}


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_no_split_can_be_drawn_by_are_refused(seed):
    for kind in ("user_disjoint", "click_through", "temporal"):
        with pytest.raises(ValidationError, match=f"{seed} is no seed of a split; give whole numbers from 0 to"):
            SplitSpec(kind=kind, seeds=(seed,))
    assert SplitSpec(kind="click_through", seeds=(0, 2**63 - 1)).seeds == (0, 2**63 - 1)


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("fraction", [None, 0.5, 0.1, 0.999])
@pytest.mark.fidelity("D2")
def test_user_disjoint_equals_brute_force(prepared_log, seed, fraction):
    rows = random_log(seed, events=400, users=43)
    prepared = prepared_log(rows)
    spec = SplitSpec(kind="user_disjoint", ratios=(7, 2, 1), input_fraction=fraction)
    made = all_parts(prepared, split_dataset(prepared, spec, seed))
    ordered = sequences(rows, seed)
    users = sorted(ordered, key=lambda user: md5(seed, user))
    n_valid, n_test = len(users) * 2 // 10, len(users) // 10
    n_train = len(users) - n_valid - n_test
    assert made["train"] == {user: (ordered[user], []) for user in users[:n_train]}
    share = Fraction(str(fraction or 0.8))
    for part, held_out in (("valid", users[n_train : n_train + n_valid]), ("test", users[n_train + n_valid :])):
        expected = {}
        for user in held_out:
            n = len(ordered[user])
            cut = max(1, min(n - 1, share.numerator * n // share.denominator))
            if n >= 2:
                expected[user] = (ordered[user][:cut], ordered[user][cut:])
        assert made[part] == expected


@pytest.mark.parametrize("seed", [0, 7])
def test_leave_one_out_equals_brute_force(prepared_log, seed):
    rows = random_log(seed, events=120, users=40)
    prepared = prepared_log(rows)
    split = split_dataset(prepared, SplitSpec(kind="leave_one_out"), seed)
    ordered = sequences(rows, seed)
    lengths = Counter(len(events) for events in ordered.values())
    assert lengths[1] and lengths[2] and lengths[3]
    long = {user: events for user, events in ordered.items() if len(events) >= 3}
    short = {user: events for user, events in ordered.items() if len(events) < 3}
    made = all_parts(prepared, split)
    assert made["train"] == {user: (events[:-2], []) for user, events in long.items()} | {u: (e, []) for u, e in short.items()}
    assert made["valid"] == {user: (events[:-2], events[-2:-1]) for user, events in long.items()}
    assert made["test"] == {user: (events[:-1], events[-1:]) for user, events in long.items()}
    assert split.manifest["counts"] == {"evaluated_users": len(long), "users_with_fewer_than_three_events": len(short)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.fidelity("D3")
def test_the_order_of_the_log_plays_no_part_under_hash_ties(prepared_log, kind):
    rows = random_log(4, events=500)
    assert len({(u, t) for u, _, t in rows}) < len(rows)
    made = []
    for shuffle in (None, 1, 2):
        if shuffle is not None:
            random.Random(shuffle).shuffle(rows)
        prepared = prepared_log(rows)
        split = split_dataset(prepared, SplitSpec(kind=kind), 3)
        vocabulary = pq.read_table(split.folder / "vocabulary.parquet").to_pylist()
        made.append((all_parts(prepared, split), vocabulary))
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize("total", [10, 19, 33, 100])
@pytest.mark.fidelity("D1")
def test_parts_of_users_are_disjoint_and_as_large_as_the_ratios_say(prepared_log, total):
    prepared = prepared_log([(f"u{u}", f"i{k}", k) for u in range(total) for k in range(3)])
    split = split_dataset(prepared, SplitSpec(kind="user_disjoint"), 0)
    made = all_parts(prepared, split)
    for part, share in (("train", 0.8), ("valid", 0.1), ("test", 0.1)):
        assert abs(len(made[part]) - total * share) < (2 if part == "train" else 1)
    assert sum(map(len, made.values())) == len(set().union(*made.values())) == total
    assert set(split.audit["shared_users"].values()) == {0}


@pytest.mark.fidelity("D5")
def test_another_seed_divides_the_users_otherwise(prepared_log):
    prepared = prepared_log([(f"u{u}", f"i{k}", k) for u in range(60) for k in range(3)])
    tested = [
        frozenset(all_parts(prepared, split_dataset(prepared, SplitSpec(kind="user_disjoint"), s))["test"]) for s in range(5)
    ]
    assert len(set(tested)) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_the_vocabulary_comes_from_training_events_alone(prepared_log, kind):
    rows = random_log(6, events=300, users=30, items=200)
    prepared = prepared_log(rows)
    split = split_dataset(prepared, SplitSpec(kind=kind), 5)
    counts = Counter(item for history, _ in in_raw_ids(prepared, split, "train").values() for item in history)
    expected = sorted(counts, key=lambda item: (-counts[item], md5(5, item)))
    found = pq.read_table(split.folder / "vocabulary.parquet").to_pylist()
    assert [(row["index"], row["id"], row["count"]) for row in found] == [(n + 1, i, counts[i]) for n, i in enumerate(expected)]
    assert len(counts) < len({row[1] for row in rows})


@pytest.mark.fidelity("D3")
def test_ties_by_file_follow_the_log(prepared_log):
    rows = [("u", item, 5) for item in "dbac"] + [("u", "e", 1)]
    prepared = prepared_log(rows)
    made = all_parts(prepared, split_dataset(prepared, SplitSpec(kind="leave_one_out", ties="file"), 0))
    assert made["test"]["u"] == (["e", "d", "b", "a"], ["c"])


@pytest.mark.parametrize("timed", [True, False])
def test_ties_by_a_column_follow_its_numbers(prepared_log, timed):
    rows = [("u", item, 5, place) for item, place in zip("dbac", (10, 9, 100, 1), strict=True)]
    columns = {"user": 0, "item": 1, "extra": {"place": {"column": 3}}} | ({"timestamp": 2} if timed else {})
    prepared = prepared_log(rows, columns=columns, log={})
    made = all_parts(prepared, split_dataset(prepared, SplitSpec(kind="leave_one_out", ties="column: place"), 0))
    assert made["test"]["u"] == (["c", "b", "d"], ["a"])


def test_a_log_without_times_wants_another_order(prepared_log):
    prepared = prepared_log([("u", "b"), ("u", "a"), ("u", "c")], columns={"user": 0, "item": 1}, log={})
    with pytest.raises(DataError, match=r"(?s)no timestamps.*ties: file"):
        split_dataset(prepared, SplitSpec(kind="leave_one_out"), 0)
    made = all_parts(prepared, split_dataset(prepared, SplitSpec(kind="leave_one_out", ties="file"), 0))
    assert made["test"]["u"] == (["b", "a"], ["c"])


def test_a_column_that_is_absent_or_text_is_refused(prepared_log):
    extra = {"place": {"column": 2}, "word": {"column": 3, "kind": "text"}}
    prepared = prepared_log([("u", "a", 1, "x")] * 3, columns={"user": 0, "item": 1, "extra": extra}, log={})
    with pytest.raises(DataError, match="Did you mean 'place'"):
        split_dataset(prepared, SplitSpec(kind="leave_one_out", ties="column: plaice"), 0)
    with pytest.raises(DataError, match="kind: number"):
        split_dataset(prepared, SplitSpec(kind="leave_one_out", ties="column: word"), 0)


@pytest.mark.fidelity("D5")
def test_a_split_is_made_once_and_anew_when_the_data_changed(raw, workspace):
    spec = SplitSpec(kind="leave_one_out")
    (raw / "log.tsv").write_text("u\ta\t1\nu\tb\t2\nu\tc\t3\n")
    first = split_dataset(prepare(make_card(), workspace, raw), spec, 1)
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    again = split_dataset(prepare(make_card(), workspace, raw), spec, 1)
    assert again.fingerprint == first.fingerprint
    assert {path: path.stat().st_mtime_ns for path in again.folder.rglob("*")} == before
    assert split_dataset(prepare(make_card(), workspace, raw), spec, 2).split_id != first.split_id
    (raw / "log.tsv").write_text("u\ta\t1\nu\tb\t2\nu\td\t3\n")
    assert split_dataset(prepare(make_card(), workspace, raw), spec, 1).fingerprint != first.fingerprint


def test_a_half_made_split_is_made_again(prepared_log):
    prepared = prepared_log(random_log(1))
    spec = SplitSpec(kind="user_disjoint")
    split = split_dataset(prepared, spec, 1)
    split.folder.rename(split.folder.with_name(f".{split.split_id}.building"))
    (split.folder.with_name(f".{split.split_id}.building") / "manifest.json").unlink()
    again = split_dataset(prepared, spec, 1)
    assert again.fingerprint == split.fingerprint
    assert [path.name for path in (prepared.folder / "splits").iterdir()] == [again.split_id]


def test_too_small_a_log_is_the_users_mistake(prepared_log):
    prepared = prepared_log([("u", "a", 1)])
    split_dataset(prepared, SplitSpec(kind="leave_one_out"), 0)
    users_alone = SplitSpec(kind="user_disjoint", ratios=(1, 1, 1))
    assert split_dataset(prepared, users_alone, 0).audit["valid"]["cases"] == 0


def test_the_vault_is_shut_to_others(prepared_log):
    split = split_dataset(prepared_log(random_log(1)), SplitSpec(kind="leave_one_out"), 0)
    assert (split.folder / "vault").stat().st_mode & 0o777 == 0o700
    assert not list(split.folder.glob("*test*"))


def brute_audit(rows: list[tuple[str, str, int]], seed: int):
    """The leave-one-out test part, by brute force: ties at the cut, repeats, unknown targets, training events after a cut."""
    events: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
    for user, item, t in rows:
        events[user].append((t, md5(seed, user, item), item))
    ordered = {user: sorted(found) for user, found in events.items()}
    train = [e for found in ordered.values() for e in (found[:-2] if len(found) >= 3 else found)]
    known = {item for *_, item in train}
    long = [found for found in ordered.values() if len(found) >= 3]
    return {
        "cases": len(long),
        "targets": len(long),
        "history_events": sum(len(found) - 1 for found in long),
        "cuts_inside_a_tie_share": np.mean([found[-2][0] == found[-1][0] for found in long]),
        "repeated_targets_share": np.mean([found[-1][2] in {e[2] for e in found[:-1]} for found in long]),
        "unknown_targets_share": np.mean([found[-1][2] not in known for found in long]),
        "training_events_after_cut_share": np.mean([[e[0] > found[-2][0] for e in train] for found in long]),
    }


def test_the_audit_equals_brute_force(prepared_log):
    rows = random_log(9, events=250, users=40, items=60)
    split = split_dataset(prepared_log(rows), SplitSpec(kind="leave_one_out"), 2)
    expected = brute_audit(rows, 2)
    assert split.audit["test"] == pytest.approx(expected)
    assert any("repeat the history" in warning for warning in split.audit["warnings"])


def test_the_audit_counts_what_held_out_users_added_to_the_core(prepared_log):
    rows = random_log(2, events=400, users=40, items=60)
    prepared = prepared_log(rows, clean={"k_core": {"user": 2, "item": 3}})
    split = split_dataset(prepared, SplitSpec(kind="user_disjoint", ratios=(1, 1, 1)), 0)
    made = all_parts(prepared, split)
    trained = Counter(item for history, _ in made["train"].values() for item in history)
    kept = {item for part in made.values() for history, targets in part.values() for item in history + targets}
    assert split.audit["k_core_items_short_in_training"] == sum(trained[item] < 3 for item in kept)
    assert split.audit["k_core_items_short_in_training"] > 0


def test_partial_history_has_the_same_cases_and_trains_on_their_histories(prepared_log):
    prepared = prepared_log(random_log(4, events=300, users=40, items=60))
    made = {
        kind: all_parts(prepared, split_dataset(prepared, SplitSpec(kind=kind, ratios=(2, 1, 1)), 5))
        for kind in ("user_disjoint", "partial_history")
    }
    for part in ("valid", "test"):
        assert made["partial_history"][part] == made["user_disjoint"][part]
        for user, (history, _) in made["partial_history"][part].items():
            assert user not in made["user_disjoint"]["train"]
            assert made["partial_history"]["train"][user][0] == history
    for user, events in made["user_disjoint"]["train"].items():
        assert made["partial_history"]["train"][user] == events


def test_the_place_in_the_log_is_no_column_of_it(prepared_log):
    """It orders ties under `file`; as a column it would make the newest row of all the only test case."""
    prepared = prepared_log(random_log(4))
    with pytest.raises(DataError, match="does not have"):
        split_dataset(prepared, SplitSpec(kind="leave_one_out", test="column: row"), 0)
