from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from benchbed.data.cases import CaseCounts, Rules, all_rules, make_cases, rules_key
from benchbed.data.dataset import Ragged
from benchbed.data.raw_cases import RawCases, Vocabulary


def raw_cases(*cases: tuple[list[int], list[int]]) -> RawCases:
    return RawCases(
        np.arange(1, len(cases) + 1), Ragged.of([history for history, _ in cases]), Ragged.of([targets for _, targets in cases])
    )


def vocabulary(*items: int) -> Vocabulary:
    """Model index 1 is the first item, and so on."""
    return Vocabulary(np.array([0, *items]), np.zeros(len(items) + 1, np.int64), ("", *map(str, items)))


def made(raw: RawCases, chosen: Vocabulary, rules: Rules):
    cases, counts = make_cases(raw, chosen, rules)
    rows = [(int(user), cases.histories[row].tolist(), cases.targets[row].tolist()) for row, user in enumerate(cases.users)]
    if rules.targets == "every_next":
        return rows, counts
    return {user: (history, targets) for user, history, targets in rows}, counts


def brute(raw: RawCases, chosen: Vocabulary, rules: Rules):
    """The rules one after the other, in words."""
    index = {int(item): n for n, item in enumerate(chosen.items) if n}
    if rules.targets == "every_next":
        return brute_every(raw, index, rules)
    rows, counts = {}, CaseCounts(0, 0, 0, 0, 0, 0, 0).__dict__.copy()
    for row, user in enumerate(raw.users):
        history, targets = raw.histories[row].tolist(), raw.targets[row].tolist()
        if rules.targets == "next":
            targets = targets[:1]
        had = bool(targets)
        if rules.seen_items == "exclude":
            counts["seen_targets"] += sum(t in history for t in targets)
            targets = [t for t in targets if t not in history]
            if had and not targets:
                counts["cases_without_unseen_targets"] += 1
                continue
        once = list(dict.fromkeys(targets))
        counts["repeated_targets"] += len(targets) - len(once)
        counts["unknown_targets"] += sum(t not in index for t in once)
        if rules.unknown_targets == "drop":
            known = [t for t in once if t in index]
            if once and not known:
                counts["cases_without_known_targets"] += 1
            once = known
        if once:
            counts["cases"] += 1
            counts["targets"] += len(once)
            rows[int(user)] = ([index.get(i, 0) for i in history], [index.get(t, 0) for t in once])
    return rows, CaseCounts(**counts)


def brute_every(raw: RawCases, index: dict[int, int], rules: Rules):
    rows, seen, unknown, alone, drop = [], 0, 0, 0, rules.unknown_targets == "drop"
    for row, user in enumerate(raw.users):
        history = raw.histories[row].tolist()
        for target in raw.targets[row].tolist():
            before = [i for i in history if i in index or not drop]
            if rules.seen_items == "exclude" and target in history:
                seen += 1
            elif target not in index and drop:
                unknown += 1
            elif drop and not before:
                alone += 1
            else:
                unknown += target not in index
                rows.append((int(user), [index.get(i, 0) for i in before], [index.get(target, 0)]))
            history.append(target)
    gone = {"cases_without_known_targets": unknown, "cases_without_known_history": alone} if drop else {}
    return rows, CaseCounts(len(rows), len(rows), unknown, seen, 0, seen, **gone)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rules", all_rules(), ids=rules_key)
def test_every_combination_equals_the_rules_in_words(rules, seed):
    rng = np.random.default_rng(seed)

    def draw(least: int) -> list[int]:
        return rng.integers(1, 12, rng.integers(least, 7)).tolist()

    raw = raw_cases(*((draw(seed % 2), draw(1)) for _ in range(30)))
    chosen = vocabulary(*rng.permutation(np.arange(1, 12))[:6].tolist())
    assert made(raw, chosen, rules) == brute(raw, chosen, rules)


def test_next_is_the_first_event_and_not_the_first_that_suits():
    raw = raw_cases(([1, 2], [2, 3]), ([1], [9, 3]))
    rows, counts = made(raw, vocabulary(1, 2, 3), Rules("exclude", unknown_targets="drop", targets="next"))
    assert rows == {}
    assert (counts.cases_without_unseen_targets, counts.cases_without_known_targets) == (1, 1)


