from __future__ import annotations

import math

import optuna
import pytest
from search_fakes import MemoryRecorder, fake_models, plan, rows, space

from benchbed.search.counts import read_counts
from benchbed.search.ledger import MAX_DEATHS, Ledger
from benchbed.search.plans import FinalPlan, Shape
from benchbed.search.storage import open_storage

FINITE = {"depth": {"choices": [2, 3, 4], "source": "x"}, "heads": {"choices": [1, 2], "source": "x", "when": {"depth": 3}}}


@pytest.fixture(autouse=True)
def _models():
    with fake_models():
        yield


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path)


def final(**changes) -> FinalPlan:
    values = {
        "model": "fake",
        "split_seed": 42,
        "split_id": "split",
        "protocol": "p",
        "variant": "plain",
        "max_epochs": 9,
        "patience": 3,
        "parameters": {"rate": 0.5},
        "seeds": (7, 8, 9),
        "split_folder": "/somewhere",
        "sweep": "s",
    }
    return FinalPlan(**(values | changes))


def finish(ledger: Ledger, token: str, *values: float) -> bool:
    """Tell epoch after epoch, the last one as the end."""
    for number, value in enumerate(values, start=1):
        if not ledger.epochs(token, rows(value, start=number), last=number == len(values)):
            return False
    return True


def drain(ledger: Ledger, value=lambda assignment: assignment.parameters.get("rate", 0.5), epochs: int = 3) -> list:
    """Run everything there is, one after the other."""
    done = []
    while (assignment := ledger.next(f"t{len(done)}")) is not None:
        finish(ledger, f"t{len(done)}", *[value(assignment) * e / epochs for e in range(1, epochs + 1)])
        done.append(assignment)
    return done


def states(ledger: Ledger, which: int = 0) -> list[str]:
    return [trial.state.name for trial in ledger.studies[which].trials]


# ----- budget -------------------------------------------------------------------------------------------------------------


def test_the_budget_is_spent_exactly_and_trial_zero_is_the_default(storage):
    ledger = Ledger([plan(trials=6)], storage, MemoryRecorder())
    done = drain(ledger)
    assert [a.number for a in done] == list(range(6))
    assert done[0].parameters == {"rate": 0.1}
    assert len({a.parameters["rate"] for a in done}) == 6
    assert ledger.finished and ledger.next("more") is None


def test_pruned_and_failed_trials_count(storage):
    ledger = Ledger([plan(trials=3)], storage, MemoryRecorder())
    for token, kind in (("a", "error"), ("b", "timeout")):
        ledger.next(token)
        assert ledger.failed(token, kind, "it broke") is False
    ledger.next("c")
    ledger.epochs("c", rows(0.1, math.nan))
    assert states(ledger) == ["FAIL", "FAIL", "PRUNED"]
    assert ledger.finished


def test_no_searched_parameter_is_one_trial(storage):
    assert len(drain(Ledger([plan(space(parameters={}), trials=5)], storage, MemoryRecorder()))) == 1


@pytest.mark.parametrize("trials", [3, 4, 9])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_finite_space_never_gives_a_configuration_twice(storage, trials, sampler):
    made = space(parameters=FINITE)
    done = drain(Ledger([plan(made, trials=trials, sampler=sampler)], storage, MemoryRecorder()), lambda a: 0.5)
    assert made.size() == 4
    assert len(done) == min(trials, 4) == len({str(a.parameters) for a in done})
    assert done[0].parameters == made.default_labels()


def test_more_trials_continue_a_study_and_fewer_start_none(storage):
    recorder = MemoryRecorder()
    drain(Ledger([plan(trials=4)], storage, recorder))
    assert [a.number for a in drain(Ledger([plan(trials=6)], storage, recorder))] == [4, 5]
    assert drain(Ledger([plan(trials=2)], storage, recorder)) == []


def test_conditions_leave_inactive_parameters_to_the_config(storage):
    done = drain(Ledger([plan(space(parameters=FINITE), trials=4)], storage, MemoryRecorder()), lambda a: 0.5)
    assert all(("heads" in a.parameters) == (a.parameters["depth"] == 3) for a in done)


# ----- what is told -------------------------------------------------------------------------------------------------------


