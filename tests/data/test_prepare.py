from __future__ import annotations

import gzip
import json
import multiprocessing
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import zstandard

from benchbed.data.card import Card
from benchbed.data.prepare import Prepared, prepare
from benchbed.errors import DataError
from benchbed.workspace import Workspace

from .conftest import make_card


def read(prepared: Prepared, name: str = "interactions") -> list[dict]:
    return pq.read_table(prepared.folder / f"{name}.parquet").to_pylist()


def raw_ids(prepared: Prepared) -> list[tuple]:
    """(user, item, time) in raw ids."""
    users = {row["index"]: row["id"] for row in read(prepared, "users")}
    items = {row["index"]: row["id"] for row in read(prepared, "items")}
    return [(users[row["user"]], items[row["item"]], row.get("timestamp")) for row in read(prepared)]


def random_log(seed: int, events: int = 300, users: int = 25, items: int = 20) -> list[tuple[str, str, int]]:
    rng = np.random.default_rng(seed)
    skew = (rng.random((events, 2)) ** 2 * [users, items]).astype(int)
    return [(f"u{u}", f"i{i}", int(t)) for (u, i), t in zip(skew, rng.integers(0, 200, events), strict=True)]


def test_the_tables_hold_the_log_sorted_by_user_time_and_order(prepared_log):
    rows = random_log(0)
    prepared = prepared_log(rows)
    order = {user: n for n, user in enumerate(sorted({row[0] for row in rows}))}
    expected = sorted(range(len(rows)), key=lambda n: (order[rows[n][0]], rows[n][2], n))
    assert raw_ids(prepared) == [rows[n] for n in expected]
    assert [row["row"] for row in read(prepared)] == [n + 1 for n in expected]


def test_ids_are_text_and_numbers_follow_their_order(prepared_log):
    prepared = prepared_log([("007", "b", 1), ("7", "a", 2), ("7", "B", 3), ("07", "é", 4), (" 7", "b", 5)])
    assert [(row["index"], row["id"]) for row in read(prepared, "users")] == [(1, " 7"), (2, "007"), (3, "07"), (4, "7")]
    assert [row["id"] for row in read(prepared, "items")] == ["B", "a", "b", "é"]


@pytest.mark.parametrize("user", [1, 2, 4])
@pytest.mark.parametrize("item", [1, 3, 5])
def test_k_core_equals_the_naive_one(prepared_log, user, item):
    rows = random_log(user * 10 + item)
    kept = list(rows)
    while True:
        users, items = Counter(r[0] for r in kept), Counter(r[1] for r in kept)
        fewer = [r for r in kept if users[r[0]] >= user and items[r[1]] >= item]
        if fewer == kept:
            break
        kept = fewer
    prepared = prepared_log(rows, clean={"k_core": {"user": user, "item": item}})
    assert sorted(raw_ids(prepared)) == sorted(kept)
    step = prepared.manifest["cleaning"][-1]
    assert step["dropped"] == len(rows) - len(kept)
    assert prepared.manifest["counts"] == {
        "interactions": len(kept),
        "users": len({r[0] for r in kept}),
        "items": len({r[1] for r in kept}),
    }


@pytest.mark.parametrize("way", ["keep", "first", "last"])
@pytest.mark.parametrize("timed", [True, False])
def test_duplicates(prepared_log, way, timed):
    rows = random_log(3)
    columns = {"user": 0, "item": 1} | ({"timestamp": 2} if timed else {})
    prepared = prepared_log(rows, columns=columns, log={}, clean={"duplicates": way})
    chosen: dict[tuple[str, str], int] = {}
    for n in sorted(range(len(rows)), key=lambda n: (rows[n][2] if timed else 0, n)):
        if way == "last" or rows[n][:2] not in chosen:
            chosen[rows[n][:2]] = n
    expected = range(len(rows)) if way == "keep" else chosen.values()
    assert sorted(row["row"] for row in read(prepared)) == sorted(n + 1 for n in expected)


