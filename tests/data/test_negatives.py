"""Negatives that came with the data, and drawn ones: reader, table, split and cases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from benchbed.data.card import Card
from benchbed.data.cases import Rules, make_cases
from benchbed.data.dataset import Ragged
from benchbed.data.drawing import draw, stream
from benchbed.data.load import check_cases, load_training_data, sampled_validation
from benchbed.data.prepare import Prepared, prepare
from benchbed.data.raw_cases import RawCases, Vocabulary, read_cases
from benchbed.data.split.make import PreparedSplit, split_dataset
from benchbed.data.split.spec import SplitSpec
from benchbed.data.vault import open_vault
from benchbed.errors import DataError
from benchbed.workspace import Workspace

from .conftest import LOG, make_card

TRAIN = "u\ta\t3\nu\tb\t1\nu\tc\t1\nv\ta\t2\nv\td\t1\nw\ta\t9\nx\tb\t1\nx\tc\t1\n"
TEST = "u\td\t1\nv\tb\t1\nw\tc\t1\nnew\ta\t1\n"
LISTED = "(u,d)\te\tf\ta\td\n(v,b)\tc\te\te\tf\t\r\n\n(w,c)\tb\tf\n(new,a)\tb\tc\n(gone,a)\tb\tc\n(u,b)\te\tg\n"
SPEC = SplitSpec(kind="leave_one_out", test="column: part", ties="hash")
SHIPPED = Rules("keep", "catalogue", mode="sampled", negatives="shipped")


def card(**options: Any) -> Card:
    log = {**LOG, "files": ["x.train.rating", "x.test.rating"]}
    columns = {"user": 0, "item": 1, "rating": 2, "extra": {"part": {"kind": "file"}}}
    tables = {"interactions": {**log, "columns": columns}, "negatives": {"reader": "ncf", "files": ["x.test.negative"]}}
    return Card.model_validate({"name": "mine", "tables": tables, "max_rejected": 1, **options})


@pytest.fixture
def prepared(raw: Path, tmp_path: Path):
    def make(listed: str | bytes = LISTED, train: str = TRAIN, test: str = TEST) -> Prepared:
        (raw / "x.train.rating").write_text(train)
        (raw / "x.test.rating").write_text(test)
        (raw / "x.test.negative").write_bytes(listed if isinstance(listed, bytes) else listed.encode())
        return prepare(card(), Workspace.open(tmp_path / "workspace"), raw)

    return make


def named(made: Prepared, name: str) -> list[str]:
    return ["", *pq.read_table(made.folder / f"{name}.parquet").column("id").to_pylist()]


def listed_of(made: Prepared) -> dict[tuple[str, str], list[str]]:
    users, items = named(made, "users"), named(made, "items")
    found: dict[tuple[str, str], list[str]] = {}
    for row in pq.read_table(made.folder / "negatives.parquet").to_pylist():
        found.setdefault((users[row["user"]], items[row["item"]]), []).append(items[row["negative"]])
    return found


def test_lists_follow_the_file_without_repetitions_and_unknown_events(prepared):
    made = prepared()
    assert listed_of(made) == {
        ("u", "d"): ["e", "f", "a", "d"],
        ("v", "b"): ["c", "e", "f"],
        ("w", "c"): ["b", "f"],
        ("new", "a"): ["b", "c"],
        ("u", "b"): ["e", "g"],
    }
    told = {"rows": 16, "kept": 13, "events": 5, "repeated": 1}
    unknown = {"of unknown users": 2, "of unknown events": 0, "of unknown items": 0}
    assert made.manifest["negatives"] == told | unknown
    assert made.manifest["rows"]["negatives"] == {"read": 6, "rejected": 0}
    items = {row["id"]: row["described"] for row in pq.read_table(made.folder / "items.parquet").to_pylist()}
    assert set(items) == set("abcdefg") and items["e"]


def test_the_item_that_a_list_belongs_to_is_not_known_by_it(prepared):
    """Else a target of the test file were a candidate of `candidates: catalogue` because it is a target."""
    test = TEST + "x\tnovel\t1\nw\tother\t1\n"
    made = prepared("(u,d)\te\ta\td\n(x,novel)\te\tnovel\n(w,other)\tf\n(v,nowhere)\te\n", test=test)
    items = {row["id"]: row["described"] for row in pq.read_table(made.folder / "items.parquet").to_pylist()}
    assert {item for item, described in items.items() if described} == {"a", "e", "f"}
    assert set(items) == {*"abcdef", "novel", "other"}
    data = load_training_data(split_dataset(made, SPEC, 0).folder, SHIPPED)
    assert set(data.item_ids[1:]) == set("abcdef")


def test_what_is_left_out_of_the_lists_is_counted_and_told(raw, tmp_path):
    """Of every row of the file it is known what became of it."""
    for name, text in (("x.train.rating", TRAIN), ("x.test.rating", TEST + "only\tb\t1\n")):
        (raw / name).write_text(text)
    (raw / "x.test.negative").write_text(LISTED + "(v,c)\ta\n(v,nowhere)\ta\tb\n(v,rare)\ta\n(only,b)\ta\n(u,d)\trare\n")
    (raw / "x.train.rating").open("a").write("x\trare\t1\n")
    made = prepare(card(clean={"k_core": {"user": 1, "item": 2}}), Workspace.open(tmp_path / "workspace"), raw)
    counts = made.manifest["negatives"]
    # rare is gone from the log by the k-core, and so the negative of that name is no item; v has no event with c nor nowhere.
    assert [counts[f"of unknown {what}"] for what in ("users", "events", "items")] == [2, 4, 1]
    assert counts["kept"] + counts["repeated"] + 7 == counts["rows"] == 22
    assert [made.audit["negatives"][f"of_unknown_{what}"] for what in ("users", "events", "items")] == [2, 4, 1]
    assert any(
        "2 of users without events in the log, 4 of events that are not in the log, 1 that" in w for w in made.audit["warnings"]
    )
    split = split_dataset(made, SPEC, 0)
    assert split.audit["negatives"]["of_events_not_tested"] == 2
    assert any("Not used: 2 shipped negatives of events that this" in w for w in split.audit["warnings"])


def test_negatives_that_are_none_are_counted(prepared):
    made = prepared()
    counts = made.audit["negatives"]
    # (u, d) lists a, which u has, and d itself.
    assert (counts["the_event_itself"], counts["other_events"], counts["events_with_other_events"]) == (1, 1, 1)
    assert (counts["negatives"], counts["events"], counts["fewest"], counts["most"]) == (13, 5, 2, 4)
    assert any("1 lists hold the event's own item" in told for told in made.audit["warnings"])


def test_lines_that_are_no_lists_are_rejected(prepared):
    made = prepared(b"(u,d)\te\tf\n(u,d\te\n(u,d)\n(u,,d)\te\n(u,d)\te\t\tf\nu\td\n(\xff,d)\te\n")
    rows = pq.read_table(made.folder / "rejected.parquet").to_pylist()
    shape, empty = "the first field is not (user,item)", "a negative is empty: two tabs follow one another"
    assert [(row["table"], row["line"], row["reason"]) for row in rows] == [
        ("negatives", 2, shape),
        ("negatives", 3, "no negatives after (user,item)"),
        ("negatives", 4, shape),
        ("negatives", 5, empty),
        ("negatives", 6, shape),
        ("negatives", 7, "bytes that are not utf-8"),
    ]
    assert listed_of(made) == {("u", "d"): ["e", "f"]}


def test_the_reader_is_for_negatives_alone():
    with pytest.raises(ValidationError, match="the reader ncf is for negatives, not for interactions"):
        make_card({"reader": "ncf"})
    assert "negatives" not in make_card().rules()["tables"]


def test_negatives_may_be_a_table_of_columns(raw, workspace):
    (raw / "log.tsv").write_text("u\ta\t1\nu\tb\t2\n")
    (raw / "n.csv").write_text("who,what,not\nu,b,c\nu,b,d\n")
    columns = {"user": "who", "item": "what", "negative": "not"}
    made = prepare(make_card(tables={"negatives": {"files": ["n.csv"], "columns": columns}}), workspace, raw)
    assert listed_of(made) == {("u", "b"): ["c", "d"]}


def opened(split: PreparedSplit, rules: Rules):
    return open_vault(split.folder, rules, model="m", seed=0, by="test", sweep="s", fingerprint=split.fingerprint)


def in_words(made: Prepared, split: PreparedSplit, cases, ids) -> dict[str, tuple[set[str], list[str], list[str]]]:
    users = named(made, "users")
    parts = (cases.histories, cases.targets, cases.others)
    rows = {users[u]: [[ids[i] for i in part[r]] for part in parts] for r, u in enumerate(cases.users)}
    return {user: (set(history), targets, others) for user, (history, targets, others) in rows.items()}


def test_rows_of_the_test_file_are_targets_and_bring_their_negatives(prepared):
    made = prepared()
    split = split_dataset(made, SPEC, 0)
    data = load_training_data(split.folder, SHIPPED)
    found = in_words(made, split, opened(split, SHIPPED), data.item_ids)
    assert found == {
        "u": ({"a", "b", "c"}, ["d"], ["e", "f"]),  # a and d are dropped
        "v": ({"a", "d"}, ["b"], ["c", "e", "f"]),
        "w": ({"a"}, ["c"], ["b", "f"]),
        "new": (set(), ["a"], ["b", "c"]),
    }
    kept = Rules("keep", "catalogue", mode="sampled", negatives="shipped", flawed_negatives="keep")
    assert in_words(made, split, opened(split, kept), data.item_ids)["u"][2] == ["e", "f", "a", "d"]
    valid = in_words(made, split, data.valid, data.item_ids)
    assert set(valid) == {"u", "v"} and all(len(targets) == 1 for _, targets, _ in valid.values())
    trained = {named(made, "users")[u]: len(data.train.items[r]) for r, u in enumerate(data.train.users)}
    assert trained == {"u": 2, "v": 1, "w": 1, "x": 2}
    for user in valid:
        history, targets, _ = valid[user]
        assert len(history) == trained[user] and not history & set(targets)
    # As many as the longest shipped list has are drawn for validation.
    assert [len(others) for *_, others in valid.values()] == [4, 4]
    counts = split.audit["counts"]
    assert (counts["test_users"], counts["valid_users"], counts["test_users_without_history"]) == (4, 2, 1)
    assert counts["users_without_test_row"] == 1
    assert split.audit["negatives"] == {
        "cases": 4,
        "cases_without": 0,
        "cases_without_sound": 0,
        "negatives": 11,
        "fewest": 2,
        "most": 4,
        "target_itself": 1,
        "cases_with_target_itself": 1,
        "in_history": 1,
        "cases_with_some_in_history": 1,
        "without_training_event": 5,
        "of_events_not_tested": 2,
    }
    assert any("left to chance" in told for told in split.audit["warnings"])


def test_full_ranking_of_that_split_lists_nothing(prepared):
    split = split_dataset(prepared(), SPEC, 0)
    data = load_training_data(split.folder, Rules("keep"))
    assert data.valid.others is None and opened(split, Rules("keep")).others is None


def test_items_outside_the_vocabulary_are_0(prepared):
    split = split_dataset(prepared(), SPEC, 0)
    cases = opened(split, Rules("keep", mode="sampled", negatives="shipped"))
    # e and f have no event at all; u has no other negatives, and so nothing to be compared with.
    assert cases.others is not None and (cases.others.values == 0).sum() == 3
    assert len(cases) == 3 and all((others > 0).any() for others in map(cases.others.__getitem__, range(3)))


def test_chance_must_be_said_and_negatives_must_be_there(prepared, prepared_log):
    made = prepared()
    with pytest.raises(DataError, match=r"no timestamps(.|\n)*`ties: hash` leaves"):
        split_dataset(made, SplitSpec(kind="leave_one_out", test="column: part"), 0)
    split_dataset(made, SplitSpec(kind="leave_one_out", test="column: part", ties="file"), 0)
    split = split_dataset(prepared_log([("u", f"i{n}", n) for n in range(5)]), SplitSpec(kind="leave_one_out"), 0)
    with pytest.raises(DataError, match="ships no negatives"):
        load_training_data(split.folder, SHIPPED)


def test_later_histories_are_told(prepared_log):
    rows = [("u", "a", 1, 1), ("u", "b", 5, 1), ("u", "c", 4, 2), ("v", "a", 1, 1), ("v", "c", 2, 2)]
    extra = {"user": 0, "item": 1, "timestamp": 2, "extra": {"part": {"column": 3}}}
    split = split_dataset(prepared_log(rows, columns=extra), SplitSpec(kind="leave_one_out", test="column: part"), 0)
    assert split.audit["counts"]["test_users_with_later_history"] == 1
    assert any("later than a target" in told for told in split.audit["warnings"])
    assert read_cases(split.folder, "test").targets.lengths.tolist() == [1, 1]


def test_the_column_leaves_other_splits_as_they_were():
    plain = SplitSpec(kind="leave_one_out")
    assert "test" not in plain.identity(0)
    assert SPEC.split_id(0) != SplitSpec(kind="leave_one_out", ties="hash").split_id(0)
    for wrong in ({"kind": "session", "test": "column: part"}, {"kind": "leave_one_out", "test": "part"}):
        with pytest.raises(ValidationError, match=r"belongs to the leave_one_out split|write it as 'column: NAME'"):
            SplitSpec.model_validate(wrong)


# Drawn negatives.


def vocabulary(n: int) -> Vocabulary:
    order = np.random.default_rng(n).permutation(n) + 1
    return Vocabulary(np.concatenate([[0], order]), np.zeros(n + 1, np.int64), ("", *map(str, order)))


def raw_cases(n: int = 50, items: int = 30) -> RawCases:
    rng = np.random.default_rng(1)
    histories = [rng.integers(1, items + 1, rng.integers(0, 9)).tolist() for _ in range(n)]
    targets = [rng.integers(1, items + 1, rng.integers(1, 4)).tolist() for _ in range(n)]
    return RawCases(np.arange(1, n + 1), Ragged.of(histories), Ragged.of(targets), keys=rng.integers(0, 2**62, n))


def drawn_cases(raw: RawCases, chosen: Vocabulary, **rules: Any):
    return make_cases(raw, chosen, Rules("keep", mode="sampled", **rules))[0]


@pytest.mark.parametrize("targets", ["rest", "next", "every_next"])
def test_drawn_negatives_are_candidates_outside_history_and_targets(targets):
    chosen = vocabulary(25)  # five items of the log are no candidates
    cases = drawn_cases(raw_cases(), chosen, negatives=9, targets=targets)
    others = cases.others
    assert others is not None and (others.lengths == 9).all() and len(others) == len(cases)
    assert (others.values > 0).all()
    assert not others.held_by(cases.histories.packed()).any() and not others.held_by(cases.targets).any()
    assert all(len(set(others[row])) == 9 for row in range(len(cases)))
    if targets == "every_next":  # cases of one user do not share their negatives
        same = np.flatnonzero(cases.users[1:] == cases.users[:-1])
        assert len(same) and any(set(others[row]) != set(others[row + 1]) for row in same)


@pytest.mark.parametrize("flawed", ["drop", "keep"])
def test_a_case_without_a_negative_is_no_free_hit_but_left_out_and_counted(flawed):
    """No list, a list that is emptied as flawed, and one of items that are no candidates."""
    listed = Ragged.of([[3, 4], [], [1, 2], [9], [2, 9, 5]])
    raw = RawCases(np.arange(1, 6), Ragged.of([[1]] * 5), Ragged.of([[2], [2], [2], [2], [8]]), negatives=listed)
    chosen = Vocabulary(np.arange(7), np.ones(7, np.int64), ("", *"123456"))
    rules = Rules("keep", mode="sampled", negatives="shipped", flawed_negatives=flawed)
    cases, counts = make_cases(raw, chosen, rules)
    kept = [1, 5] if flawed == "drop" else [1, 3, 5]
    assert cases.users.tolist() == kept and len(cases.others) == len(cases.targets) == len(cases.histories) == len(kept)
    assert (counts.cases, counts.targets, counts.cases_without_negatives) == (len(kept), len(kept), 5 - len(kept))
    assert counts.unknown_targets == 1 and cases.others[len(kept) - 1].tolist() == [2, 0, 5]
    nobody = RawCases(raw.users[1:2], Ragged.of([[1]]), Ragged.of([[2]]), negatives=Ragged.of([[]]))
    with pytest.raises(DataError, match=r"None of the 1 cases(.|\n)*evaluation.negatives: 99"):
        make_cases(nobody, chosen, rules)


def test_where_no_candidate_is_free_nothing_can_be_drawn_and_the_case_is_left_out():
    raw = RawCases(np.array([1, 2]), Ragged.of([[1, 2], [1]]), Ragged.of([[3], [3]]), keys=np.array([5, 6]))
    chosen = Vocabulary(np.arange(4), np.ones(4, np.int64), ("", *"123"))
    cases, counts = make_cases(raw, chosen, Rules("keep", mode="sampled", negatives=9))
    assert cases.users.tolist() == [2] and cases.others[0].tolist() == [2] and counts.cases_without_negatives == 1


def test_validation_cases_without_negatives_are_counted(prepared_log):
    """One user has had everything but the validation target, another all but one more item; three are asked for."""
    rows = [("all", item, k) for k, item in enumerate("bcdae")] + [("most", item, k) for k, item in enumerate("bcae")]
    rows += [(f"u{n}", item, k) for n in range(4) for k, item in enumerate(("ab", "cd", "bc", "da")[n] + "ae")]
    split = split_dataset(prepared_log(rows), SplitSpec(kind="leave_one_out"), 0)
    rules = Rules("keep", mode="sampled", negatives=2)
    found = sampled_validation(split.folder, rules)
    data = load_training_data(split.folder, rules)
    lengths = data.valid.others.lengths
    assert found["cases"] == len(data.valid) and found["wanted_negatives"] == 2
    assert found["cases_without_negatives"] == 6 - len(data.valid) > 0
    assert found["cases_with_fewer_negatives"] == (lengths < 2).sum() > 0 and found["fewest_negatives"] == lengths.min() == 1


def test_cases_without_shipped_negatives_are_told_when_the_split_is_made(prepared):
    listed = "(u,d)\ta\td\n(w,c)\tb\tf\n(new,a)\tb\tc\n"  # v has no line, u but flawed ones
    split = split_dataset(prepared(listed), SPEC, 0)
    assert (split.audit["negatives"]["cases_without"], split.audit["negatives"]["cases_without_sound"]) == (1, 2)
    assert any("left out by `negatives: shipped`: 1 of 4 test cases" in told for told in split.audit["warnings"])
    assert any("4 test cases 1 more have none that is sound" in told for told in split.audit["warnings"])
    assert len(opened(split, SHIPPED)) == 2
    check_cases(split, SHIPPED)
    nothing = split_dataset(prepared("(u,d)\ta\td\n"), SPEC, 0)
    with pytest.raises(DataError, match=r"none of its 4 test cases has a sound negative"):
        check_cases(nothing, SHIPPED)
    check_cases(nothing, replace(SHIPPED, flawed_negatives="keep"))


def test_drawn_negatives_depend_on_seed_and_raw_ids_alone():
    raw, chosen = raw_cases(), vocabulary(30)
    cases = drawn_cases(raw, chosen, negatives=5)
    items = chosen.items[cases.others.values]
    other_order = Vocabulary(np.concatenate([[0], chosen.items[:0:-1]]), chosen.counts, chosen.ids)
    again = drawn_cases(raw, other_order, negatives=5)
    assert items.tolist() == other_order.items[again.others.values].tolist()
    fewer = RawCases(raw.users[:9], raw.histories.take(np.arange(9)), raw.targets.take(np.arange(9)), keys=raw.keys[:9])
    assert drawn_cases(fewer, chosen, negatives=5).others.values.tolist() == cases.others.values[:45].tolist()
    assert drawn_cases(raw, chosen, negatives=5, seed=1).others.values.tolist() != cases.others.values.tolist()


def test_another_user_changes_nobodys_negatives(prepared_log):
    rows = [(f"u{n}", f"i{(7 * n + 3 * k) % 19}", k) for n in range(30) for k in range(4)]
    found = []
    for log in (rows, [*rows, *(("a first one", f"i{k}", k) for k in (3, 5, 8))]):
        made = prepared_log(log)
        data = load_training_data(
            split_dataset(made, SplitSpec(kind="leave_one_out"), 0).folder, Rules("exclude", mode="sampled", negatives=4)
        )
        assert data.n_items == 19 and data.valid.others is not None
        users = named(made, "users")
        others = {users[user]: [data.item_ids[i] for i in data.valid.others[row]] for row, user in enumerate(data.valid.users)}
        assert others.pop("a first one", None) is None or len(found) == 1
        found.append(others)
    assert found[0] == found[1] and len(found[0]) == 30


def test_drawing_is_the_beginning_of_a_stream():
    rng = np.random.default_rng(0)
    limit, n = 23, 80
    excluded = Ragged.of([rng.integers(0, limit + 3, rng.integers(0, 20)).tolist() for _ in range(n)])
    keys, wanted = rng.integers(0, 2**62, n), rng.integers(0, limit + 5, n)
    drawn = draw(3, keys, wanted, excluded, limit)
    for row in range(n):
        numbers = stream(3, np.repeat(keys[row], 4000), np.arange(4000), limit).tolist()
        free = [number for number in dict.fromkeys(numbers) if number not in set(excluded[row].tolist())]
        assert drawn[row].tolist() == free[: wanted[row]]
    assert any(len(drawn[row]) < wanted[row] for row in range(n))


def test_drawing_is_uniform():
    n = 30_000
    drawn = draw(5, np.arange(n), np.full(n, 2), Ragged.of([[2]] * n), 6)
    pairs = np.bincount(drawn.values[::2] * 7 + drawn.values[1::2], minlength=49).reshape(7, 7)
    open_pairs = pairs[[1, 3, 4, 5, 6]][:, [1, 3, 4, 5, 6]]
    assert pairs.sum() == open_pairs.sum() == n and (np.diag(open_pairs) == 0).all()
    expected = n / 20
    assert ((open_pairs[~np.eye(5, dtype=bool)] - expected) ** 2 / expected).sum() < 43.8  # chi2(19) at .999
