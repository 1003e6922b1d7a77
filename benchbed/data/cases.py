"""Evaluation cases: what the protocol makes of the rows of a split. Array arithmetic throughout.

Order of the rules: ``targets: next`` takes the first event after the cut, and ``every_next`` makes a case of each event after
the cut, whose history is all that came before it, earlier targets included; ``seen_items: exclude`` removes targets of the full
history; ``unknown_targets: drop`` removes targets outside the candidates; of a target that stands twice in a case the first is
kept. A case without targets is not evaluated, and counted by the rule that took its last one.

With ``mode: sampled`` each case gets its negatives then: those that were shipped with the data, or drawn ones. A case without a
negative among the candidates is not evaluated: any model would put its target first. With ``mode: click_through`` none of these
rules applies: cases are the labelled rows of their split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from benchbed.data.dataset import Cases, IntArray, Ragged
from benchbed.data.drawing import combined, draw
from benchbed.data.raw_cases import CANDIDATES, RawCases, Vocabulary, read_raw_cases, read_vocabulary, run_starts
from benchbed.errors import DataError


class CaseRules(Protocol):
    """The options of the evaluation block that decide the cases."""

    @property
    def seen_items(self) -> Literal["exclude", "keep"]:
        """Whether items of the history are candidates and targets."""
        ...

    @property
    def candidates(self) -> Literal["vocabulary", "catalogue"]:
        """What is ranked."""
        ...

    @property
    def unknown_targets(self) -> Literal["miss", "drop"]:
        """What becomes of targets outside the candidates."""
        ...

    @property
    def targets(self) -> Literal["rest", "next", "every_next"]:
        """Which events after the cut are targets, and of which case."""
        ...

    @property
    def mode(self) -> Literal["full", "sampled", "click_through"]:
        """Whether all candidates are ranked, listed ones, or labelled rows told apart."""
        ...

    @property
    def negatives(self) -> Literal["shipped"] | int | None:
        """Where listed negatives come from."""
        ...

    @property
    def flawed_negatives(self) -> Literal["drop", "keep"]:
        """What becomes of shipped negatives that are none."""
        ...

    @property
    def seed(self) -> int:
        """Of drawn negatives."""
        ...


@dataclass(frozen=True)
class Rules:
    """Plain :class:`CaseRules`."""

    seen_items: Literal["exclude", "keep"]
    candidates: Literal["vocabulary", "catalogue"] = "vocabulary"
    unknown_targets: Literal["miss", "drop"] = "miss"
    targets: Literal["rest", "next", "every_next"] = "rest"
    mode: Literal["full", "sampled", "click_through"] = "full"
    negatives: Literal["shipped"] | int | None = None
    flawed_negatives: Literal["drop", "keep"] = "drop"
    seed: int = 0


def rules_key(rules: CaseRules) -> str:
    """The options as one text, under which ``audit.json`` counts cases; before any is left out for want of negatives.

    Examples
    --------
    >>> rules_key(Rules("exclude")), rules_key(Rules("keep", "catalogue", mode="click_through"))
    ('exclude-vocabulary-miss-rest', 'click_through-catalogue-miss')
    """
    if rules.mode == "click_through":
        return "-".join((rules.mode, rules.candidates, rules.unknown_targets))
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
    negatives, unknown_negatives
        Negative rows of ``mode: click_through`` and those among them of items outside the candidates; None in other modes.
    cases_without_negatives
        Cases of ``mode: sampled`` not evaluated because none of their negatives is a candidate, or none was left; None in other
        modes, and where nothing was listed yet.
    """

    cases: int
    targets: int
    unknown_targets: int
    seen_targets: int = 0
    repeated_targets: int = 0
    cases_without_unseen_targets: int = 0
    cases_without_known_targets: int = 0
    negatives: int | None = None
    unknown_negatives: int | None = None
    cases_without_negatives: int | None = None

    @property
    def stored(self) -> dict[str, int]:
        """As in ``audit.json``: what is known."""
        return {name: count for name, count in asdict(self).items() if count is not None}


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

    Raises
    ------
    DataError
        The mode asks for what the split does not have, or leaves every case without a negative.
    """
    index = vocabulary.model_index(raw.last_item)
    if rules.mode == "click_through":
        return _labelled(raw, index, rules)
    repeats = None
    if rules.targets == "every_next":
        chosen, counts = _choose_every(raw, index, rules)
        rows, histories, targets = _every_next(raw, np.flatnonzero(chosen))
    else:
        evaluated, chosen, counts = _choose(raw, index, rules)
        rows = np.flatnonzero(evaluated)
        histories, targets = raw.histories.take(rows), raw.targets.keep(chosen).take(rows)
        # A rule that removes a target removes its repetitions with it: what is left was repeated as often as in the raw list.
        if rules.targets == "rest" and bool(raw.repeated.any()):
            repeats = Ragged(raw.times, raw.targets.offsets).keep(chosen).take(rows).values
    cases = Cases(raw.users[rows], _indexed(histories, index), _indexed(targets, index), repeats)
    if rules.mode == "sampled":
        return _with_negatives(cases, _indexed(_others(raw, rows, histories, targets, vocabulary, rules), index), counts)
    return cases, counts


def _with_negatives(cases: Cases, others: Ragged, counts: CaseCounts) -> tuple[Cases, CaseCounts]:
    """The cases that have a negative among the candidates, with all of theirs."""
    compared = others.keep(others.values > 0).lengths > 0
    if len(cases) and not compared.any():
        raise DataError(
            f"None of the {len(cases)} cases of a part has a negative to compare its targets with.",
            advice="Check the file of negatives against the log, or say how many are drawn for each case "
            "(`evaluation.negatives: 99`).",
        )
    rows = np.flatnonzero(compared)
    found = replace(cases, others=others).take(rows)
    gone = int((cases.targets.values == 0).sum()) - int((found.targets.values == 0).sum())
    return found, replace(
        counts,
        cases=len(rows),
        targets=len(found.targets.values),
        unknown_targets=counts.unknown_targets - gone,
        cases_without_negatives=len(cases) - len(rows),
    )


def _labelled(raw: RawCases, index: IntArray, rules: CaseRules) -> tuple[Cases, CaseCounts]:
    """Positives as targets, negatives as others; a case may lack the one or the other. Every row stays, 0 where unknown."""
    if raw.negatives is None:
        raise DataError(
            "This split has no labelled rows, and `mode: click_through` judges these.",
            advice="Take `split: {kind: click_through}`.",
        )
    targets, others = _indexed(raw.targets, index), _indexed(raw.negatives, index)
    return Cases(raw.users, _indexed(raw.histories, index), targets, None, others), _count(raw, index, rules)


def _others(
    raw: RawCases, rows: IntArray, histories: Ragged, targets: Ragged, vocabulary: Vocabulary, rules: CaseRules
) -> Ragged:
    """Listed negatives of cases, as dataset indices: shipped ones, or drawn ones.

    Parameters
    ----------
    raw
        The cases of the split.
    rows
        Of each case its row in ``raw``.
    histories, targets
        Of each case, as dataset indices.
    vocabulary
        The candidates; drawn negatives are some of these.
    rules
        Of ``mode: sampled``.
    """
    if rules.negatives == "shipped" and raw.negatives is not None:
        listed = raw.negatives.take(rows)
        if rules.flawed_negatives == "keep":
            return listed
        return listed.keep(~(listed.held_by(histories) | listed.held_by(targets)))
    wanted = raw.shipped if rules.negatives == "shipped" else rules.negatives
    if not isinstance(wanted, int):
        raise DataError(
            "This split ships no negatives.",
            advice="Say how many to draw (`evaluation.negatives: 99`), or name the file of negatives in the dataset card and "
            "take `split: {kind: leave_one_out, test: 'column: NAME'}`.",
        )
    items = np.sort(vocabulary.items[1:])  # in the order of the raw ids
    place = np.zeros(max(raw.last_item, int(items[-1])) + 1, np.int64)
    place[items] = np.arange(1, len(items) + 1)
    taken = histories.followed_by(targets)
    starts = run_starts(rows)
    turn = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))  # of a user's cases
    keys = combined((raw.users if raw.keys is None else raw.keys)[rows], turn)
    drawn = draw(rules.seed, keys, np.full(len(rows), wanted), Ragged(place[taken.values], taken.offsets), len(items))
    return Ragged(items[drawn.values - 1], drawn.offsets)


def _indexed(rows: Ragged, index: IntArray) -> Ragged:
    return Ragged(index[rows.values], rows.offsets)


def _every_next(raw: RawCases, places: IntArray) -> tuple[IntArray, Ragged, Ragged]:
    """A case for each of the given places among all targets: its row in ``raw``, what came before it, and the target."""
    rows = raw.targets.row_of_value[places]
    before = places - raw.targets.offsets[rows]  # targets of the same row that come first
    # Each row's history and targets end to end: the history of a case is the beginning of its row.
    whole = raw.histories.followed_by(raw.targets)
    sizes = raw.histories.lengths[rows] + before
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    index = np.repeat(whole.offsets[:-1][rows] - offsets[:-1], sizes) + np.arange(offsets[-1])
    return (
        rows,
        Ragged(whole.values[index], offsets),
        Ragged(raw.targets.values[places], np.arange(len(places) + 1, dtype=np.int64)),
    )


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
    if rules.mode == "click_through":
        return _count_labelled(raw, model_index, rules)
    return _choose_every(raw, model_index, rules)[1] if rules.targets == "every_next" else _choose(raw, model_index, rules)[2]


def _count_labelled(raw: RawCases, model_index: IntArray, rules: CaseRules) -> CaseCounts:
    assert raw.negatives is not None
    unknown = [int((model_index[rows.values] == 0).sum()) for rows in (raw.targets, raw.negatives)]
    dropped = unknown if rules.unknown_targets == "drop" else [0, 0]
    return CaseCounts(
        cases=len(raw.users),
        targets=len(raw.targets.values) - dropped[0],
        unknown_targets=unknown[0],
        negatives=len(raw.negatives.values) - dropped[1],
        unknown_negatives=unknown[1],
    )


def all_rules(*, labelled: bool = False) -> Iterator[Rules]:
    """Every combination of options; with ``labelled`` also those of ``mode: click_through``."""
    seen: tuple[Literal["exclude", "keep"], ...] = ("exclude", "keep")
    unknown: tuple[Literal["miss", "drop"], ...] = ("miss", "drop")
    targets: tuple[Literal["rest", "next", "every_next"], ...] = ("rest", "next", "every_next")
    for chosen in product(seen, CANDIDATES, unknown, targets):
        yield Rules(*chosen)
    for candidates, what in product(CANDIDATES, unknown) if labelled else ():
        yield Rules("keep", candidates, what, mode="click_through")


def count_all_options(
    split_folder: Path, valid: Path, test: Path, *, labelled: bool = False
) -> dict[str, dict[str, dict[str, int]]]:
    """Counts of cases under every protocol, by part and :func:`rules_key`; made with the split, before any model exists."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for part, path in (("valid", valid), ("test", test)):
        raw = read_raw_cases(path)
        index = {c: read_vocabulary(split_folder, c).model_index(raw.last_item) for c in CANDIDATES}
        found[part] = {
            rules_key(rules): _count(raw, index[rules.candidates], rules).stored for rules in all_rules(labelled=labelled)
        }
    return found
