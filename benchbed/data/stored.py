"""Files that benchbed prepared: are they all there, and reading them with an answer for the user when they are damaged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchbed.errors import DataError


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of every table and audit under a folder that was just made, by path within it; kept in its manifest."""
    files = [*folder.rglob("*.parquet"), *folder.glob("audit.json")]
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in sorted(files)}


def is_whole(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether every file that the manifest records is there and has its size."""
    recorded = manifest.get("sizes")
    if not recorded:
        return False
    try:
        return all((folder / name).stat().st_size == size for name, size in recorded.items())
    except OSError:
        return False


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that benchbed wrote.

    Raises
    ------
    DataError
        It is missing or damaged.
    """
    with readable(path):
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file that benchbed wrote.

    Raises
    ------
    DataError
        It is missing or damaged.
    """
    with readable(path):
        return pq.read_table(path, columns=None if columns is None else list(columns))


def count_rows(path: Path) -> int:
    """Rows of a Parquet file that benchbed wrote.

    Raises
    ------
    DataError
        It is missing or damaged.
    """
    with readable(path):
        return int(pq.read_metadata(path).num_rows)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Answer a failure to read a prepared file with what to do.

    Raises
    ------
    DataError
        Instead of what the file system, Parquet or JSON says.
    """
    try:
        yield
    # The errors of Arrow about bytes and those of JSON are ValueErrors; a file that is cut short is an OSError.
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(path, error) from None


@contextmanager
def readable_tables(files: Sequence[Path]) -> Iterator[None]:
    """Answer a failure of DuckDB that comes from a damaged table with what to do; other failures pass.

    Parameters
    ----------
    files
        The prepared tables that are read inside.

    Raises
    ------
    DataError
        One of the tables cannot be read.
    """
    import duckdb

    try:
        yield
    except duckdb.Error:
        # The message of the engine tells a damaged table from a full disk in no reliable way; reading the tables does.
        for file in files:
            with readable(file):
                for _ in pq.ParquetFile(file).iter_batches(batch_size=1 << 16):
                    pass
        raise


def _damaged(path: Path, error: Exception) -> DataError:
    split = next((parent for parent in path.parents if parent.parent.name == "splits"), None)
    dataset = path.parent.name if split is None else split.parent.parent.name
    if isinstance(error, FileNotFoundError):
        problem, first = "is missing", ""
    else:
        problem, first = (
            f"cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            "Remove it, then ",
        )
    again = f"run: benchbed prepare {dataset}" if split is None else "run the sweep again: it makes the split anew"
    told = first + again
    return DataError(f"The prepared file {path} {problem.rstrip('.')}.", advice=f"{told[0].upper()}{told[1:]}")
