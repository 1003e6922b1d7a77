"""Prepared data to the files of one split: training events, validation cases, and the test cases in their vault."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchbed.data.audit import audit_listed, audit_split, listed_warnings
from benchbed.data.cases import count_all_options
from benchbed.data.database import database, one_row
from benchbed.data.fingerprints import content_hash, split_fingerprint
from benchbed.data.prepare import (
    Prepared,
    building_place,
    exclusive,
    low_ratings_missing,
    put_in_place,
    recover,
    retired_openings,
    write_json,
)
from benchbed.data.split.base import Split, case_rows, make_vocabulary, order_events, training_rows, view
from benchbed.data.split.click_through import ClickThrough
from benchbed.data.split.leave_one_out import LeaveOneOut
from benchbed.data.split.session import SessionSplit
from benchbed.data.split.spec import SplitSpec
from benchbed.data.split.temporal import TemporalSplit
from benchbed.data.split.user_disjoint import PartialHistory, UserDisjoint
from benchbed.data.stored import is_whole, read_json, readable_tables, sizes
from benchbed.data.tables import LOW_RATED, write_table
from benchbed.errors import DataError

KINDS: dict[str, type[Split]] = {
    kind.kind: kind for kind in (UserDisjoint, PartialHistory, LeaveOneOut, SessionSplit, TemporalSplit, ClickThrough)
}

LAYOUT = 4
"""Raised when the same split is written otherwise. 3: sequences in the order in which they begin; counts of every_next. 4: the
rows of 3, with the counts of an every_next that drops unknown events before pairing."""

SOURCES = ("interactions", "users", "items")
"""Prepared tables that a split is made from."""


@dataclass(frozen=True)
class PreparedSplit:
    """The files of one split.

    Attributes
    ----------
    folder
        Holds ``train.parquet``, ``valid.parquet``, ``vocabulary.parquet``, perhaps ``labelled.parquet``, then
        ``manifest.json``, ``audit.json`` and ``vault/``.
    manifest
        The content of ``manifest.json``.
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> PreparedSplit:
        """A split made before.

        Raises
        ------
        DataError
            There is none in this folder.
        """
        path = folder / "manifest.json"
        if not path.is_file():
            raise DataError(f"No split in {folder}.", advice="Prepare the dataset and split it again.")
        return cls(folder, read_json(path))

    @property
    def split_id(self) -> str:
        """Name of the folder."""
        return str(self.manifest["split_id"])

    @property
    def fingerprint(self) -> str:
        """Of the prepared data, the split's settings and its rows."""
        return str(self.manifest["fingerprint"])

    @property
    def audit(self) -> dict[str, Any]:
        """The content of ``audit.json``."""
        return read_json(self.folder / "audit.json")


def split_dataset(prepared: Prepared, spec: SplitSpec, seed: int) -> PreparedSplit:
    """Make one split of a prepared dataset, or return it when it is there, whole.

    Options of the evaluation (targets, unknown targets, seen items, candidates) are applied when the split is loaded, so that
    one split serves every protocol.

    Raises
    ------
    DataError
        The dataset has no times and the split does not say how else to order events, no training events would be left, a
        prepared table cannot be read, or the dataset was prepared before what the split needs was kept.
    """
    if KINDS[spec.kind].labelled and low_ratings_missing(prepared.manifest):
        raise DataError(
            f"'{prepared.name}' was prepared before benchbed kept the pairs that min_rating drops; they must not be negatives.",
            advice=f"Prepare it again from its raw files: benchbed prepare {prepared.name} --raw DIR",
        )
    name = spec.split_id(seed)
    folder = prepared.folder / "splits" / name
    with exclusive(prepared.folder / f".{name}.lock"):
        recover(folder)
        if (folder / "manifest.json").is_file():
            made = PreparedSplit.open(folder)
            known = (made.manifest["prepared"], made.manifest.get("layout"))
            if known == (prepared.fingerprint, LAYOUT) and is_whole(folder, made.manifest):
                return made
        with readable_tables([prepared.folder / f"{table}.parquet" for table in SOURCES]):
            return _make(prepared, spec, seed, folder)


