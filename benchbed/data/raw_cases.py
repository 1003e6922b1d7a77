"""Cases as a split holds them, before any protocol, and the items that may be ranked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchbed.data.dataset import IntArray, Ragged
from benchbed.data.drawing import hashed_ids
from benchbed.data.stored import read_json, read_table

CANDIDATES: tuple[Literal["vocabulary", "catalogue"], ...] = ("vocabulary", "catalogue")


@dataclass(frozen=True)
class RawCases:
    """Cases before any rule. Items are dataset indices.

    ``seen`` and ``repeated`` have a flag for each target: whether the case's history holds it, and whether an earlier target of
    the case is the same item.

    Attributes
    ----------
    users
        Dataset user numbers.
    histories, targets
        What came before, oldest first, and what followed.
    negatives
        Those that the split lists for each case; None where it lists none.
    keys
        (N,) hashes of the users' raw ids, which drawn negatives depend on.
    shipped
        How many negatives were shipped for a test case, None without any: as many are drawn for a validation case.
    """

    users: IntArray
    histories: Ragged
    targets: Ragged
    negatives: Ragged | None = None
    keys: IntArray | None = None
    shipped: int | None = None

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """Targets that the history holds."""
        return self.targets.held_by(self.histories)

    @cached_property
    def repeated(self) -> NDArray[np.bool_]:
        """Targets that stand in the same case before."""
        again = np.ones(len(self.targets.values), bool)
        again[np.unique(self._keys(self.targets), return_index=True)[1]] = False
        return again

    @cached_property
    def times(self) -> IntArray:
        """How often the item of each target stands among the targets of its case."""
        _, item, counts = np.unique(self._keys(self.targets), return_inverse=True, return_counts=True)
        return counts[item].astype(np.int64)

    @cached_property
    def last_item(self) -> int:
        """The largest dataset index, 0 without any."""
        present = (rows for rows in (self.histories, self.targets, self.negatives) if rows is not None)
        return int(max(rows.values.max(initial=0) for rows in present))

    def _keys(self, rows: Ragged) -> IntArray:
        return rows.row_of_value * (self.last_item + 1) + rows.values


def read_raw_cases(path: Path) -> RawCases:
    """The cases of ``valid.parquet`` or ``test.parquet``."""
    table = read_table(path)
    user, item, target = (table.column(name).to_numpy() for name in ("user", "item", "target"))
    target = target.astype(bool)
    starts = run_starts(user)
    everything = Ragged(item.astype(np.int64), np.append(starts, len(item)))
    listed = "negative" in table.column_names
    negative = table.column("negative").to_numpy().astype(bool) if listed else np.zeros(len(item), bool)
    return RawCases(
        users=user[starts].astype(np.int64),
        histories=everything.keep(~target & ~negative),
        targets=everything.keep(target),
        negatives=everything.keep(negative) if listed else None,
    )


def read_cases(split_folder: Path, part: Literal["valid", "test"], *, sampled: bool = False) -> RawCases:
    """The cases of a part of a split; those of ``test`` are the vault's. With ``sampled`` all that drawing negatives needs."""
    raw = read_raw_cases(split_folder / ("vault" if part == "test" else "") / f"{part}.parquet")
    if not sampled:
        return raw
    ids = read_table(split_folder.parent.parent / "users.parquet", columns=["id"]).column("id")
    return replace(
        raw,
        keys=hashed_ids(ids.take(raw.users - 1).to_pylist()),
        shipped=read_json(split_folder / "manifest.json").get("shipped_negatives"),
    )


def run_starts(values: NDArray[Any]) -> IntArray:
    """Where each run of equal values starts."""
    if len(values) == 0:
        return np.zeros(0, np.int64)
    return np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1]).astype(np.int64)


@dataclass(frozen=True)
class Vocabulary:
    """``vocabulary.parquet`` under one choice of candidates.

    Attributes
    ----------
    items
        Dataset index of each model index, length n_items + 1, 0 at padding.
    counts
        Training events, length n_items + 1.
    ids
        Raw ids, length n_items + 1, "" at padding.
    """

    items: IntArray
    counts: IntArray
    ids: tuple[str, ...]

    @property
    def n_items(self) -> int:
        """Number of candidates."""
        return len(self.items) - 1

    def model_index(self, last_item: int) -> IntArray:
        """Model index by dataset index, up to ``last_item`` at least; 0 for what is no candidate."""
        found = np.zeros(max(last_item, int(self.items.max())) + 1, np.int64)
        found[self.items[1:]] = np.arange(1, self.n_items + 1)
        return found


def read_vocabulary(split_folder: Path, candidates: Literal["vocabulary", "catalogue"]) -> Vocabulary:
    """Candidates of a split: items with training events; with ``catalogue`` also those known by side tables only."""
    table = read_table(split_folder / "vocabulary.parquet", columns=["item", "id", "count"])
    counts = table.column("count").to_numpy()
    n = len(counts) if candidates == "catalogue" else int((counts > 0).sum())
    table = table.slice(0, n)
    padded = [np.concatenate([[0], table.column(name).to_numpy()]).astype(np.int64) for name in ("item", "count")]
    return Vocabulary(padded[0], padded[1], ("", *table.column("id").to_pylist()))
