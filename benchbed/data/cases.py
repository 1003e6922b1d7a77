"""Evaluation cases: what the protocol makes of the rows of a split. Array arithmetic throughout.

Order of the rules: ``targets: next`` takes the first event after the cut, and ``every_next`` makes a case of each event after
the cut, whose history is all that came before it, earlier targets included; ``seen_items: exclude`` removes targets of the full
history; ``unknown_targets: drop`` removes targets outside the candidates; of a target that stands twice in a case the first is
kept. A case without targets is not evaluated, and counted by the rule that took its last one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from benchbed.data.dataset import Cases, IntArray, Ragged
from benchbed.data.stored import read_table

CANDIDATES: tuple[Literal["vocabulary", "catalogue"], ...] = ("vocabulary", "catalogue")


class CaseRules(Protocol):
    """The options of the evaluation block that decide the cases."""

    @property
    def seen_items(self) -> Literal["exclude", "keep"]: ...  # noqa: D102  # said above
    @property
    def candidates(self) -> Literal["vocabulary", "catalogue"]: ...  # noqa: D102  # said above
    @property
    def unknown_targets(self) -> Literal["miss", "drop"]: ...  # noqa: D102  # said above
    @property
    def targets(self) -> Literal["rest", "next", "every_next"]: ...  # noqa: D102  # said above


@dataclass(frozen=True)
class Rules:
    """Plain :class:`CaseRules`."""

    seen_items: Literal["exclude", "keep"]
    candidates: Literal["vocabulary", "catalogue"] = "vocabulary"
    unknown_targets: Literal["miss", "drop"] = "miss"
    targets: Literal["rest", "next", "every_next"] = "rest"


def rules_key(rules: CaseRules) -> str:
    """The options as one text, under which ``audit.json`` counts cases.

    Examples
    --------
    >>> rules_key(Rules("exclude"))
    'exclude-vocabulary-miss-rest'
    """
    return "-".join((rules.seen_items, rules.candidates, rules.unknown_targets, rules.targets))


@dataclass(frozen=True)
class CaseCounts:
    """What became of the cases of a split under one protocol.

    Attributes
    ----------
    cases
        Evaluated cases.
    targets
        Targets of these, unknown ones included.
    unknown_targets
        Targets outside the candidates: counted as misses, or dropped, as the protocol says.
    seen_targets
        Targets removed because the history holds them.
    repeated_targets
        Targets removed because the same case has them already.
    cases_without_unseen_targets, cases_without_known_targets
        Cases not evaluated because no target was left by the rule.
    """

    cases: int
    targets: int
    unknown_targets: int
    seen_targets: int
    repeated_targets: int
    cases_without_unseen_targets: int
    cases_without_known_targets: int


@dataclass(frozen=True)
class RawCases:
    """Cases before any rule. Items are dataset indices.

    ``seen`` and ``repeated`` have a flag for each target: whether the case's history holds it, and whether an earlier target of
    the case is the same item.
    """

    users: IntArray
    histories: Ragged
    targets: Ragged

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        """Targets that the history holds."""
        wanted = np.unique(self._keys(self.targets))
        given = self._keys(self.histories)
        # A search of the many in the few: cheaper than sorting whole histories.
        place = np.minimum(np.searchsorted(wanted, given), max(len(wanted) - 1, 0))
        hit = np.zeros(len(wanted), bool)
        if len(wanted):
            hit[place[wanted[place] == given]] = True
        return hit[np.searchsorted(wanted, self._keys(self.targets))]

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
        return int(max(rows.values.max(initial=0) for rows in (self.histories, self.targets)))

    def _keys(self, rows: Ragged) -> IntArray:
        return rows.row_of_value * (self.last_item + 1) + rows.values


def read_raw_cases(path: Path) -> RawCases:
    """The cases of ``valid.parquet`` or ``test.parquet``."""
    table = read_table(path, columns=["user", "item", "target"])
    user, item, target = (table.column(name).to_numpy() for name in ("user", "item", "target"))
    target = target.astype(bool)
    starts = run_starts(user)
    both = Ragged(item.astype(np.int64), np.append(starts, len(item)))
    return RawCases(user[starts].astype(np.int64), both.keep(~target), both.keep(target))


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


def make_cases(raw: RawCases, vocabulary: Vocabulary, rules: CaseRules) -> tuple[Cases, CaseCounts]:
    """Apply a protocol.

    Parameters
    ----------
    raw
        The cases of the split.
    vocabulary
        The candidates under ``rules.candidates``.
    rules
        Options of the evaluation block.
    """
    index = vocabulary.model_index(raw.last_item)
    if rules.targets == "every_next":
        chosen, counts = _choose_every(raw, index, rules)
        rows, histories, targets = _every_next(raw, np.flatnonzero(chosen))
        return Cases(raw.users[rows], _indexed(histories, index), _indexed(targets, index)), counts
    evaluated, chosen, counts = _choose(raw, index, rules)
    kept = np.flatnonzero(evaluated)
    histories, targets = raw.histories.take(kept), raw.targets.keep(chosen).take(kept)
    # A rule that removes a target removes its repetitions with it: what is left was repeated as often as in the raw list.
    listed = rules.targets == "rest" and bool(raw.repeated.any())
    repeats = Ragged(raw.times, raw.targets.offsets).keep(chosen).take(kept).values if listed else None
    return Cases(raw.users[kept], _indexed(histories, index), _indexed(targets, index), repeats), counts


def _indexed(rows: Ragged, index: IntArray) -> Ragged:
    return Ragged(index[rows.values], rows.offsets)


def _every_next(raw: RawCases, places: IntArray) -> tuple[IntArray, Ragged, Ragged]:
    """A case for each of the given places among all targets: its row in ``raw``, what came before it, and the target."""
    rows = raw.targets.row_of_value[places]
    before = places - raw.targets.offsets[rows]  # targets of the same row that come first
    # Each row's history and targets end to end: the history of a case is the beginning of its row.
    lengths = raw.histories.lengths + raw.targets.lengths
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    whole = np.empty(int(starts[-1]), np.int64)
    for part, shift in ((raw.histories, np.zeros(len(lengths), np.int64)), (raw.targets, raw.histories.lengths)):
        own = np.arange(len(part.values)) - np.repeat(part.offsets[:-1], part.lengths)
        whole[np.repeat(starts[:-1] + shift, part.lengths) + own] = part.values
    sizes = raw.histories.lengths[rows] + before
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    index = np.repeat(starts[:-1][rows] - offsets[:-1], sizes) + np.arange(offsets[-1])
    return rows, Ragged(whole[index], offsets), Ragged(raw.targets.values[places], np.arange(len(places) + 1, dtype=np.int64))


def _choose_every(raw: RawCases, model_index: IntArray, rules: CaseRules) -> tuple[NDArray[np.bool_], CaseCounts]:
    """Which targets make a case under ``every_next``, and how many went by which rule."""
    total = len(raw.targets.values)
    seen = raw.seen | raw.repeated if rules.seen_items == "exclude" else np.zeros(total, bool)
    unknown = ~seen & (model_index[raw.targets.values] == 0)
    chosen = ~seen & ~unknown if rules.unknown_targets == "drop" else ~seen
    cases = int(chosen.sum())
    return chosen, CaseCounts(
        cases=cases,
        targets=cases,
        unknown_targets=int(unknown.sum()),
        seen_targets=int(seen.sum()),
        repeated_targets=0,
        cases_without_unseen_targets=int(seen.sum()),
        cases_without_known_targets=int(total - seen.sum() - cases),
    )


def _choose(raw: RawCases, model_index: IntArray, rules: CaseRules) -> tuple[NDArray[np.bool_], NDArray[np.bool_], CaseCounts]:
    """Which cases are evaluated, which targets count, and how many went by which rule."""
    targets, rows = raw.targets, raw.targets.row_of_value

    def cases_with(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.bincount(rows[mask], minlength=len(raw.users)) > 0

    chosen = np.ones(len(rows), bool)
    if rules.targets == "next":
        chosen[:] = False
        chosen[targets.offsets[:-1][targets.lengths > 0]] = True
    before = cases_with(chosen)
    seen = chosen & raw.seen if rules.seen_items == "exclude" else np.zeros(len(rows), bool)
    chosen &= ~seen
    unseen = cases_with(chosen)
    repeated = chosen & raw.repeated
    chosen &= ~repeated
    unknown = chosen & (model_index[targets.values] == 0)
    if rules.unknown_targets == "drop":
        chosen &= ~unknown
    evaluated = cases_with(chosen)
    counts = CaseCounts(
        cases=int(evaluated.sum()),
        targets=int(chosen.sum()),
        unknown_targets=int(unknown.sum()),
        seen_targets=int(seen.sum()),
        repeated_targets=int(repeated.sum()),
        cases_without_unseen_targets=int((before & ~unseen).sum()),
        cases_without_known_targets=int((unseen & ~evaluated).sum()),
    )
    return evaluated, chosen, counts


def _count(raw: RawCases, model_index: IntArray, rules: CaseRules) -> CaseCounts:
    return _choose_every(raw, model_index, rules)[1] if rules.targets == "every_next" else _choose(raw, model_index, rules)[2]


def all_rules() -> Iterator[Rules]:
    """Every combination of options."""
    choices = (("exclude", "keep"), ("vocabulary", "catalogue"), ("miss", "drop"), ("rest", "next", "every_next"))
    for chosen in product(*choices):
        yield Rules(*chosen)  # type: ignore[arg-type]  # product() forgets the literal types


def count_all_options(split_folder: Path, valid: Path, test: Path) -> dict[str, dict[str, dict[str, int]]]:
    """Counts of cases under every protocol, by part and :func:`rules_key`; made with the split, before any model exists."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for part, path in (("valid", valid), ("test", test)):
        raw = read_raw_cases(path)
        index = {c: read_vocabulary(split_folder, c).model_index(raw.last_item) for c in CANDIDATES}
        found[part] = {rules_key(rules): asdict(_count(raw, index[rules.candidates], rules)) for rules in all_rules()}
    return found
