from __future__ import annotations

from dataclasses import replace

import pytest

from benchbed.errors import ModelError
from benchbed.search.assignment import Shape
from benchbed.search.plans import SearchPlan
from benchbed.search.studies import Best
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.planning import LONGEST_FINAL, Material, final_plan, search_plans, sweep_facts
from benchbed.sweep.preflight import preflight
from benchbed.sweep.stages import _prepare
from benchbed.workspace import Workspace

CARD = """name: small
simulate: {name: bazaar, seed: 7, users: 60, items: 100, events: 1500}
tables:
  interactions:
    reader: csv
    files: [interactions.csv]
    columns: {user: user, item: item, timestamp: timestamp}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planning")
    (folder / "small.yaml").write_text(CARD)
    return folder


def material(place, **changes) -> Material:
    values = {
        "name": "mine",
        "dataset": str(place / "small.yaml"),
        "split": {"kind": "leave_one_out", "seeds": [1, 2]},
        "evaluation": {"seen_items": "exclude"},
        "models": ["gru4rec"],
        "search": {"trials": 7},
        "final": {"seeds": [5, 6]},
    }
    benchmark = Benchmark.model_validate(values | changes)
    workspace = Workspace(place / "ws")
    return _prepare(benchmark, preflight(benchmark, workspace), workspace)


def plans(made: Material) -> dict[tuple[str, int], SearchPlan]:
    return {(plan.model, plan.split_seed): plan for plan in search_plans(made, Shape(), Shape())}


def test_every_model_is_searched_on_every_split_with_the_same_budget(place):
    made = plans(material(place))
    assert {seed for _, seed in made} == {1, 2} and ("ease", 1) in made and ("gru4rec", 2) in made
    assert {model: plan.budget for (model, _), plan in made.items()} == {
        "gru4rec": 7, "popularity": 1, "markov": 7, "item_knn": 7, "ease": 7, "ials": 7,
    }  # fmt: skip
    assert made["ease", 1].max_epochs == 1 and made["gru4rec", 1].max_epochs == 30
    assert made["gru4rec", 1].protocol != made["gru4rec", 2].protocol


def test_the_files_cap_of_epochs_wins_over_the_spaces(place):
    made = plans(material(place, search={"max_epochs": 4}))
    assert made["gru4rec", 1].max_epochs == 4 and made["ease", 1].max_epochs == 1


def test_final_runs_take_the_whole_best_configuration_and_all_seeds_unless_nothing_is_random(place):
    made = material(place)
    search = plans(made)
    final = final_plan(made, search["gru4rec", 2], Best(3, 0.5, 9, {"learning_rate": 0.002}))
    assert final.seeds == (5, 6) and final.max_epochs == LONGEST_FINAL * 30 and final.patience == 10
    assert final.parameters["learning_rate"] == 0.002 and final.parameters["hidden_size"] == 128
    assert final.split_folder == str(made.splits[2].folder) and final.seconds is None
    counted = final_plan(made, search["markov", 1], Best(1, 0.5, 1, {"order": 3}))
    assert counted.seeds == (5,) and counted.max_epochs == 1 and counted.variant == "mix of last 3"


def test_a_row_may_have_final_runs_of_its_own_length(place):
    made = material(place, final={"seeds": [5], "max_epochs": 50})
    search = plans(made)["gru4rec", 1]
    best = Best(3, 0.5, 9, {"learning_rate": 0.002})
    fixed = replace(search, space=search.space.model_copy(update={"final_max_epochs": 7}))
    assert [final_plan(made, plan, best).max_epochs for plan in (search, fixed)] == [50, 7]
    assert fixed.space.fingerprint == search.space.fingerprint, "the search is the same"


def test_more_trials_or_models_are_the_same_sweep_and_another_question_is_not(place):
    base = material(place)
    for same in ({"search": {"trials": 99}}, {"models": ["gru4rec", "ease"]}, {"baselines": "none"}, {"title": "x"}):
        assert material(place, **same).sweep == base.sweep
    for other in ({"search": {"trials": 7, "seed": 1}}, {"final": {"seeds": [5]}}, {"evaluation": {"seen_items": "keep"}}):
        assert material(place, **other).sweep != base.sweep
    one_split = material(place, split={"kind": "leave_one_out", "seeds": [1]})
    assert one_split.protocol == base.protocol


def test_the_record_says_what_was_asked_of_what_and_how(place):
    made = material(place)
    search = search_plans(made, Shape(), Shape())
    facts = sweep_facts(made, search)
    assert set(facts["models"]) == {"gru4rec", "popularity", "markov", "item_knn", "ease", "ials"}
    assert facts["models"]["markov"]["baseline"] and not facts["models"]["gru4rec"]["baseline"]
    assert facts["models"]["popularity"]["declared_trials"] == 1
    assert facts["models"]["ease"]["studies"] == [plan.study_name for plan in search if plan.model == "ease"]
    assert [split["seed"] for split in facts["splits"]] == [1, 2]
    assert facts["protocol_words"] and facts["environment"]["versions"]["torch"]


def test_two_rows_may_be_forms_of_one_model_each_with_a_space_of_its_own(place, monkeypatch):
    monkeypatch.chdir(place)
    (place / "search_spaces").mkdir(exist_ok=True)
    (place / "search_spaces" / "small_gru.yaml").write_text(
        "model: gru4rec\nmax_epochs: 3\ndefaults: {hidden_size: 16}\n"
        "parameters:\n  learning_rate: {low: 1e-4, high: 1e-2, log: true, source: here}\n"
    )
    made = material(place, models=["gru4rec", "small_gru"])
    small, full = (plans(made)[name, 1] for name in ("small_gru", "gru4rec"))
    assert (small.model, small.kind, small.max_epochs) == ("small_gru", "gru4rec", 3) and full.kind == ""
    assert small.study_name != full.study_name
    final = final_plan(made, small, Best(0, 0.5, 1, {**small.space.defaults}))
    assert final.kind == "gru4rec" and final.parameters["hidden_size"] == 16
    assert sweep_facts(made, search_plans(made, Shape(), Shape()))["models"]["small_gru"]["model"] == "gru4rec"


def test_a_baseline_that_cannot_hold_the_catalogue_is_left_out_and_told_unless_it_was_asked_for(place, monkeypatch):
    monkeypatch.setattr("benchbed.models.ease.LARGEST", 4)
    made = material(place)
    assert "ease" not in {model for model, _ in plans(made)} and "markov" in made.checked.models
    assert "inverts" in sweep_facts(made, search_plans(made, Shape(), Shape()))["left_out"]["ease"]
    with pytest.raises(ModelError, match="inverts"):
        material(place, models=["gru4rec", "ease"])
