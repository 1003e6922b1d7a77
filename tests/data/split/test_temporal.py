"""Two moments for everybody: by days or by share, without a training event as late as any target."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from benchbed.data.load import check_cases, load_training_data
from benchbed.data.split.make import split_dataset
from benchbed.data.split.spec import SplitSpec
from benchbed.errors import DataError
from benchbed.evaluation.protocol import Protocol
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.protocol_words import protocol_words

from .test_session_split import DAY, TIMELESS
from .test_splits import all_parts, md5


def busy_log(seed: int, events: int = 400, users: int = 40, days: int = 20) -> list[tuple[str, str, int]]:
    """Users of few events at coarse times: ties within users and between them, and users who come late."""
    rng = np.random.default_rng(seed)
    times = rng.integers(0, 24 * days, events) * 3600
    return [(f"u{rng.integers(users)}", f"i{rng.integers(25)}", int(time)) for time in times] + [
        (f"late{n}", "i1", days * DAY - n * DAY // 2) for n in range(8)
    ]


def brute(rows: list[tuple[str, str, int]], seed: int, days: float | None = None, share: str = "1/10"):
    """Part -> user -> (history, targets), by the words of the documentation."""
    times = sorted(time for *_, time in rows)
    if days is not None:
        test = times[-1] - days * DAY
        valid = test - days * DAY
    else:
        number = max(1, int(Fraction(share) * len(times)))
        test = times[-number]
        valid = [time for time in times if time < test][-number:][0]
    made: dict[str, dict[str, tuple[list[str], list[str]]]] = {"train": {}, "valid": {}, "test": {}}
    for user in {row[0] for row in rows}:
        events = sorted((time, md5(seed, user, item), item) for u, item, time in rows if u == user)
        if before := [item for time, _, item in events if time < valid]:
            made["train"][user] = (before, [])
        for part, start, end in (("valid", valid, test), ("test", test, float("inf"))):
            history = [item for time, _, item in events if time < start]
            targets = [item for time, _, item in events if start <= time < end]
            if history and targets:
                made[part][user] = (history, targets)
    return made


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("how", [{"test_days": 1}, {"test_days": 2.5}, {"test_share": 0.15}, {}])
def test_it_equals_brute_force(prepared_log, seed, how):
    rows = busy_log(seed)
    prepared = prepared_log(rows)
    split = split_dataset(prepared, SplitSpec(kind="temporal", **how), 7)
    assert all_parts(prepared, split) == brute(rows, 7, how.get("test_days"), str(how.get("test_share", "1/10")))


@pytest.mark.parametrize("how", [{"test_days": 2}, {"test_share": 0.2}])
def test_no_training_event_is_as_late_as_any_target(prepared_log, how):
    split = split_dataset(prepared_log(busy_log(3)), SplitSpec(kind="temporal", **how), 0)
    train = pq.read_table(split.folder / "train.parquet").to_pandas()
    for part, place in (("valid", split.folder), ("test", split.folder / "vault")):
        rows = pq.read_table(place / f"{part}.parquet").to_pandas()
        targets, history = rows[rows.target].timestamp, rows[~rows.target].timestamp
        assert train.timestamp.max() < targets.min() and history.max() < targets.min()
        assert split.manifest["edges"][part] <= targets.min()
        assert split.audit[part]["training_events_after_cut_share"] == 0
        assert split.audit[part]["cuts_inside_a_tie_share"] == 0
    assert not any("later than" in warning for warning in split.audit["warnings"])


def test_events_of_one_time_stay_together(prepared_log):
    rows = [(f"u{n}", f"i{k}", 100 * k + n) for n in range(4) for k in range(3)] + [(f"u{n}", "i7", 500) for n in range(4)]
    found = all_parts(prepared := prepared_log(rows), split_dataset(prepared, SplitSpec(kind="temporal", test_share=0.1), 0))
    assert {user: targets for user, (_, targets) in found["test"].items()} == {f"u{n}": ["i7"] for n in range(4)}
    assert {user: targets for user, (_, targets) in found["valid"].items()} == {"u3": ["i2"]}


def test_users_without_a_history_are_counted_and_those_without_training_are_ranked(prepared_log):
    old = [(f"u{n}", f"i{k}", k * DAY + n) for n in range(3) for k in range(9)]
    rows = [
        *old,
        ("between", "i1", int(9.5 * DAY)),
        ("between", "i2", int(10.5 * DAY)),
        ("new", "i3", int(10.5 * DAY)),
        ("new", "i2", 11 * DAY),
    ]
    prepared = prepared_log(rows)
    split = split_dataset(prepared, SplitSpec(kind="temporal", test_days=1), 0)
    assert split.manifest["counts"] == {
        "valid_users": 0,
        "valid_users_without_history": 1,
        "valid_events_of_users_without_history": 1,
        "test_users": 1,
        "test_users_without_history": 1,
        "test_events_of_users_without_history": 2,
    }
    found = all_parts(prepared, split)
    assert found["test"] == {"between": (["i1"], ["i2"])} and "between" not in found["train"]
    assert any(
        "Not evaluated, without an event before the test stretch: 1 user with " in warning
        for warning in split.audit["warnings"]
    )
    with pytest.raises(DataError, match="leaves no validation case"):
        check_cases(split, Protocol(seen_items="keep"))


def test_the_history_of_a_validation_case_is_what_its_user_trained_with(prepared_log):
    rows = busy_log(4)
    prepared = prepared_log(rows)
    split = split_dataset(prepared, SplitSpec(kind="temporal"), 0)
    data = load_training_data(split.folder, Protocol(seen_items="exclude"))
    assert int(data.item_counts.sum()) == len(data.train.items.values)
    # histories of validation cases are exactly what their users trained with
    row = {user: number for number, user in enumerate(data.train.users.tolist())}
    for case, user in enumerate(data.valid.users.tolist()):
        assert data.valid.histories[case].tolist() == data.train.items[row[user]].tolist()


def test_what_cannot_be_divided_by_time_is_refused(prepared_log):
    rows = [(f"u{n}", f"i{k}") for n in range(4) for k in range(3)]
    with pytest.raises(DataError, match="divides by time"):
        split_dataset(prepared_log(rows, log={}, **TIMELESS), SplitSpec(kind="temporal"), 0)
    with pytest.raises(DataError, match="same time"):
        split_dataset(prepared_log([(*row, 5) for row in rows]), SplitSpec(kind="temporal"), 0)
    with pytest.raises(DataError, match="no training events"):
        split_dataset(prepared_log([(*row, 5) for row in rows]), SplitSpec(kind="temporal", test_days=3), 0)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"ratios": (8, 1, 1)}, "belongs to the user_disjoint, partial_history or click_through split"),
        ({"by": "column: part"}, "belongs to the session split"),
        ({"valid_share": 0.1}, "belongs to the session split"),
        ({"test_days": 1, "test_share": 0.1}, "test_days already says"),
        ({"seeds": (1, 2)}, "takes one seed"),
        ({"test_share": 0.5}, "test_share"),
    ],
)
def test_keys_that_would_change_nothing_are_refused(keys, problem):
    with pytest.raises(ValidationError, match=problem):
        SplitSpec(kind="temporal", **keys)


def test_every_key_decides_the_name_of_the_split():
    ways = ({}, {"test_share": 0.2}, {"test_days": 1}, {"test_days": 2}, {"ties": "file"})
    assert len({SplitSpec(kind="temporal", **way).split_id(1) for way in ways}) == 5
    assert SplitSpec(kind="temporal", test_share=0.1).split_id(1) == SplitSpec(kind="temporal").split_id(1)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"test_days": 1}, "events of the last day are"),
        ({}, "the newest 10 % of the events are"),
        ({"test_days": 7}, "last 7 days"),
    ],
)
def test_the_page_says_it_in_words(how, words):
    split = {"kind": "temporal", **how}
    asked = Benchmark(name="t", dataset="bazaar", split=split, evaluation={"seen_items": "exclude"}, models=["popularity"])
    said = " ".join(protocol_words(asked))
    assert words in said and "Split seed: 42 (what is held out does not depend on it)." in said
    assert "Values are means over users." in said
