"""Fingerprints: content hashes, chained from raw files to prepared data to a split to a protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchbed.config import fingerprint
from benchbed.data.case_rules import CaseRules, revision

RULES_VERSION = 1
"""Raised when the same raw files and card give other prepared rows than before."""


def raw_fingerprint(digests: Mapping[str, Sequence[str]]) -> str:
    """Of the decompressed bytes of all raw files: SHA-256 of each, in reading order, by table. File names play no part."""
    return fingerprint("raw", {table: list(of_files) for table, of_files in digests.items()})


def content_hash(files: Sequence[Path]) -> str:
    """SHA-256 of the rows of Parquet files, column by column: independent of compression, row groups and writer."""
    return fingerprint("content", {file.name: _columns_hash(file) for file in files})


def _columns_hash(file: Path) -> dict[str, str]:
    reader = pq.ParquetFile(file)
    digests: dict[str, Any] = {}
    for batch in reader.iter_batches(batch_size=1 << 20):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            for part, data in _parts(column, name):
                digests.setdefault(part, hashlib.sha256()).update(data)
    kinds = {field.name: str(field.type) for field in reader.schema_arrow}
    return kinds | {f"{part} values": digest.hexdigest() for part, digest in digests.items()}


def _parts(column: pa.Array, name: str) -> Iterator[tuple[str, bytes | memoryview]]:
    """A column as streams of bytes that are hashed apart: nulls, lengths, values. Batch boundaries leave no trace in them."""
    kind = column.type
    yield f"{name} nulls", column.is_null().to_numpy(zero_copy_only=False).tobytes()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64())
        yield f"{name} lengths", lengths.to_numpy(zero_copy_only=False).tobytes()
        yield from _parts(pc.list_flatten(column), f"{name} elements")
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = pc.fill_null(column, "").cast(pa.large_binary())
        yield f"{name} lengths", pc.binary_length(texts).cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes()
        _, offsets, data = texts.buffers()
        bounds = memoryview(offsets).cast("q")
        if data is not None:
            yield name, memoryview(data)[bounds[texts.offset] : bounds[texts.offset + len(texts)]]
    else:
        filled = pc.fill_null(column, False if pa.types.is_boolean(kind) else 0)
        yield name, filled.to_numpy(zero_copy_only=False).tobytes()


def prepared_fingerprint(raw: str, meaning: Mapping[str, Any], content: str) -> str:
    """Of a prepared dataset: raw files, the card's rules, benchbed's rules, and the rows that came out."""
    return fingerprint("prepared", RULES_VERSION, raw, meaning, content)


def split_fingerprint(prepared: str, identity: Mapping[str, Any], content: str) -> str:
    """Of one split of a prepared dataset, test part included."""
    return fingerprint("split", RULES_VERSION, prepared, identity, content)


def protocol_fingerprint(split: str, protocol: CaseRules) -> str:
    """Of a split and everything the evaluation block says. Two leaderboards compare only where this is the same."""
    revised = revision(protocol)
    return fingerprint("protocol", RULES_VERSION, split, protocol, *([] if revised is None else [revised]))
