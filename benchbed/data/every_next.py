"""``targets: every_next``: each event after the cut is a case, whose history is all that came before it.

With ``unknown_targets: drop`` events of items outside the candidates are taken out of the sequence before anything is paired,
as GRU4Rec's authors do: they are neither targets nor history, and an event without another before it is no target.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchbed.data.case_rules import CaseCounts, CaseRules
from benchbed.data.dataset import IntArray, Ragged, Spans
from benchbed.data.raw_cases import RawCases


def choose_every(raw: RawCases, model_index: IntArray, rules: CaseRules) -> tuple[NDArray[np.bool_], CaseCounts]:
    """Which targets make a case, and how many went by which rule."""
    total = len(raw.targets.values)
    seen = raw.seen | raw.repeated if rules.seen_items == "exclude" else np.zeros(total, bool)
    unknown = ~seen & (model_index[raw.targets.values] == 0)
    chosen, alone = ~seen, None
    if rules.unknown_targets == "drop":
        chosen &= ~unknown
        alone = chosen & (_sequences(raw, np.arange(total), model_index, rules)[1].lengths == 0)
        chosen &= ~alone
    cases = int(chosen.sum())
    return chosen, CaseCounts(
        cases=cases,
        targets=cases,
        unknown_targets=int(unknown.sum()),
        seen_targets=int(seen.sum()),
        repeated_targets=0,
        cases_without_unseen_targets=int(seen.sum()),
        cases_without_known_targets=int(unknown.sum()) if rules.unknown_targets == "drop" else 0,
        cases_without_known_history=None if alone is None else int(alone.sum()),
    )


def every_next(
    raw: RawCases, chosen: NDArray[np.bool_], model_index: IntArray, rules: CaseRules
) -> tuple[IntArray, Spans, Ragged]:
    """The cases of the chosen targets: the row in ``raw`` of each, its history and its target, as dataset indices.

    Histories of one row are the beginnings of one sequence, which they share.
    """
    places = np.flatnonzero(chosen)
    rows, histories = _sequences(raw, places, model_index, rules)
    return rows, histories, Ragged(raw.targets.values[places], np.arange(len(places) + 1, dtype=np.int64))


def _sequences(raw: RawCases, places: IntArray, model_index: IntArray, rules: CaseRules) -> tuple[IntArray, Spans]:
    """The row of each of the given places among all targets, and what counts of what came before it."""
    rows = raw.targets.row_of_value[places]
    whole = raw.histories.followed_by(raw.targets)  # each row's history and targets, end to end
    starts = whole.offsets[:-1][rows]
    ends = starts + raw.histories.lengths[rows] + places - raw.targets.offsets[rows]
    if rules.unknown_targets != "drop":
        return rows, Spans(whole.values, starts, ends)
    known = model_index[whole.values] > 0
    place = np.concatenate([np.zeros(1, np.int64), np.cumsum(known)])  # among the known events
    return rows, Spans(whole.values[known], place[starts], place[ends])
