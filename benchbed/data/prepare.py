"""Raw logs to Parquet: ``benchbed prepare``. The same command again does nothing, or finishes, or rebuilds what changed."""

from __future__ import annotations

import fcntl
import json
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchbed import __version__
from benchbed.config import fingerprint
from benchbed.data.card import Card
from benchbed.data.clean import clean, intern
from benchbed.data.database import database
from benchbed.data.fingerprints import RULES_VERSION, content_hash, prepared_fingerprint, raw_fingerprint
from benchbed.data.raw_files import RawFile, find_raw_files
from benchbed.data.staging import Progress, judge_rejected, stage
from benchbed.data.stored import is_whole, read_json, sizes
from benchbed.data.tables import LOW_RATED, write_table, write_tables
from benchbed.errors import DataError
from benchbed.workspace import Workspace, replacing

RawFiles = dict[str, list[RawFile]]


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset.

    Attributes
    ----------
    folder
        Holds ``interactions.parquet``, ``items.parquet``, ``users.parquet``, perhaps ``graph.parquet``, ``entities.parquet``
        and ``relations.parquet``, ``low_rated.parquet`` where ``min_rating`` dropped pairs, then ``rejected.parquet``,
        ``manifest.json``, ``audit.json`` and ``splits/``.
    manifest
        The content of ``manifest.json``.
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Prepared:
        """A dataset prepared before.

        Raises
        ------
        DataError
            There is none in this folder.
        """
        try:
            return cls(folder, json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise DataError(f"No prepared dataset in {folder}.", advice=f"Run: benchbed prepare {folder.name}") from None
        except ValueError:
            raise DataError(f"{folder / 'manifest.json'} is no JSON.", advice=f"Remove {folder} and prepare again.") from None

    @property
    def name(self) -> str:
        """The card's name."""
        return str(self.manifest["name"])

    @property
    def fingerprint(self) -> str:
        """Of the raw bytes, the rules and the rows."""
        return str(self.manifest["fingerprint"])

    @property
    def audit(self) -> dict[str, Any]:
        """The content of ``audit.json``."""
        return read_json(self.folder / "audit.json")


def _silent(_doing: str, _share: float) -> None:
    pass


def prepare(card: Card, workspace: Workspace, raw: Path | None = None, progress: Progress = _silent) -> Prepared:
    """Make the prepared dataset of a card, or return it when it is there and nothing has changed.

    Parameters
    ----------
    card
        What to prepare.
    workspace
        Receives ``data/<name>/``.
    raw
        Folder with the raw files. Not needed for a card with ``simulate``, and for a dataset that was prepared before.
    progress
        Called with what is being done and the share done, from 0 to 1.

    Raises
    ------
    DataError
        Raw files are missing, too many rows cannot be read, or cleaning leaves nothing.
    """
    folder = workspace.dataset(card.name)
    with exclusive(workspace.data / f".{card.name}.lock", lambda: progress("waiting for another prepare of this dataset", 0.0)):
        recover(folder)
        previous = Prepared.open(folder) if (folder / "manifest.json").is_file() else None
        # A table that is lost or cut short is made again from the raw files, where these still lie.
        reusable = previous if previous is not None and is_as_asked(previous, card) else None
        if reusable is not None and (raw is not None or card.simulate is not None) and low_ratings_missing(reusable.manifest):
            reusable = None
        if reusable is not None and raw is None:
            return _described_anew(reusable, card)
        files = _raw_files(card, workspace, raw, previous, progress)
        if reusable is not None and _same_raw(reusable, files):
            return _described_anew(reusable, card)
        return _build(card, folder, files, progress)


def is_as_asked(previous: Prepared, card: Card) -> bool:
    """Whether a prepared dataset is whole, and was made by what its card says now."""
    return _same_rules(previous, card) and is_whole(previous.folder, previous.manifest)


@contextmanager
def exclusive(path: Path, when_waiting: Any = None) -> Iterator[None]:
    """Hold a lock file; a second process waits for the first. The lock goes with its process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if when_waiting is not None:
                when_waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def recover(folder: Path) -> None:
    """Tidy up after an interrupted run: unfinished work goes, a folder that was being replaced comes back."""
    retired = retired_place(folder)
    if retired.exists():
        if folder.exists():
            shutil.rmtree(retired)
        else:
            retired.rename(folder)
    if building_place(folder).exists():
        shutil.rmtree(building_place(folder))


def building_place(folder: Path) -> Path:
    """Where a folder is made before it is renamed into place."""
    return folder.with_name(f".{folder.name}.building")


def retired_place(folder: Path) -> Path:
    """Where the old folder lies for the moment between the two renames."""
    return folder.with_name(f".{folder.name}.retired")


def low_ratings_missing(manifest: Mapping[str, Any]) -> bool:
    """Whether a dataset was prepared before pairs with low ratings were kept, and has dropped some."""
    dropped = any(step["step"] == "min_rating" and step["dropped"] for step in manifest["cleaning"])
    return dropped and "low_rated" not in manifest


def _same_rules(previous: Prepared, card: Card) -> bool:
    known = (previous.manifest.get("rules_version"), previous.manifest.get("rules"))
    # Of a simulated dataset the folder's name tells the simulator; the rest of its path may have moved.
    simulator = card.simulate is None or Path(previous.manifest["raw"]["folder"]).name == _simulated_name(card)
    return simulator and known == (RULES_VERSION, fingerprint(card.rules()))


def _same_raw(previous: Prepared, files: RawFiles) -> bool:
    """Whether the raw files hold the bytes that were prepared: by size and time of change, else by content."""
    stamps = {stamp["path"]: stamp for stamps in previous.manifest["raw"]["files"].values() for stamp in stamps}
    for group in files.values():
        for file in group:
            stamp = stamps.get(str(file.path), {})
            if file.stamp().items() <= stamp.items():
                file.digest = stamp["sha256"]
    digests = {table: [file.hash() for file in group] for table, group in files.items()}
    return raw_fingerprint(digests) == str(previous.manifest["raw"]["fingerprint"])


def _described_anew(previous: Prepared, card: Card) -> Prepared:
    """The same dataset; where only words of the card changed (title, licence ...) the manifest takes the new ones."""
    if previous.manifest["card"] == card.model_dump(mode="json"):
        return previous
    changed = Prepared(previous.folder, previous.manifest | {"card": card.model_dump(mode="json")})
    write_json(previous.folder / "manifest.json", changed.manifest)
    return changed


def _raw_files(card: Card, workspace: Workspace, raw: Path | None, previous: Prepared | None, progress: Progress) -> RawFiles:
    if card.simulate is not None:
        if raw is not None:
            raise DataError(
                f"The card '{card.name}' simulates its raw files; --raw {raw} would not be read.", advice="Leave --raw out."
            )
        raw = _simulated(card, workspace, progress)
    elif raw is None and previous is not None:
        raw = Path(previous.manifest["raw"]["folder"])
    if raw is None:
        wanted = ", ".join(name for table in card.tables.present().values() for name in table.files)
        where = f" They come from {card.homepage}" if card.homepage else ""
        raise DataError(f"'{card.name}' needs its raw files: {wanted}.", advice=f"Pass their folder as --raw DIR.{where}")
    root = raw.expanduser().resolve()
    return {name: find_raw_files(root, table.files, table=name) for name, table in card.tables.present().items()}


def _simulated(card: Card, workspace: Workspace, progress: Progress) -> Path:
    """The folder of the raw files that the card's ``simulate`` block makes; made once per settings and simulator."""
    from benchbed.data.simulate import write_raw

    assert card.simulate is not None
    folder = workspace.raw / _simulated_name(card)
    if not folder.is_dir():
        progress("simulating raw logs", 0.0)
        building = folder.with_name(f".{folder.name}.building")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        write_raw(card.simulate, building)
        building.rename(folder)
    return folder


def _simulated_name(card: Card) -> str:
    from benchbed.data.simulate import spec

    return f"{card.name}-{fingerprint(spec.SIMULATOR_VERSION, card.simulate)[:12]}"


def _build(card: Card, folder: Path, files: RawFiles, progress: Progress) -> Prepared:
    """Everything into a folder beside, then into place."""
    building, rejects = building_place(folder), folder.with_name(f"{folder.name}-rejected.parquet")
    scratch = building / "scratch"
    scratch.mkdir(parents=True)
    started = time.perf_counter()
    seconds: dict[str, float] = {}

    def lap(name: str) -> None:
        seconds[name] = round(time.perf_counter() - started - sum(seconds.values()), 3)

    with database(scratch) as connection:
        stage(connection, card, files, lambda doing, share: progress(doing, 0.6 * share))
        read = judge_rejected(connection, card, rejects)
        lap("read")
        progress("cleaning", 0.6)
        intern(connection)
        steps = clean(
            connection,
            card,
            timed=card.tables.interactions.columns.timestamp is not None,
            rejected=read["interactions"]["rejected"],
        )
        if steps[-1]["interactions"] == 0:
            told = "; ".join(f"{step['step']}: {step['interactions']}" for step in steps)
            raise DataError(f"Nothing is left of the log of '{card.name}' (interactions after each step: {told}).")
        lap("clean")
        progress("writing tables", 0.8)
        facts = write_tables(connection, card, building)
        write_table(connection, "SELECT * FROM rejected ORDER BY ALL", building / "rejected.parquet")
        lap("write")
        progress("auditing", 0.9)
        from benchbed.data.audit import audit_dataset

        listed, sides = facts.get("negatives", {}), facts["side_tables"]
        write_json(building / "audit.json", audit_dataset(connection, card, building, steps, read, listed, sides))
        lap("audit")
    shutil.rmtree(scratch)
    manifest = _manifest(card, files, building, steps=steps, read=read, facts=facts)
    lap("hash")
    write_json(building / "manifest.json", manifest | {"seconds": seconds})
    rejects.unlink(missing_ok=True)
    if folder.exists():
        _keep_openings(folder, building)
    put_in_place(building, folder)
    progress("prepared", 1.0)
    return Prepared.open(folder)


def _manifest(card: Card, files: RawFiles, building: Path, *, steps: Any, read: Any, facts: Any) -> dict[str, Any]:
    digests = {table: [file.hash() for file in group] for table, group in files.items()}
    # Low ratings follow from the raw files and the rules, which are in the fingerprint already.
    tables = sorted(path for path in building.glob("*.parquet") if path.name not in ("rejected.parquet", LOW_RATED))
    raw, content = raw_fingerprint(digests), content_hash(tables)
    stamps = {table: [file.stamp() | {"sha256": file.digest} for file in group] for table, group in files.items()}
    return {
        "name": card.name,
        "fingerprint": prepared_fingerprint(raw, card.meaning(), content),
        "rules": fingerprint(card.rules()),
        "rules_version": RULES_VERSION,
        "content": content,
        "sizes": sizes(building),
        "raw": {"fingerprint": raw, "folder": str(next(iter(files.values()))[0].root), "files": stamps},
        "rows": read,
        "cleaning": steps,
        "counts": {key: steps[-1][key] for key in ("interactions", "users", "items")},
        "timestamp_unit": card.tables.interactions.stored_unit,
        **facts,
        "card": card.model_dump(mode="json"),
        "versions": {"benchbed": __version__, "duckdb": version("duckdb"), "python": platform.python_version()},
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def put_in_place(building: Path, folder: Path) -> None:
    """Rename a finished folder over the one it replaces."""
    retired = retired_place(folder)
    if folder.exists():
        folder.rename(retired)
    building.rename(folder)
    if retired.exists():
        shutil.rmtree(retired)


def _keep_openings(old: Path, new: Path) -> None:
    """The openings of vaults of a dataset that is replaced stay on record under ``retired/``."""
    if (old / "retired").is_dir():
        shutil.copytree(old / "retired", new / "retired", dirs_exist_ok=True)
    known = json.loads((old / "manifest.json").read_text(encoding="utf-8")) if (old / "manifest.json").is_file() else {}
    for log in sorted(old.glob("splits/*/vault/openings.jsonl")):
        target = retired_openings(new, str(known.get("fingerprint", "unknown")), log.parts[-3])
        target.parent.mkdir(parents=True, exist_ok=True)
        # A log that is there already is older, and the split began with it: see retired_openings.
        shutil.copy2(log, target)


def retired_openings(folder: Path, fingerprint: str, split_id: str) -> Path:
    """Openings of a split whose dataset was replaced. Made again from the same data, the split takes them back."""
    return folder / "retired" / fingerprint[:12] / split_id / "openings.jsonl"


def write_json(path: Path, value: Any) -> None:
    """A JSON file, written beside and renamed."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