def test_the_best_value_is_told_never_the_last(storage):
    ledger = Ledger([plan(trials=1)], storage, MemoryRecorder())
    ledger.next("a")
    finish(ledger, "a", 0.1, 0.9, 0.3)
    (trial,) = ledger.studies[0].trials
    assert trial.value == 0.9 and trial.intermediate_values == {1: 0.1, 2: 0.9, 3: 0.3}
    assert ledger.studies[0].best().epoch == 2


def test_nan_after_a_finite_epoch_is_pruned_and_at_once_is_a_failure(storage):
    ledger = Ledger([plan(trials=3)], storage, MemoryRecorder())
    for token, values in (("a", (0.2, math.nan)), ("b", (math.nan,)), ("c", (math.inf,))):
        ledger.next(token)
        assert not finish(ledger, token, *values)
    assert states(ledger) == ["PRUNED", "FAIL", "FAIL"]
    assert ledger.studies[0].best() is None


def test_the_best_trial_is_complete_and_the_earlier_one_of_equals(storage):
    ledger = Ledger([plan(trials=4)], storage, MemoryRecorder())
    for token, values, last in (("a", [0.3], True), ("b", [0.5], True), ("c", [0.5], True), ("d", [0.9, math.nan], False)):
        ledger.next(token)
        ledger.epochs(token, rows(*values), last=last)
    assert ledger.studies[0].best().number == 1


def test_a_whole_history_may_be_sent_again(storage):
    recorder = MemoryRecorder()
    ledger = Ledger([plan(trials=1)], storage, recorder)
    ledger.next("a")
    ledger.epochs("a", rows(0.1))
    ledger.epochs("a", rows(0.1, 0.2))
    ledger.epochs("a", rows(0.1, 0.2, 0.3), last=True)
    (trial,) = ledger.studies[0].trials
    assert trial.intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}
    assert [run["steps"] for run in recorder.runs.values()] == [[1, 2, 3]]


# ----- pruning ------------------------------------------------------------------------------------------------------------


def test_successive_halving_keeps_the_best_third_at_each_rung_and_never_prunes_trial_zero(storage):
    ledger = Ledger([plan(trials=7, pruner="successive_halving")], storage, MemoryRecorder())
    # Rungs of 9 epochs are 1, 3 and 9.
    for number, value in enumerate([0.01, 0.5, 0.4, 0.6, 0.3, 0.55, 0.7]):
        ledger.next(str(number))
        finish(ledger, str(number), *[value] * 9)
    assert states(ledger) == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE", "PRUNED", "PRUNED", "COMPLETE"]
    assert [len(t.intermediate_values) for t in ledger.studies[0].trials] == [9, 9, 1, 9, 1, 3, 9]


def test_trial_zero_counts_among_those_that_reached_a_rung(storage):
    ledger = Ledger([plan(trials=2, pruner="successive_halving")], storage, MemoryRecorder())
    for token, value in (("a", 0.5), ("b", 0.4)):
        ledger.next(token)
        finish(ledger, token, *[value] * 9)
    assert states(ledger) == ["COMPLETE", "PRUNED"]


def test_the_last_epoch_completes_a_trial_even_on_a_rung(storage):
    ledger = Ledger([plan(trials=2, pruner="successive_halving")], storage, MemoryRecorder())
    ledger.next("a")
    finish(ledger, "a", 0.5)
    ledger.next("b")
    finish(ledger, "b", 0.1)
    assert states(ledger) == ["COMPLETE", "COMPLETE"]


def test_median_prunes_too(storage):
    ledger = Ledger([plan(trials=6, pruner="median")], storage, MemoryRecorder())
    for number, value in enumerate([0.5, 0.5, 0.5, 0.5, 0.01, 0.9]):
        ledger.next(str(number))
        finish(ledger, str(number), *[value] * 9)
    assert states(ledger) == ["COMPLETE"] * 4 + ["PRUNED", "COMPLETE"]


# ----- who is next --------------------------------------------------------------------------------------------------------


def test_the_freed_shape_comes_first_then_who_has_fewest_in_flight(storage):
    wide = plan(trials=3, split_seed=1, shape=Shape(2, 0))
    narrow = [plan(trials=3, split_seed=seed) for seed in (2, 3)]
    ledger = Ledger([wide, *narrow], storage, MemoryRecorder())
    first = [ledger.next(token).split_seed for token in "abc"]
    assert sorted(first) == [1, 2, 3]
    finish(ledger, "abc"[first.index(1)], 0.5)
    assert ledger.next("d").split_seed == 1
    finish(ledger, "abc"[first.index(2)], 0.5)
    assert ledger.next("e").split_seed == 2