def test_low_ratings_go_first_and_every_step_is_counted(prepared_log):
    rows = [("u", "a", 1, 5), ("u", "b", 2, 2.5), ("u", "a", 3, 4), ("v", "c", 4, 3), ("v", "d", 5, 1)]
    prepared = prepared_log(
        rows,
        columns={"user": 0, "item": 1, "timestamp": 2, "rating": 3},
        log={},
        clean={"min_rating": 3, "duplicates": "last", "k_core": {"user": 1, "item": 1}},
    )
    assert [(row["row"], row["rating"]) for row in read(prepared)] == [(3, 4.0), (4, 3.0)]
    assert [(s["step"], s["dropped"], s["interactions"]) for s in prepared.manifest["cleaning"]] == [
        ("read", 0, 5),
        ("min_rating", 2, 3),
        ("duplicates", 1, 2),
        ("k_core", 0, 2),
    ]


def test_cleaning_that_leaves_nothing_says_where_it_went(prepared_log):
    with pytest.raises(DataError, match="k_core: 0"):
        prepared_log([("u", "a", 1)], clean={"k_core": {"user": 5}})


@pytest.mark.parametrize(
    ("written", "options", "stored", "unit"),
    [
        ("874724710", {}, 874724710, "seconds"),
        ("874724710.0", {}, 874724710, "seconds"),
        ("8.7472471e8", {}, 874724710, "seconds"),
        ("-5", {}, -5, "seconds"),
        ("1396321092297", {"timestamp_unit": "milliseconds"}, 1396321092297, "milliseconds"),
        ("9007199254740993", {"timestamp_unit": "microseconds"}, 9007199254740993, "microseconds"),
        ("1396321092.297", {"timestamp_unit": "fractional_seconds"}, 1396321092297000, "microseconds"),
        ("2010-12-01 08:26:00", {"timestamp_format": "%Y-%m-%d %H:%M:%S"}, 1291191960, "seconds"),
        ("06 17, 1969", {"timestamp_format": "%m %d, %Y"}, -17107200, "seconds"),
        ("2010-12-01 08:26:00.5", {"timestamp_format": "%Y-%m-%d %H:%M:%S.%f"}, 1291191960500000, "microseconds"),
    ],
)
def test_times(prepared_log, written, options, stored, unit):
    prepared = prepared_log([("u", "a", written)], log=options)
    assert read(prepared)[0]["timestamp"] == stored
    assert prepared.manifest["timestamp_unit"] == unit


BROKEN = """u\ta\t1\t5
u\tb\t2
u\tc\tx\t5

\td\t4\t5
u\t \t5\t5
u\te\t6.5\t5
u\tf\t7\tfive
u\tg\t8\tnan
u\th\t9\t5\textra
u\ti\t\t5
u\tj\t11\tinf
u\tk\t12\t
u\tl\t13\t1
"""


def test_rows_that_cannot_be_read_are_kept_with_line_column_and_reason(prepared_log, raw, workspace):
    (raw / "log.tsv").write_text(BROKEN)
    card = make_card(columns={"user": 0, "item": 1, "timestamp": 2, "rating": 3}, log={}, max_rejected=0.9)
    prepared = prepare(card, workspace, raw)
    assert [row["row"] for row in read(prepared)] == [1, 14]
    rejected = read(prepared, "rejected")
    assert [(row["line"], row["column"], row["reason"]) for row in rejected] == [
        (2, None, "4 columns expected, 3 found"),
        (3, "timestamp", "'x' is no time in seconds"),
        (5, "user", "the user is empty"),
        (6, "item", "the item is empty"),
        (7, "timestamp", "'6.5' has a fraction; timestamp_unit is seconds"),
        (8, "rating", "'five' is no number"),
        (9, "rating", "'nan' is no number"),
        (10, None, "4 columns expected, 5 found"),
        (11, "timestamp", "'' is no time in seconds"),
        (12, "rating", "'inf' is no number"),
        (13, "rating", "'' is no number"),
    ]
    assert {(row["table"], row["file"]) for row in rejected} == {("interactions", "log.tsv")}
    lines = BROKEN.split("\n")
    assert [row["raw"] for row in rejected] == [lines[row["line"] - 1] for row in rejected]
    assert prepared.manifest["rows"]["interactions"] == {"read": 13, "rejected": 11}


