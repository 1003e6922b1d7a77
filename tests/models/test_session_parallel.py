"""Session-parallel batches: the stream worked out by hand, and a slow loop over sessions as the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Ragged
from benchbed.models.session_parallel import SessionParallelBatches

SESSIONS = Ragged.of([[1, 2, 3], [4, 5], [6, 7, 8, 9], [1, 5], [2, 8, 3]])


def make(
    sessions: Ragged = SESSIONS, batch_size: int = 2, in_batch_only: bool = False, order: object = None
) -> SessionParallelBatches:
    return SessionParallelBatches(
        sessions,
        order=order,  # type: ignore[arg-type]
        batch_size=batch_size,
        in_batch_only=in_batch_only,
        device="cpu",
    )


def stream(batches: SessionParallelBatches) -> list[tuple[list[int], list[int], list[int]]]:
    """(inputs, targets, rows that start) of every step."""
    return [(s.inputs.tolist(), s.targets.tolist(), s.reset.nonzero().flatten().tolist()) for s in batches]


def random_sessions(n: int, seed: int, longest: int = 9) -> Ragged:
    rng = np.random.default_rng(seed)
    return Ragged.of([rng.integers(1, 50, rng.integers(0, longest)).tolist() for _ in range(n)])


def one_by_one(sessions: Ragged, batch_size: int) -> list[list[tuple[int, int]]]:
    """The slots of every step as (session, place), by walking event by event."""
    unread = [row for row in range(len(sessions)) if len(sessions[row]) > 1]
    slots = [(unread.pop(0), 0) for _ in range(min(batch_size, len(unread)))]
    steps = []
    while slots:
        steps.append(slots)
        after = []
        for row, place in slots:
            if place + 2 < len(sessions[row]):
                after.append((row, place + 1))
            elif unread:
                after.append((unread.pop(0), 0))
        slots = after
    return steps


TWO_SLOTS = [
    ([1, 4], [2, 5], [0, 1]),
    ([2, 6], [3, 7], [1]),
    ([1, 7], [5, 8], [0]),
    ([2, 8], [8, 9], [0]),
    ([8], [3], []),
]


@pytest.mark.fidelity("G2")
def test_two_slots_worked_out_by_hand() -> None:
    assert stream(make()) == TWO_SLOTS
    assert [step.slots.tolist() for step in make()] == [[0, 1]] * 4 + [[0]]


@pytest.mark.fidelity("G2")
def test_three_slots_worked_out_by_hand() -> None:
    expected = [
        ([1, 4, 6], [2, 5, 7], [0, 1, 2]),
        ([2, 1, 7], [3, 5, 8], [1]),
        ([2, 8], [8, 9], [0]),
        ([8], [3], []),
    ]
    assert stream(make(batch_size=3)) == expected
    # The second slot falls away after the second step, the third one moves up.
    assert [step.slots.tolist() for step in make(batch_size=3)] == [[0, 1, 2], [0, 1, 2], [0, 2], [0]]


@pytest.mark.fidelity("G5")
def test_with_negatives_of_the_batch_alone_only_the_last_slot_is_left_out() -> None:
    batches = make(in_batch_only=True)
    assert stream(batches) == TWO_SLOTS[:4]
    assert batches.n_targets == 8
    assert stream(make(batch_size=1, in_batch_only=True)) == []


@pytest.mark.fidelity("G2", "G5")
@pytest.mark.parametrize("batch_size", [1, 2, 7, 32, 100])
def test_the_stream_is_that_of_a_loop_over_sessions(batch_size: int) -> None:
    sessions = random_sessions(60, seed=batch_size)
    batches, reference = make(sessions, batch_size), one_by_one(sessions, batch_size)
    assert len(batches) == len(reference)
    for step, slots in zip(batches, reference, strict=True):
        assert step.inputs.tolist() == [sessions[row][place] for row, place in slots]
        assert step.targets.tolist() == [sessions[row][place + 1] for row, place in slots]
        assert step.reset.tolist() == [place == 0 for _, place in slots]
    assert batches.n_targets == sum(step.n_targets for step in batches) == int((sessions.lengths - 1).clip(min=0).sum())


@pytest.mark.fidelity("G1", "G2")
@pytest.mark.parametrize("batch_size", [1, 3, 8, 64])
def test_a_state_sees_the_events_of_its_session_and_nothing_else(batch_size: int) -> None:
    """The state writes down what it has seen, as digits: a state that is lost, kept too long or swapped is another number."""
    sessions = random_sessions(40, seed=5)
    expected = sorted(
        tuple(sessions[row][: place + 2].tolist()) for row in range(len(sessions)) for place in range(len(sessions[row]) - 1)
    )
    state, seen = torch.full((1, batch_size, 1), torch.nan, dtype=torch.float64), []
    for step in make(sessions, batch_size):
        before = step.carry(state)
        assert not before[0, step.reset].any()  # exactly zero, whatever the slot held
        state = before * 50 + step.inputs[:, None]
        for number, target in zip(state.flatten().tolist(), step.targets.tolist(), strict=True):
            digits = []
            while number:
                number, digit = divmod(number, 50)
                digits.append(int(digit))
            seen.append((*reversed(digits), target))
    assert sorted(seen) == expected


@pytest.mark.fidelity("G6")
def test_more_slots_than_sessions() -> None:
    batches = make(batch_size=64)
    assert stream(batches)[0] == ([1, 4, 6, 1, 2], [2, 5, 7, 5, 8], [0, 1, 2, 3, 4])
    assert batches.n_targets == 9 and len(batches) == 3
    assert [step.carry(torch.zeros(2, rows, 4)).shape for step, rows in zip(batches, (64, 5, 3), strict=True)] == [
        (2, 5, 4),
        (2, 3, 4),
        (2, 1, 4),
    ]


def test_sessions_are_read_in_the_given_order_and_the_same_each_epoch() -> None:
    order = np.array([4, 2, 0])
    batches = make(order=order)
    assert stream(batches) == stream(make(SESSIONS.take(order))) == stream(batches)


def test_no_session_of_two_events_gives_no_step() -> None:
    for sessions in (Ragged.of([]), Ragged.of([[], [3]])):
        assert stream(make(sessions)) == [] and make(sessions).n_targets == 0


def test_views_made_in_blocks_join_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stream(make(random_sessions(60, seed=1)))
    monkeypatch.setattr("benchbed.models.session_parallel._STEPS_AT_ONCE", 7)
    assert stream(make(random_sessions(60, seed=1))) == whole