def test_finished_only_when_nothing_is_in_flight(storage):
    ledger = Ledger([plan(trials=1)], storage, MemoryRecorder())
    ledger.next("a")
    assert ledger.next("b") is None and not ledger.finished
    ledger.failed("a", "worker_died", "gone")
    assert not ledger.finished
    assert ledger.next("b").attempt == 2
    finish(ledger, "b", 0.5)
    assert ledger.finished


# ----- bad ends -----------------------------------------------------------------------------------------------------------


def test_a_dead_process_continues_the_same_number_and_at_last_fails(storage):
    recorder = MemoryRecorder()
    ledger = Ledger([plan(trials=1)], storage, recorder)
    seen = []
    for attempt in range(1, MAX_DEATHS + 1):
        assignment = ledger.next(f"t{attempt}")
        seen.append((assignment.number, assignment.attempt, assignment.parameters["rate"]))
        again = ledger.failed(f"t{attempt}", "worker_died", "gone")
        assert again == (attempt < MAX_DEATHS)
    assert seen == [(0, attempt, 0.1) for attempt in range(1, MAX_DEATHS + 1)]
    assert states(ledger) == ["FAIL"] and ledger.finished
    assert len(recorder.runs) == 1


def test_out_of_memory_gets_one_retry_with_more_room(storage):
    ledger = Ledger([plan(trials=1, shape=Shape(1, 0.25), roomier=Shape(1, 1))], storage, MemoryRecorder())
    assert ledger.next("a").shape == Shape(1, 0.25)
    assert ledger.failed("a", "out_of_memory", "full")
    assert ledger.next("b").shape == Shape(1, 1)
    assert not ledger.failed("b", "out_of_memory", "full")
    assert states(ledger) == ["FAIL"]


def test_lost_nodes_and_dead_processes_are_counted_apart(storage):
    ledger = Ledger([plan(trials=1)], storage, MemoryRecorder())
    for attempt in range(MAX_DEATHS + 3):
        ledger.next(f"t{attempt}")
        assert ledger.failed(f"t{attempt}", "node_lost", "the node went away")
    assert states(ledger) == ["RUNNING"]


def test_reports_on_an_attempt_that_is_over_change_nothing(storage):
    ledger = Ledger([plan(trials=1)], storage, MemoryRecorder())
    ledger.next("a")
    ledger.failed("a", "worker_died", "gone")
    assert ledger.epochs("a", rows(0.9), last=True) is False
    assert ledger.failed("a", "error", "late") is False
    assert states(ledger) == ["RUNNING"] and ledger.studies[0].values(0) == {}


# ----- identity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": "other"},
        {"variant": "other"},
        {"sampler": "random"},
        {"pruner": "median"},
        {"seed": 1},
        {"max_epochs": 8},
        {"seconds": 12.5},
        {"made": space(defaults={"depth": 3})},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_identity_is_another_study_and_is_said(storage, change):
    class Watcher:
        said: list[str]

        def __init__(self):
            self.said = []

        def notice(self, text):
            self.said.append(text)

        started = epoch = closed = staticmethod(lambda *_: None)

    drain(Ledger([plan(trials=2)], storage, MemoryRecorder()))
    watcher = Watcher()
    ledger = Ledger([plan(change.pop("made", None), trials=2, **change)], storage, MemoryRecorder(), watcher)
    assert states(ledger) == []
    assert len(watcher.said) == 1 and "a new study is started" in watcher.said[0]


@pytest.mark.parametrize("change", [{"trials": 9}, {"shape": Shape(2, 0)}], ids=lambda c: next(iter(c)))
def test_what_is_no_part_of_the_identity_continues_the_study(storage, change):
    drain(Ledger([plan(trials=2)], storage, MemoryRecorder()))
    assert len(states(Ledger([plan(**({"trials": 2} | change))], storage, MemoryRecorder()))) == 2


def test_a_resumed_study_draws_what_an_uninterrupted_one_draws(tmp_path):
    def parameters(pieces: list[int], folder: str) -> list[float]:
        storage = open_storage(tmp_path / folder)
        recorder, found = MemoryRecorder(), []
        for trials in pieces:
            found += [a.parameters["rate"] for a in drain(Ledger([plan(trials=trials)], storage, recorder))]
        return found

    assert parameters([16], "whole") == parameters([3, 11, 16], "pieces")


