"""Whole sessions held out: by days, by share, by a column, in time or in the order of the log."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from benchbed.data.load import load_training_data
from benchbed.data.prepare import Prepared
from benchbed.data.split.make import PreparedSplit, split_dataset
from benchbed.data.split.spec import SplitSpec
from benchbed.errors import DataError
from benchbed.evaluation.protocol import Protocol

from .test_splits import all_parts, md5

DAY = 86_400
TIMELESS: dict[str, Any] = {"columns": {"user": 0, "item": 1}}


def session_log(seed: int, sessions: int = 120, days: int = 12) -> list[tuple[str, str, int]]:
    """Sessions of 1 to 6 events, many of which go on past midnight."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(sessions):
        start = int(rng.integers(0, days * DAY))
        times = start + np.cumsum(np.concatenate([[0], rng.integers(1, DAY // 3, rng.integers(0, 6))]))
        rows += [(f"s{number}", f"i{rng.integers(30)}", int(time)) for time in times]
    return rows


def brute(rows: list[tuple[str, str, int]], seed: int, days: float | None = None, share: str | None = None):
    """Part -> session -> (history, targets), by the words of the documentation."""
    sessions: dict[str, list[tuple[int, str, str]]] = {}
    for session, item, time in rows:
        sessions.setdefault(session, []).append((time, md5(seed, session, item), item))
    starts = {session: min(events)[0] for session, events in sessions.items()}
    if days is not None:
        test = max(time for *_, time in rows) - days * DAY
        valid = test - days * DAY
    else:
        number = max(1, int(Fraction(share or "1/10") * len(starts)))
        test = sorted(starts.values())[-number]
        valid = sorted(start for start in starts.values() if start < test)[-number]
    part = {s: "test" if start >= test else "valid" if start >= valid else "train" for s, start in starts.items()}
    first = {p: min(starts[s] for s in starts if part[s] == p) for p in ("valid", "test")}
    made: dict[str, dict[str, tuple[list[str], list[str]]]] = {"train": {}, "valid": {}, "test": {}}
    for session, events in sessions.items():
        until = {"train": first["valid"], "valid": first["test"], "test": float("inf")}[part[session]]
        items = [item for time, _, item in sorted(events) if time < until]
        if part[session] == "train" and items:
            made["train"][session] = (items, [])
        elif len(items) > 1:
            made[part[session]][session] = (items[:1], items[1:])
    return made


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("how", [{"test_days": 1}, {"test_days": 2.5}, {"test_share": 0.15}, {}])
def test_it_equals_brute_force(prepared_log, seed, how):
    rows = session_log(seed)
    prepared = prepared_log(rows)
    split = split_dataset(prepared, SplitSpec(kind="session", **how), 7)
    share = str(how["test_share"]) if "test_share" in how else None
    assert all_parts(prepared, split) == brute(rows, 7, how.get("test_days"), share)


@pytest.mark.parametrize("how", [{"test_days": 1}, {"test_share": 0.2}, {"by": "column: part"}])
def test_no_training_event_is_later_than_any_target(prepared_log, how):
    rows = [(*row, 1 + (row[2] > 9 * DAY and row[0] != "s0")) for row in session_log(5)]
    late = {row[0] for row in rows if row[3] == 2}
    rows = [(*row[:3], 2 if row[0] in late else 1) for row in rows]
    columns = {"user": 0, "item": 1, "timestamp": 2, "extra": {"part": {"column": 3}}}
    prepared = prepared_log(rows, columns=columns, log={})
    split = split_dataset(prepared, SplitSpec(kind="session", **how), 0)
    parts = {
        part: pq.read_table(split.folder / ("vault" if part == "test" else "") / f"{part}.parquet").to_pandas()
        for part in ("train", "valid", "test")
    }
    for part in ("valid", "test"):
        assert parts["train"].timestamp.max() < parts[part].timestamp.min()
        assert split.audit[part]["training_events_after_cut_share"] == 0
    assert parts["valid"].timestamp.max() < parts["test"].timestamp.min()
    assert set(split.audit["shared_users"].values()) == {0}
    dropped = (
        split.manifest["counts"]["train_events_dropped_as_late"] + split.manifest["counts"]["valid_events_dropped_as_late"]
    )
    alone = sum(split.manifest["counts"][f"{part}_sessions_with_one_event"] for part in ("valid", "test"))
    assert dropped > 0 and sum(map(len, parts.values())) == len(rows) - dropped - alone


def test_what_is_dropped_is_counted(prepared_log):
    rows = [("a", "x", 1), ("a", "y", 10 * DAY), ("b", "x", 1), ("b", "y", 2)]
    rows += [("c", "x", int(9.2 * DAY)), ("c", "y", int(10.1 * DAY)), ("d", "y", int(9.3 * DAY)), ("d", "x", int(9.4 * DAY))]
    rows += [("e", "x", int(10.1 * DAY)), ("e", "y", 11 * DAY), ("f", "x", 11 * DAY)]
    split = split_dataset(prepared_log(rows), SplitSpec(kind="session", test_days=1), 0)
    assert split.manifest["counts"] == {
        "train_sessions": 2,
        "train_sessions_with_one_event": 1,
        "train_sessions_without_event_before_the_next_part": 0,
        "train_sessions_cut": 1,
        "train_events_dropped_as_late": 1,
        "valid_sessions": 2,
        "valid_sessions_with_one_event": 1,
        "valid_sessions_without_event_before_the_next_part": 0,
        "valid_sessions_cut": 1,
        "valid_events_dropped_as_late": 1,
        "test_sessions": 2,
        "test_sessions_with_one_event": 1,
    }
    assert (split.audit["valid"]["cases"], split.audit["test"]["cases"]) == (1, 1)
    assert any("Dropped: 1 event of 1 training session," in warning for warning in split.audit["warnings"])


def ordered_training(prepared: Prepared, split: PreparedSplit) -> list[str]:
    users = {row["index"]: row["id"] for row in pq.read_table(prepared.folder / "users.parquet").to_pylist()}
    return [users[int(user)] for user in load_training_data(split.folder, Protocol(seen_items="keep")).train.users]


@pytest.mark.parametrize("kind", ["session", "leave_one_out", "user_disjoint"])
def test_training_sequences_stand_in_the_order_in_which_they_begin(prepared_log, kind):
    rows = session_log(3)
    prepared = prepared_log(rows)
    starts = {session: min(time for s, _, time in rows if s == session) for session, *_ in rows}
    found = ordered_training(prepared, split_dataset(prepared, SplitSpec(kind=kind), 0))
    assert found == sorted(found, key=starts.__getitem__) and found != sorted(found)


def test_sessions_that_begin_together_follow_the_log_or_a_hash(prepared_log):
    names = [f"s{n}" for n in (4, 2, 9, 1, 7, 3)]
    rows = [(name, item, 5) for name in names for item in "ab"] + [("y", "a", 6), ("y", "b", 6), ("z", "a", 7), ("z", "b", 7)]
    prepared = prepared_log(rows)
    by_file = split_dataset(prepared, SplitSpec(kind="session", ties="file"), 0)
    assert ordered_training(prepared, by_file) == names
    by_hash = split_dataset(prepared, SplitSpec(kind="session"), 3)
    assert ordered_training(prepared, by_hash) == sorted(names, key=lambda name: md5(3, name))


def test_without_times_the_order_of_the_log_counts(prepared_log):
    rows = [(f"s{n}", f"i{k}") for n in (5, 3, 8, 1, 9, 2, 7, 4, 6, 0) for k in range(3)]
    prepared = prepared_log(rows, log={}, **TIMELESS)
    split = split_dataset(prepared, SplitSpec(kind="session", ties="file", test_share=0.2), 0)
    made = all_parts(prepared, split)
    assert [set(made[part]) for part in ("valid", "test")] == [{"s7", "s4"}, {"s6", "s0"}]
    assert ordered_training(prepared, split) == ["s5", "s3", "s8", "s1", "s9", "s2"]
    assert made["test"]["s0"] == (["i0"], ["i1", "i2"])
    with pytest.raises(DataError, match="no last days"):
        split_dataset(prepared, SplitSpec(kind="session", test_days=1), 0)


def by_column(prepared_log, rows, **how):
    columns = {"user": 0, "item": 1, "extra": {"part": {"column": 2}}}
    prepared = prepared_log(rows, columns=columns, log={})
    split = split_dataset(prepared, SplitSpec(kind="session", ties="file", by="column: part", **how), 0)
    return all_parts(prepared, split)


def test_the_largest_value_of_a_column_is_tested_and_the_newest_of_the_rest_validated(prepared_log):
    rows = [(f"s{n}", f"i{k}", 3 if n in (2, 6) else n % 2 + 1) for n in range(12) for k in range(2)]
    made = by_column(prepared_log, rows)
    assert (set(made["test"]), set(made["valid"]), len(made["train"])) == ({"s2", "s6"}, {"s11"}, 9)
    assert set(by_column(prepared_log, rows, valid_share=0.3)["valid"]) == {"s9", "s10", "s11"}


def test_a_session_of_two_parts_is_refused(prepared_log):
    with pytest.raises(DataError, match="1 session has several values of 'part'"):
        by_column(prepared_log, [("a", "x", 1), ("a", "y", 2), ("b", "x", 1)])


def test_held_out_sessions_before_all_others_leave_nothing_to_train_on(prepared_log):
    rows = [(f"s{n}", item, 100 * n + place, int(n == 0)) for n in range(5) for place, item in enumerate("ab")]
    columns = {"user": 0, "item": 1, "timestamp": 2, "extra": {"part": {"column": 3}}}
    prepared = prepared_log(rows, columns=columns, log={})
    with pytest.raises(DataError, match="begin before every other session"):
        split_dataset(prepared, SplitSpec(kind="session", by="column: part"), 0)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"kind": "session", "ratios": (8, 1, 1)}, "belongs to the user_disjoint, partial_history or click_through split"),
        ({"kind": "leave_one_out", "test_days": 1}, "belongs to the session or temporal split"),
        ({"kind": "user_disjoint", "by": "column: part"}, "belongs to the session split"),
        ({"kind": "session", "test_days": 1, "test_share": 0.1}, "test_days already says"),
        ({"kind": "session", "test_share": 0.1, "by": "column: part"}, "test_share already says"),
        ({"kind": "session", "valid_share": 0.1}, "belongs to `by`"),
        ({"kind": "session", "seeds": (1, 2)}, "takes one seed"),
        ({"kind": "session", "by": "part"}, "'part' names no column; write it as 'column: NAME'"),
        ({"kind": "session", "test_share": 0.5}, "test_share"),
    ],
)
def test_keys_that_would_change_nothing_are_refused(keys, problem):
    with pytest.raises(ValidationError, match=problem):
        SplitSpec(**keys)


@pytest.mark.fidelity("D5")
def test_every_key_decides_the_name_of_the_split():
    ways = ({}, {"test_share": 0.2}, {"test_days": 1}, {"test_days": 2}, {"by": "column: part"}, {"by": "column: p"})
    more = ({"by": "column: part", "valid_share": 0.2}, {"ties": "file"})
    names = {SplitSpec(kind="session", **way).split_id(1) for way in (*ways, *more)}
    assert len(names) == 8
    assert SplitSpec(kind="session", test_share=0.1).split_id(1) == SplitSpec(kind="session").split_id(1)