def test_too_many_of_them_stop_the_job_with_an_example_and_the_rest_on_disk(raw, workspace):
    (raw / "log.tsv").write_text("u\ta\t1\n" * 97 + "u\tb\n" + "u\tb\tx\n" + "u\ta\t1\n")
    assert prepare(make_card(max_rejected=0.02), workspace, raw).manifest["rows"]["interactions"]["rejected"] == 2
    with pytest.raises(DataError) as caught:
        prepare(make_card(), workspace, raw)
    text = str(caught.value)
    assert "2 of 100 rows of the table interactions cannot be read (2 %; the limit max_rejected is 1 %)" in text
    assert "log.tsv:98: 3 columns expected, 2 found" in text
    kept = workspace.data / "mine-rejected.parquet"
    assert str(kept) in text
    assert [row["line"] for row in pq.read_table(kept).to_pylist()] == [98, 99]


@pytest.mark.parametrize(
    ("written", "unit", "remedy"),
    [
        ("1396437466.94", "seconds", "timestamp_unit: fractional_seconds"),
        ("1396437466.94", "milliseconds", "timestamp_unit: fractional_seconds"),
        ("1396437466940.5", "seconds", "timestamp_unit: milliseconds"),
    ],
)
def test_times_with_a_fraction_are_answered_with_the_unit_to_set(prepared_log, written, unit, remedy):
    with pytest.raises(DataError, match=f"'{written}' has a fraction; timestamp_unit is {unit}") as caught:
        prepared_log([("u", "a", written)], log={"timestamp_unit": unit})
    assert remedy in str(caught.value)