# ----- final runs ---------------------------------------------------------------------------------------------------------


def test_final_runs_are_one_trial_for_each_seed(storage):
    recorder = MemoryRecorder()
    done = drain(Ledger([final()], storage, recorder))
    assert [(a.seed, a.stage, a.parameters, a.split_folder) for a in done] == [
        (seed, "final", {"rate": 0.5}, "/somewhere") for seed in (7, 8, 9)
    ]
    more = drain(Ledger([final(seeds=(7, 8, 9, 10))], storage, recorder))
    assert [(a.number, a.seed) for a in more] == [(3, 10)]
    assert len(drain(Ledger([final(parameters={"rate": 0.6})], storage, recorder))) == 3


def test_a_search_trial_knows_no_path_to_the_vault(storage):
    (assignment,) = drain(Ledger([plan(trials=1)], storage, MemoryRecorder()))
    assert assignment.split_folder == "" and assignment.sweep == ""


def test_a_final_run_that_diverges_late_keeps_the_test_of_its_best_epoch(storage):
    recorder = MemoryRecorder()
    ledger = Ledger([final(seeds=(1, 2))], storage, recorder)
    for token, values in (("a", (0.4, math.nan)), ("b", (math.nan,))):
        ledger.next(token)
        ledger.epochs(token, rows(*values), last=True, facts={"finished": "nan", "test": {"ndcg@20": 0.3}})
    assert states(ledger) == ["COMPLETE", "FAIL"]
    closings = [run["closing"] for run in recorder.runs.values()]
    assert [closing["reason"] for closing in closings] == ["nan", "nan"]


def test_an_observer_that_breaks_breaks_nothing_else(storage):
    class Broken:
        def __getattr__(self, name):
            raise RuntimeError("the table fell over")

    ledger = Ledger([plan(trials=2)], storage, MemoryRecorder(), Broken())
    assert len(drain(ledger)) == 2


def test_no_experimental_warnings_reach_the_user(storage, recwarn):
    drain(Ledger([plan(space(parameters=FINITE), trials=3), plan(trials=12)], storage, MemoryRecorder()))
    assert not [w for w in recwarn if issubclass(w.category, optuna.exceptions.ExperimentalWarning)]


def test_only_the_seeds_of_the_plan_are_counted(storage):
    drain(Ledger([final(seeds=(1, 2, 3))], storage, MemoryRecorder()))
    ledger = Ledger([final(seeds=(3, 4))], storage, MemoryRecorder())
    counts = ledger.counts(ledger.studies[0])
    assert (counts.spent, counts.budget) == (1, 2)
    told = {name: getattr(counts, name) for name in ("study", "stage", "model", "split_seed", "budget", "seeds")}
    (read,) = read_counts(storage, [told])
    assert read == counts
    drain(ledger)
    assert ledger.counts(ledger.studies[0]).complete == 2


def test_an_unfinished_run_of_a_seed_that_is_no_longer_asked_for_is_closed_and_not_run(storage):
    recorder = MemoryRecorder()
    ledger = Ledger([final(seeds=(1, 2))], storage, recorder)
    ledger.next("a")
    finish(ledger, "a", 0.3)
    assert ledger.next("b").seed == 2
    study = ledger.studies[0].optuna
    study.enqueue_trial({"seed": 9})
    ledger = Ledger([final(seeds=(1, 4))], storage, recorder)
    assert [trial.state.name for trial in study.get_trials()] == ["COMPLETE", "FAIL", "FAIL"]
    assert [one["state"] for one in recorder.runs.values()] == ["COMPLETE", "FAIL", "FAIL"]
    assert list(recorder.runs.values())[1]["closing"]["reason"] == "no longer asked for"
    assert ledger.next("c").seed == 4 and ledger.next("d") is None
    ledger.epochs("c", rows(0.2), last=True)
    assert ledger.finished and ledger.counts(ledger.studies[0]).failed == 0
    again = Ledger([final(seeds=(1, 2))], storage, recorder)
    assert again.next("e").seed == 2  # asked for once more, it is run
    again.epochs("e", rows(0.2), last=True)
    assert again.finished and again.counts(again.studies[0]).complete == 2