def test_unknown_targets_stay_as_misses_one_for_each_item():
    rows, counts = made(raw_cases(([1], [8, 9, 8, 2])), vocabulary(1, 2), Rules("keep"))
    assert rows == {1: ([1], [0, 0, 2])}
    assert (counts.targets, counts.unknown_targets, counts.repeated_targets) == (3, 2, 1)


def test_no_cases_are_no_error():
    for rules, raw in product(all_rules(), (raw_cases(), raw_cases(([1], [])))):
        rows, counts = made(raw, vocabulary(1), rules)
        assert len(rows) == 0 and counts.cases == 0


def test_repeated_targets_are_counted() -> None:
    raw = raw_cases(([1], [3, 2, 3, 9, 3, 9]), ([4], [5, 6]), ([2], [2, 2, 6, 6]))
    cases, counts = make_cases(raw, vocabulary(1, 2, 3, 4, 5, 6), Rules("exclude"))
    assert [cases.targets[row].tolist() for row in range(3)] == [[3, 2, 0], [5, 6], [6]]
    assert cases.repeats is not None and cases.repeats.tolist() == [3, 1, 2, 1, 1, 2]
    assert counts.repeated_targets == 4
    assert cases.take(np.array([2, 0])).repeats.tolist() == [2, 3, 1, 2]  # type: ignore[union-attr]
    assert make_cases(raw, vocabulary(2, 3), Rules("keep", targets="next"))[0].repeats is None


def test_every_next_gives_a_session_of_n_events_n_minus_one_cases():
    rows, counts = made(raw_cases(([5], [6, 5, 5, 9]), ([7], [7])), vocabulary(5, 6, 7), Rules("keep", targets="every_next"))
    assert rows == [
        (1, [1], [2]),
        (1, [1, 2], [1]),
        (1, [1, 2, 1], [1]),
        (1, [1, 2, 1, 1], [0]),
        (2, [3], [3]),
    ]
    assert (counts.cases, counts.targets, counts.unknown_targets) == (5, 5, 1)


def test_with_one_target_a_user_every_next_is_next():
    raw = raw_cases(([1, 2], [3]), ([2], [9]))
    rows, _ = made(raw, vocabulary(1, 2, 3), Rules("exclude", targets="every_next"))
    assert {user: (history, targets) for user, history, targets in rows} == made(
        raw, vocabulary(1, 2, 3), Rules("exclude", targets="next")
    )[0]


def test_sixty_thousand_cases_are_made_at_once():
    sessions = [list(range(1, 6))] * 15_000
    cases, counts = make_cases(
        raw_cases(*((row[:1], row[1:]) for row in sessions)), vocabulary(*range(1, 6)), Rules("keep", targets="every_next")
    )
    assert counts.cases == 60_000 and cases.histories.lengths.sum() == 150_000
    assert len(cases.histories.values) == 75_000 == 5 * len(sessions)  # pieces of the sessions, never written out


def test_unknown_events_are_dropped_before_pairing_as_gru4recs_authors_do():
    """The loops of ``evaluation.py``: events of unknown items leave a session, the others are paired."""
    rng = np.random.default_rng(7)
    sessions = [rng.integers(1, 30, rng.integers(2, 9)).tolist() for _ in range(200)]
    chosen = vocabulary(*range(1, 16))
    index = chosen.model_index(30)
    expected = []
    for user, session in enumerate(sessions, start=1):
        kept = [int(index[item]) for item in session if index[item]]
        expected += [(user, kept[:place], [kept[place]]) for place in range(1, len(kept))]
    rules = Rules("keep", unknown_targets="drop", targets="every_next")
    rows, counts = made(raw_cases(*((session[:1], session[1:]) for session in sessions)), chosen, rules)
    assert rows == expected and counts.cases == len(expected)
    firsts = sum(not index[session[0]] and any(index[session[1:]]) for session in sessions)
    assert counts.cases_without_known_history == firsts > 0
