"""Prepared files that are lost or damaged: made again where that is possible, else a sentence with the remedy."""

from __future__ import annotations

import shutil

import pytest

from benchbed.data.cases import Rules
from benchbed.data.load import load_training_data
from benchbed.data.prepare import prepare
from benchbed.data.split.make import split_dataset
from benchbed.data.split.spec import SplitSpec
from benchbed.errors import DataError

from .conftest import make_card
from .test_prepare import random_log

SPEC = SplitSpec(kind="leave_one_out")


def harm(path, how):
    if how == "lost":
        path.unlink()
    elif how == "short":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.write_bytes(b"x" * path.stat().st_size)


@pytest.fixture
def prepared(prepared_log, raw):
    return prepared_log(random_log(0))


@pytest.mark.parametrize("how", ["lost", "short"])
@pytest.mark.parametrize("name", ["interactions.parquet", "users.parquet", "items.parquet", "rejected.parquet", "audit.json"])
def test_a_lost_or_short_table_is_prepared_again(raw, workspace, name, how):
    (raw / "log.tsv").write_text("u\ta\t1\nu\tb\t2\n")
    made = prepare(make_card(), workspace, raw)
    size = (made.folder / name).stat().st_size
    harm(made.folder / name, how)
    again = prepare(make_card(), workspace)
    assert again.fingerprint == made.fingerprint
    assert name == "audit.json" or (again.folder / name).stat().st_size == size
    assert (again.folder / name).is_file() and again.audit


def test_a_lost_table_without_its_raw_files_is_the_users_mistake(raw, workspace):
    (raw / "log.tsv").write_text("u\ta\t1\n")
    made = prepare(make_card(), workspace, raw)
    harm(made.folder / "interactions.parquet", "lost")
    shutil.rmtree(raw)
    with pytest.raises(DataError):
        prepare(make_card(), workspace)


@pytest.mark.parametrize("how", ["lost", "short"])
@pytest.mark.parametrize("name", ["train.parquet", "valid.parquet", "vocabulary.parquet", "vault/test.parquet", "audit.json"])
def test_a_lost_or_short_file_of_a_split_is_made_again_and_no_opening_is_forgotten(prepared, name, how):
    split = split_dataset(prepared, SPEC, 0)
    (split.folder / "vault" / "openings.jsonl").write_text('{"model": "m"}\n')
    size = (split.folder / name).stat().st_size
    harm(split.folder / name, how)
    again = split_dataset(prepared, SPEC, 0)
    assert again.fingerprint == split.fingerprint
    assert (again.folder / name).stat().st_size == size
    assert (again.folder / "vault" / "openings.jsonl").read_text() == '{"model": "m"}\n'
    assert [path.name for path in (prepared.folder / "splits").iterdir()] == [again.split_id]


@pytest.mark.parametrize("how", ["lost", "short", "other bytes"])
@pytest.mark.parametrize("name", ["train.parquet", "valid.parquet", "vocabulary.parquet", "../../items.parquet"])
def test_what_cannot_be_loaded_is_named_with_the_remedy(prepared, name, how):
    split = split_dataset(prepared, SPEC, 0)
    path = (split.folder / name).resolve()
    harm(path, how)
    with pytest.raises(DataError) as caught:
        load_training_data(split.folder, Rules("exclude"))
    text = str(caught.value)
    assert str(path) in text
    assert ("benchbed prepare mine" if "items" in name else "makes the split anew") in text
    assert ("Remove it" in text) == (how != "lost")


@pytest.mark.parametrize("how", ["lost", "other bytes"])
def test_a_damaged_table_under_a_split_is_named_with_the_remedy(prepared, how):
    harm(prepared.folder / "interactions.parquet", how)
    with pytest.raises(DataError, match=r"interactions\.parquet (is missing|cannot be read)") as caught:
        split_dataset(prepared, SPEC, 0)
    assert "benchbed prepare mine" in str(caught.value)
