"""Raw files: found by name under a folder, opened compressed or not, hashed by their decompressed bytes."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import zstandard

from benchbed.errors import DataError, nearest

CHUNK = 8 * 2**20
COMPRESSIONS = ("", ".zst", ".gz", ".zip")
"""Endings that a raw file may carry beside its own name."""


@dataclass
class RawFile:
    """One raw file.

    ``part`` is the entry of the card's ``files`` that found it, ``ordinal`` its place among all files of the table; both count
    from 1. ``digest`` (SHA-256 of its decompressed bytes) and ``lines`` are known once it was read to the end.
    """

    path: Path
    root: Path
    part: int = field(default=1, compare=False)
    ordinal: int = field(default=1, compare=False)
    digest: str | None = field(default=None, compare=False)
    lines: int = field(default=0, compare=False)

    @property
    def shown(self) -> str:
        """The path below the raw folder, as messages and reject tables name it."""
        return self.path.relative_to(self.root).as_posix()

    def stamp(self) -> dict[str, Any]:
        """Size and time of change: a cheap sign that the file is the one seen before."""
        status = self.path.stat()
        return {"path": str(self.path), "bytes": status.st_size, "changed_ns": status.st_mtime_ns}

    def chunks(self) -> Iterator[bytes]:
        """The decompressed bytes in pieces; fills :attr:`digest` at the end.

        Raises
        ------
        DataError
            The file cannot be opened, or its compression is broken or cut short.
        """
        digest = hashlib.sha256()
        try:
            for chunk in _decompressed(self.path):
                digest.update(chunk)
                yield chunk
        except (zstandard.ZstdError, gzip.BadGzipFile, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path} cannot be decompressed: {error}.", advice="Fetch this file again.") from None
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}.") from None
        self.digest = digest.hexdigest()

    def hash(self) -> str:
        """SHA-256 of the decompressed bytes."""
        if self.digest is None:
            for _ in self.chunks():
                pass
        assert self.digest is not None
        return self.digest


def _decompressed(path: Path) -> Iterator[bytes]:
    """The content of a file, whatever its compression, which its first bytes tell."""
    with path.open("rb") as plain:
        head = plain.read(4)
        plain.seek(0)
        if head == b"\x28\xb5\x2f\xfd":
            yield from _zstd(plain)
        elif head[:2] == b"\x1f\x8b":
            with gzip.open(plain, "rb") as stream:
                yield from _pieces(stream)
        elif head == b"PK\x03\x04" and path.suffix.lower() == ".zip":
            with zipfile.ZipFile(plain) as archive:
                inside = [entry for entry in archive.namelist() if not entry.endswith("/")]
                if len(inside) != 1:
                    raise DataError(
                        f"{path} holds {len(inside)} files; a compressed raw file must hold exactly one.",
                        advice="Unpack it and pass the folder.",
                    )
                with archive.open(inside[0]) as member:
                    yield from _pieces(member)
        else:
            yield from _pieces(plain)


def _pieces(stream: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


def _zstd(stream: IO[bytes]) -> Iterator[bytes]:
    """Frame after frame. The stream reader of zstandard would take a file that was cut short for a whole one."""
    # The window may be as large as --long=31 made it; the default limit refuses more than 128 MiB.
    frames = zstandard.ZstdDecompressor(max_window_size=2**31)
    frame, inside = frames.decompressobj(), False
    while data := stream.read(2**20):
        while data:
            inside = True
            text = frame.decompress(data)
            yield from (text[start : start + CHUNK] for start in range(0, len(text), CHUNK))
            data = b""
            if frame.eof:
                data, inside = frame.unused_data, False
                frame = frames.decompressobj()
    if inside:
        raise EOFError("it ends in the middle of a frame")


def find_raw_files(root: Path, names: Sequence[str], *, table: str) -> list[RawFile]:
    """The files of one table, in the order of ``names`` and, within a pattern, in the order of the file names.

    A name may hold ``*``, ``?`` and ``[...]``; one with a slash is compared with the end of the path below ``root``.

    Raises
    ------
    DataError
        ``root`` is no folder, nothing matches a name, or several files match a name that is no pattern.
    """
    if not root.is_dir():
        raise DataError(f"The raw folder {root} does not exist.", advice="Pass the folder that holds the raw files as --raw.")
    present = sorted(_files_below(root))
    found: list[RawFile] = []
    for part, name in enumerate(names, 1):
        matches = [path for path in present if _matches(path, name)]
        if not matches:
            raise _not_found(root, name, table, present)
        if not _is_pattern(name) and len(matches) > 1:
            listed = ", ".join(matches[:6]) + (", ..." if len(matches) > 6 else "")
            raise DataError(
                f"Several files under {root} could be '{name}' (table {table}): {listed}.",
                advice="Pass a folder that holds one of them, or give more of the path in the card.",
            )
        _refuse_copies(matches, name, table, root)
        new = [root / path for path in matches if root / path not in {file.path for file in found}]
        found += [RawFile(path, root, part, ordinal) for ordinal, path in enumerate(new, len(found) + 1)]
    return found


def _files_below(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in files:
            yield (Path(folder) / file).relative_to(root).as_posix()


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _plain(path: str) -> str:
    for ending in COMPRESSIONS[1:]:
        if path.lower().endswith(ending):
            return path[: -len(ending)]
    return path


def _matches(path: str, name: str) -> bool:
    parts = name.count("/") + 1
    same: Callable[[str, str], bool] = fnmatch.fnmatchcase if _is_pattern(name) else str.__eq__
    return any(same("/".join(candidate.split("/")[-parts:]), name) for candidate in {path, _plain(path)})


def _refuse_copies(matches: list[str], name: str, table: str, root: Path) -> None:
    """A pattern that meets ``a.csv`` and ``a.csv.gz`` would read the same rows twice."""
    seen: dict[str, str] = {}
    for path in matches:
        if (other := seen.setdefault(_plain(path), path)) != path:
            raise DataError(
                f"'{name}' (table {table}) finds the same file twice under {root}: {other} and {path}.",
                advice="Remove one of them.",
            )


def _not_found(root: Path, name: str, table: str, present: list[str]) -> DataError:
    endings = ", ".join(f"{name}{ending}" for ending in COMPRESSIONS)
    close = nearest(name, [_plain(path).rpartition("/")[2] for path in present])
    there = ", ".join(present[:12]) + (f" and {len(present) - 12} more" if len(present) > 12 else "")
    hint = f" Is it '{close}'?" if close else ""
    return DataError(
        f"No file for the table {table} under {root}: looked for {endings}, in all folders below.",
        advice=f"There lie: {there or 'no files at all'}.{hint}",
    )
