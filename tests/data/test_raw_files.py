from __future__ import annotations

from pathlib import Path

import pytest

from benchbed.data.raw_files import find_raw_files
from benchbed.errors import DataError


def lay(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def found(root: Path, *names: str) -> list[str]:
    return [file.shown for file in find_raw_files(root, names, table="interactions")]


@pytest.mark.parametrize("name", ["u.data", "u.data.zst", "u.data.gz", "u.data.zip", "u.data.GZ"])
def test_a_name_finds_the_file_in_any_folder_compressed_or_not(tmp_path, name):
    lay(tmp_path, f"deep/below/{name}", "deep/other.data", "u.item", f".hidden/{name}")
    assert found(tmp_path, "u.data") == [f"deep/below/{name}"]


def test_patterns_find_files_in_the_order_of_their_names(tmp_path):
    lay(tmp_path, "day/2011-02.csv.gz", "day/2011-01.csv", "day/2010-12.csv", "readme.txt")
    assert found(tmp_path, "2010-*.csv", "2011-*.csv") == ["day/2010-12.csv", "day/2011-01.csv", "day/2011-02.csv.gz"]
    assert found(tmp_path, "*.csv", "2010-12.csv") == ["day/2010-12.csv", "day/2011-01.csv", "day/2011-02.csv.gz"]


def test_a_path_tells_two_files_of_one_name_apart(tmp_path):
    lay(tmp_path, "a/log.csv", "b/log.csv.zst")
    assert found(tmp_path, "b/log.csv") == ["b/log.csv.zst"]
    with pytest.raises(DataError, match=r"Several files .* a/log.csv, b/log.csv.zst"):
        found(tmp_path, "log.csv")


def test_what_is_not_there_is_answered_with_what_is(tmp_path):
    lay(tmp_path, "raw/u.dat", "raw/u.item.gz")
    with pytest.raises(DataError) as caught:
        found(tmp_path, "u.data")
    text = str(caught.value)
    assert "u.data, u.data.zst, u.data.gz, u.data.zip" in text
    assert "raw/u.dat, raw/u.item.gz" in text
    assert "Is it 'u.dat'?" in text


def test_a_file_beside_its_compressed_copy_is_not_read_twice(tmp_path):
    lay(tmp_path, "1.csv", "1.csv.gz", "2.csv")
    with pytest.raises(DataError, match="same file twice"):
        found(tmp_path, "*.csv")


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        found(tmp_path / "absent", "u.data")