def _make(prepared: Prepared, spec: SplitSpec, seed: int, folder: Path) -> PreparedSplit:
    building = building_place(folder)
    scratch, vault = building / "scratch", building / "vault"
    scratch.mkdir(parents=True)
    vault.mkdir(mode=0o700)
    split = KINDS[spec.kind](spec, seed, prepared.manifest["timestamp_unit"])
    with database(scratch) as connection:
        for table in SOURCES:
            view(connection, table, str(prepared.folder / f"{table}.parquet"))
        if (shipped := prepared.folder / "negatives.parquet").is_file():
            view(connection, "negatives", str(shipped))
        if (low := prepared.folder / LOW_RATED).is_file():
            view(connection, "low_rated", str(low))
            split.low_rated = True
        columns = {name: kind for name, kind, *_ in connection.execute("DESCRIBE interactions").fetchall()}
        timed = "timestamp" in columns
        if not timed and (refusal := split.without_times()):
            raise refusal
        order_events(connection, spec.ties, seed, columns, at_random=split.at_random)
        counts = split.divide(connection)
        if one_row(connection, "SELECT count(*) FROM train") == (0,):
            raise DataError(f"The split {folder.name} of '{prepared.name}' has no training events: the log is too small.")
        make_vocabulary(connection, seed, every_item=split.labelled)
        k_core = prepared.manifest["card"]["clean"]["k_core"]
        audit = audit_split(
            connection,
            timed=timed and split.in_time,
            disjoint=split.disjoint,
            k_core_item=None if k_core is None else k_core["item"],
            edges=split.edges,
        )
        listed = audit_listed(connection) if split.listed == ("test",) else None
        connection.execute("SET preserve_insertion_order = true")
        write_table(connection, training_rows(spec.ties, seed, timed=timed), building / "train.parquet")
        for part, path in (("valid", building), ("test", vault)):
            query = case_rows(part, timed=timed, listed=part in split.listed)
            write_table(connection, query, path / f"{part}.parquet")
        write_table(connection, "SELECT * FROM vocabulary ORDER BY index", building / "vocabulary.parquet")
        if split.labelled:
            write_table(connection, 'SELECT * FROM labelled ORDER BY "user", label DESC, item', building / "labelled.parquet")
    shutil.rmtree(scratch)
    files = [building / "train.parquet", building / "valid.parquet", building / "vocabulary.parquet", vault / "test.parquet"]
    files += [building / "labelled.parquet"] if split.labelled else []
    identity = spec.identity(seed)
    manifest = {
        "split_id": folder.name,
        "dataset": prepared.name,
        "fingerprint": split_fingerprint(prepared.fingerprint, identity, content_hash(files)),
        "prepared": prepared.fingerprint,
        "identity": identity,
        "counts": counts,
        "timed": timed,
        "layout": LAYOUT,
        **({"edges": split.edges} if split.edges else {}),
        **({} if listed is None else {"shipped_negatives": listed["most"]}),
    }
    audit["warnings"] += split.warnings(counts) + ([] if listed is None else listed_warnings(listed))
    cases = count_all_options(building, files[1], files[3], labelled=split.labelled)
    shipped_facts = {} if listed is None else {"negatives": listed}
    write_json(building / "audit.json", audit | {"counts": counts, "cases": cases} | shipped_facts)
    write_json(building / "manifest.json", manifest | {"sizes": sizes(building)})
    # Openings outlive the files: those of a damaged split that is made again, else those of the same data prepared before.
    logs = (folder / "vault" / "openings.jsonl", retired_openings(prepared.folder, prepared.fingerprint, folder.name))
    known = next((log for log in logs if log.is_file()), None)
    if known is not None:
        shutil.copy2(known, vault / "openings.jsonl")
    put_in_place(building, folder)
    return PreparedSplit.open(folder)