def test_compression_and_file_names_leave_no_trace_in_the_fingerprint(tmp_path):
    content = "".join(f"{u}\t{i}\t{t}\n" for u, i, t in random_log(1)).encode()
    made = {}
    for name, data in (
        ("log.tsv", content),
        ("log.tsv.gz", gzip.compress(content)),
        ("log.tsv.zst", zstandard.compress(content)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(data)
        made[name] = prepare(make_card(), Workspace.open(tmp_path / f"w-{name}"), folder).fingerprint
    assert len(set(made.values())) == 1
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "renamed.tsv").write_bytes(content)
    card = make_card({"files": ["renamed.tsv"]}, title="other words", citation="none")
    assert prepare(card, Workspace.open(tmp_path / "w"), folder).fingerprint == made["log.tsv"]


def test_another_rule_or_another_byte_is_another_fingerprint(prepared_log):
    rows = random_log(1)
    base = prepared_log(rows).fingerprint
    assert prepared_log(rows).fingerprint == base
    assert prepared_log([*rows[:-1], ("u1", "i1", 7)]).fingerprint != base
    assert prepared_log(rows, clean={"duplicates": "first"}).fingerprint != base
    assert prepared_log(rows, clean={"k_core": {"user": 1, "item": 1}}).fingerprint != base


def _stamps(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_the_same_command_again_does_nothing(raw, workspace):
    (raw / "log.tsv").write_text("u\ta\t1\nu\tb\t2\n")
    prepared = prepare(make_card(), workspace, raw)
    before = _stamps(prepared.folder)
    assert prepare(make_card(), workspace, raw).fingerprint == prepared.fingerprint
    assert prepare(make_card(), workspace).fingerprint == prepared.fingerprint
    os.utime(raw / "log.tsv", (1, 1))  # same bytes, other time
    assert prepare(make_card(), workspace, raw).fingerprint == prepared.fingerprint
    assert _stamps(prepared.folder) == before


def test_new_words_in_the_card_reach_the_manifest_without_a_rebuild(raw, workspace):
    (raw / "log.tsv").write_text("u\ta\t1\n")
    before = prepare(make_card(), workspace, raw)
    after = prepare(make_card(title="Mine"), workspace, raw)
    assert after.fingerprint == before.fingerprint
    assert Prepared.open(after.folder).manifest["card"]["title"] == "Mine"


def test_what_changed_is_prepared_again(raw, workspace):
    (raw / "log.tsv").write_text("u\ta\t1\n")
    first = prepare(make_card(), workspace, raw)
    (raw / "log.tsv").write_text("u\tb\t1\n")
    second = prepare(make_card(), workspace, raw)
    assert second.fingerprint != first.fingerprint
    assert raw_ids(second) == [("u", "b", 1)]
    third = prepare(make_card(clean={"duplicates": "last"}), workspace)
    assert third.manifest["raw"]["folder"] == str(raw)
    assert third.fingerprint != second.fingerprint


@pytest.mark.parametrize("leftover", ["building", "retired", "both"])
def test_an_interrupted_run_is_finished_by_the_next(raw, workspace, leftover):
    (raw / "log.tsv").write_text("u\ta\t1\n")
    expected = prepare(make_card(), workspace, raw)
    folder = expected.folder
    building, retired = (folder.with_name(f".mine.{name}") for name in ("building", "retired"))
    if leftover in ("building", "both"):
        (building / "scratch").mkdir(parents=True)
        (building / "interactions.parquet").write_text("half")
    if leftover in ("retired", "both"):
        folder.rename(retired)  # the moment between the two renames
    again = prepare(make_card(), workspace, raw)
    assert again.fingerprint == expected.fingerprint
    assert raw_ids(again) == [("u", "a", 1)]
    assert not building.exists() and not retired.exists()


def test_a_run_that_fails_leaves_the_old_data_in_place(raw, workspace):
    (raw / "log.tsv").write_text("u\ta\t1\n")
    before = prepare(make_card(), workspace, raw)
    (raw / "log.tsv").write_text("u\ta\n")
    with pytest.raises(DataError):
        prepare(make_card(), workspace, raw)
    assert Prepared.open(before.folder).manifest == before.manifest
    assert raw_ids(before) == [("u", "a", 1)]


def _prepare_in_process(root: Path, raw: Path) -> str:
    return prepare(make_card(), Workspace.open(root), raw).fingerprint


def test_two_at_once_do_not_clash(raw, workspace):
    (raw / "log.tsv").write_text("".join(f"{u}\t{i}\t{t}\n" for u, i, t in random_log(2, events=3000)))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = pool.starmap(_prepare_in_process, [(workspace.root, raw)] * 2)
    assert made[0] == made[1]
    assert sorted(p.name for p in workspace.data.iterdir()) == [".mine.lock", "mine"]


def test_raw_files_that_are_asked_for_and_not_given(workspace):
    with pytest.raises(DataError) as caught:
        prepare(make_card(homepage="https://example.org/logs"), workspace)
    assert "'mine' needs its raw files: log.tsv" in str(caught.value)
    assert "--raw DIR" in str(caught.value) and "https://example.org/logs" in str(caught.value)


def test_several_files_are_one_log_in_the_order_of_their_names(raw, workspace):
    (raw / "2.csv").write_text("item,user\nc,u\n\n")
    (raw / "1.csv").write_text("user,item\nu,b\nu,a")
    card = make_card({"files": ["*.csv"], "header": True, "separator": ","}, columns={"user": "user", "item": "item"})
    prepared = prepare(card, workspace, raw)
    rows = sorted(read(prepared), key=lambda row: row["row"])
    names = {row["index"]: row["id"] for row in read(prepared, "items")}
    assert [names[row["item"]] for row in rows] == ["b", "a", "c"]


def test_additional_columns_stay_with_their_events(prepared_log):
    rows = [("u", "a", 1, 30, "x"), ("u", "b", 2, 4.5, "y")]
    extra = {"line": {"column": 3}, "page": {"column": 4, "kind": "text"}}
    prepared = prepared_log(rows, columns={"user": 0, "item": 1, "timestamp": 2, "extra": extra}, log={})
    assert [(row["line"], row["page"]) for row in read(prepared)] == [(30.0, "x"), (4.5, "y")]


def test_openings_of_replaced_data_stay_on_record(raw, workspace):
    (raw / "log.tsv").write_text("u\ta\t1\n")
    first = prepare(make_card(), workspace, raw)
    vault = first.folder / "splits" / "s" / "vault"
    vault.mkdir(parents=True)
    (vault / "openings.jsonl").write_text('{"model": "m"}\n')
    for text in ("u\tb\t1\n", "u\tc\t1\n"):
        (raw / "log.tsv").write_text(text)
        last = prepare(make_card(), workspace, raw)
    assert not (last.folder / "splits").exists()
    kept = last.folder / "retired" / first.fingerprint[:12] / "s" / "openings.jsonl"
    assert json.loads(kept.read_text()) == {"model": "m"}


def test_work_larger_than_memory_is_spilled(prepared_log, monkeypatch):
    from benchbed.data import database

    rows = random_log(5, events=200_000, users=20_000, items=500)
    roomy = prepared_log(rows, clean={"duplicates": "first"}).fingerprint
    monkeypatch.setattr(database, "usable_memory", lambda: 48 * 2**20)
    assert prepared_log(rows, clean={"duplicates": "first"}).fingerprint == roomy


SIMULATED = {
    "name": "small-bazaar",
    "simulate": {"name": "bazaar", "seed": 3, "users": 50, "items": 120, "events": 600},
    "tables": {
        "interactions": {"files": ["interactions.csv"], "columns": {"user": "user", "item": "item", "timestamp": "timestamp"}}
    },
}


def test_simulated_logs_take_the_same_road_and_are_made_once(workspace):
    card = Card.model_validate(SIMULATED)
    prepared = prepare(card, workspace)
    assert prepared.manifest["counts"]["interactions"] == 600
    made = _stamps(workspace.raw)
    changed = Card.model_validate(SIMULATED | {"clean": {"duplicates": "first"}})
    assert prepare(changed, workspace).fingerprint != prepared.fingerprint
    assert _stamps(workspace.raw) == made
    other = Card.model_validate(SIMULATED | {"simulate": SIMULATED["simulate"] | {"seed": 4}})
    assert prepare(other, workspace).manifest["raw"]["fingerprint"] != prepared.manifest["raw"]["fingerprint"]


def test_another_simulator_reuses_no_files_of_the_one_before(workspace, monkeypatch):
    from benchbed.data.simulate import spec

    card = Card.model_validate(SIMULATED)
    made = prepare(card, workspace)
    before, known = _stamps(made.folder), set(workspace.raw.iterdir())
    assert _stamps(prepare(card, workspace).folder) == before
    monkeypatch.setattr(spec, "SIMULATOR_VERSION", spec.SIMULATOR_VERSION + 1)
    again = prepare(card, workspace)
    (new,) = set(workspace.raw.iterdir()) - known
    assert again.manifest["raw"]["folder"] == str(new)


def test_a_simulated_dataset_takes_no_raw_folder(workspace, raw):
    with pytest.raises(DataError, match=r"--raw .* would not be read"):
        prepare(Card.model_validate(SIMULATED), workspace, raw)


def test_a_log_without_rows_is_the_users_mistake(raw, workspace):
    (raw / "log.tsv").write_text("user\titem\ttime\n")
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    with pytest.raises(DataError, match="Nothing is left"):
        prepare(make_card({"header": True}, columns=columns), workspace, raw)


def test_progress_goes_from_start_to_end(raw, workspace):
    (raw / "log.tsv").write_text("u\ta\t1\n")
    told: list[tuple[str, float]] = []
    prepare(make_card(), workspace, raw, lambda doing, share: told.append((doing, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    assert told[0][0] == "reading log.tsv"
