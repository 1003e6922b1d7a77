"""Evaluation cases: what the protocol makes of the rows of a split. Array arithmetic throughout.

Order of the rules: ``targets: next`` takes the first event after the cut, and ``every_next`` makes a case of each event after
the cut, whose history is all that came before it, earlier targets included; ``seen_items: exclude`` removes targets of the full
history; ``unknown_targets: drop`` removes targets outside the candidates, and with ``every_next`` such events of histories too
(:mod:`benchbed.data.every_next`); of a target that stands twice in a case the first is kept. A case without targets is not
evaluated, and counted by the rule that took its last one.

With ``mode: sampled`` each case gets its negatives then: those that were shipped with the data, or drawn ones. A case without a
negative among the candidates is not evaluated: any model would put its target first. With ``mode: click_through`` none of these
rules applies: cases are the labelled rows of their split.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchbed.data.case_rules import CaseCounts, CaseRules, Rules, all_rules, rules_key
from benchbed.data.dataset import Cases, IntArray, Ragged, Spans
from benchbed.data.drawing import combined, draw
from benchbed.data.every_next import choose_every, every_next
from benchbed.data.raw_cases import CANDIDATES, RawCases, Vocabulary, read_raw_cases, read_vocabulary, run_starts
from benchbed.errors import DataError

__all__ = ["CaseCounts", "CaseRules", "Rules", "all_rules", "count_all_options", "make_cases", "rules_key"]

OTHERS_EVENTS = 2**22
"""Most events of histories that negatives are compared with at once; a single history may have more."""


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
        chosen, counts = choose_every(raw, index, rules)
        rows, histories, targets = every_next(raw, chosen, index, rules)
    else:
        evaluated, chosen, counts = _choose(raw, index, rules)
        rows = np.flatnonzero(evaluated)
        histories, targets = Spans.of(raw.histories.take(rows)), raw.targets.keep(chosen).take(rows)
        # A rule that removes a target removes its repetitions with it: what is left was repeated as often as in the raw list.
        if rules.targets == "rest" and bool(raw.repeated.any()):
            repeats = Ragged(raw.times, raw.targets.offsets).keep(chosen).take(rows).values
    known = Spans(index[histories.values], histories.starts, histories.ends)
    cases = Cases(raw.users[rows], known, _indexed(targets, index), repeats)
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
    raw: RawCases, rows: IntArray, histories: Spans, targets: Ragged, vocabulary: Vocabulary, rules: CaseRules
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
        held = [_part(listed, *run).held_by(histories.packed(*run)) for run in histories.runs(OTHERS_EVENTS)]
        return listed.keep(~(np.concatenate([np.zeros(0, bool), *held]) | listed.held_by(targets)))
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
    starts = run_starts(rows)
    turn = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))  # of a user's cases
    keys = combined((raw.users if raw.keys is None else raw.keys)[rows], turn)
    lists = []
    for start, stop in histories.runs(OTHERS_EVENTS):
        taken = histories.packed(start, stop).followed_by(_part(targets, start, stop))
        excluded = Ragged(place[taken.values], taken.offsets)
        lists.append(draw(rules.seed, keys[start:stop], np.full(stop - start, wanted), excluded, len(items)))
    lengths = np.concatenate([np.zeros(1, np.int64), *(drawn.lengths for drawn in lists)])
    return Ragged(items[np.concatenate([np.zeros(0, np.int64), *(drawn.values for drawn in lists)]) - 1], np.cumsum(lengths))


def _part(rows: Ragged, start: int, stop: int) -> Ragged:
    return Spans.of(rows).packed(start, stop)


def _indexed(rows: Ragged, index: IntArray) -> Ragged:
    return Ragged(index[rows.values], rows.offsets)


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
    return choose_every(raw, model_index, rules)[1] if rules.targets == "every_next" else _choose(raw, model_index, rules)[2]


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
