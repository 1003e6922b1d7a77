"""Session kNN against a plain loop over sessions."""

from __future__ import annotations

import math
from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest

from benchbed.data.dataset import Cases, Ragged, Sequences, TrainingData
from benchbed.data.histories import Histories
from benchbed.models import session_knn
from benchbed.models.session_knn import SessionKNN, SessionKNNConfig

WEIGHTS: dict[str, Callable[[int, int], float]] = {
    "none": lambda back, n: 1.0,
    "linear": lambda back, n: max(0.0, 1 - back / 10),
    "share": lambda back, n: (n - back) / n,
    "quadratic": lambda back, n: ((n - back) / n) ** 2,
    "log": lambda back, n: 1 / math.log10(back + 1.7),
}
VOTE_WEIGHTS: dict[str, Callable[[int], float]] = {
    "none": lambda step: 1.0,
    "linear": lambda step: max(0.0, 1 - step / 10),
    "share": lambda step: 1 / step,
    "quadratic": lambda step: 1 / step**2,
    "log": lambda step: 1 / math.log10(step + 1.7),
}


def made(sessions: list[list[int]], n_items: int, **keys: object) -> SessionKNN:
    counts = np.bincount([item for session in sessions for item in session], minlength=n_items + 1)
    train = Sequences(np.arange(len(sessions)), Ragged.of(sessions))
    nobody = Cases(np.zeros(0, np.int64), Ragged.of([]), Ragged.of([]))
    data = TrainingData("sessions", n_items, counts, ("", *map(str, range(n_items))), train, nobody)
    model = SessionKNN(SessionKNNConfig.model_validate(keys), data)
    model.fit()
    return model


def ask(histories: list[list[int]]) -> Histories:
    return Histories.of(np.arange(len(histories)), Ragged.of(histories))


def by_hand(sessions: list[list[int]], n_items: int, history: list[int], config: SessionKNNConfig) -> list[float]:
    """One history at a time, one session after another."""
    history = [item for item in history if item]
    n = len(history)
    back = {item: n - 1 - place for place, item in enumerate(history)}  # the newest place wins
    candidates = [place for place, session in enumerate(sessions) if set(session) & set(history)]
    likeness = {}
    for place in candidates[-config.sample_size :]:
        value = sum(WEIGHTS[config.weighting](back[item], n) for item in sorted(set(sessions[place]) & set(history)))
        likeness[place] = value / math.sqrt(len(set(sessions[place]))) if config.similarity == "cosine" else value
    nearest = sorted(likeness, key=lambda place: (-likeness[place], -place))[: config.neighbours]
    scores = [0.0] * (n_items + 1)
    for place in nearest:
        step = 1 + min(back[item] for item in set(sessions[place]) & set(history))
        for item in set(sessions[place]):
            held = sum(item in session for session in sessions)
            rarity = 1 + config.rarity * math.log(len(sessions) / held)
            scores[item] += likeness[place] * VOTE_WEIGHTS[config.vote_weighting](step) * rarity
    return scores


SESSIONS = [
    np.random.default_rng(seed).integers(1, 21, 1 + seed % 7).tolist() for seed in range(60)
]  # 20 items, sessions of 1 to 7 events, with repeats
HISTORIES = [[], [0], [5], [5, 5, 0, 7], [20, 0, 3, 9, 3], *([*range(1, n)] for n in (5, 14, 21)), [4, 8, 4, 15, 16, 4]]


@pytest.mark.parametrize(
    "keys",
    [
        {"similarity": "cosine", "weighting": "none", "vote_weighting": "none"},
        {
            "neighbours": 3,
            "sample_size": 6,
            "similarity": "cosine",
            "weighting": "linear",
            "vote_weighting": "share",
            "rarity": 2,
        },
        {"neighbours": 5, "sample_size": 4, "weighting": "log", "vote_weighting": "log"},
        {"neighbours": 1, "sample_size": 9, "weighting": "quadratic", "vote_weighting": "quadratic", "rarity": 0.5},
        {"neighbours": 6, "sample_size": 1000, "weighting": "share", "vote_weighting": "linear"},
    ],
)
def test_scores_are_those_of_a_loop_over_sessions(keys: dict[str, object]) -> None:
    model = made(SESSIONS, 22, **keys)
    found = model.scores(ask(HISTORIES))
    for row, history in enumerate(HISTORIES):
        expected = by_hand(SESSIONS, 22, history, model.config)
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-6, err_msg=f"{history}")
    assert not found[:2].any()  # nobody is like a session without known items


def test_a_small_case_by_hand() -> None:
    sessions = [[1, 2], [2, 3], [1, 4], [1, 2, 3]]
    model = made(sessions, 4, neighbours=2, sample_size=3, similarity="cosine", weighting="none", vote_weighting="none")
    # All four share an item with 1, 2; the newest three are compared: 1/sqrt 2, 1/sqrt 2, 2/sqrt 3. Of the equal two the newer
    # one votes.
    scores = model.scores(ask([[1, 2]]))[0]
    one, two = 1 / math.sqrt(2), 2 / math.sqrt(3)
    np.testing.assert_allclose(scores[1:], [one + two, two, two, one], rtol=1e-6)


def test_the_newest_event_decides_under_weights() -> None:
    sessions = [[1, 3], [2, 4]]
    model = made(sessions, 4, weighting="share", vote_weighting="none")
    first, second = model.scores(ask([[1, 2], [2, 1]]))
    assert first[4] > first[3] and second[3] > second[4]


def test_histories_are_taken_in_parts_that_fit_the_memory() -> None:
    model = made(SESSIONS, 22)
    whole = model.scores(ask(HISTORIES))
    for pairs in (1, 40):
        with mock.patch.object(session_knn, "PAIRS_AT_ONCE", pairs):
            np.testing.assert_array_equal(model.scores(ask(HISTORIES)), whole)


def test_nothing_to_compare_with() -> None:
    model = made([[1], [2]], 4)
    assert not model.scores(ask([[4], [3, 4]])).any()
    assert model.scores(ask([])).shape == (0, 5)
    assert not made([], 3).scores(ask([[1]])).any()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "V-SKNN"),
        ({"similarity": "cosine", "weighting": "none", "vote_weighting": "none"}, "SKNN"),
        ({"similarity": "cosine"}, "mixed"),
    ],
)
def test_the_form_has_a_name(keys: dict[str, object], said: str) -> None:
    assert SessionKNN.variant(SessionKNNConfig.model_validate(keys)) == said


@pytest.mark.parametrize("newer", [0, 1])
def test_equal_sums_of_weights_are_equal_whatever_their_last_digits(newer: int) -> None:
    """.6 + .3 and .7 + .2: of two sessions that are equally similar the newer one is the neighbour."""
    history = list(range(1, 11))  # item i is 10 - i events back
    sessions = [[6, 3, 11], [7, 2, 12]]
    parts = [sum(WEIGHTS["linear"](back, 10) for back in backs) for backs in ((4, 7), (3, 8))]
    assert parts[0] != parts[1] and parts[0] == pytest.approx(parts[1])
    ordered = sessions if newer else sessions[::-1]
    model = made(ordered, 12, neighbours=1, weighting="linear", similarity="product")
    scores = model.scores(ask([history]))[0]
    assert (scores[11:] > 0).tolist() == [ordered[1] == sessions[0], ordered[1] == sessions[1]]
