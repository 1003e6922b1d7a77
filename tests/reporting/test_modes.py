"""Leaderboards of labelled modes: they say what they are, show every run, and name what collapsed or is below a baseline."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_up_sweep import MadeUpSweep, Model, home_with_store
from test_leaderboard import board_of, in_memory, marks, recorded, row_of
from test_page import checked

from benchbed.cli.report import show_table
from benchbed.evaluation.listed import placements
from benchbed.evaluation.protocol import Protocol
from benchbed.reporting.files import to_csv, to_json, to_latex, to_markdown, write_files
from benchbed.reporting.leaderboard import make_leaderboard
from benchbed.reporting.page import render_page
from benchbed.reporting.words import headline, rank_words
from benchbed.tracking.reading import read_cases

CLICKS = Protocol(mode="click_through").model_dump(mode="json")
NOTHING = "\u2013"


def rows_of(skill, seed, *, accuracy, users=60):
    """A table of labelled rows as a final run keeps it."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), 8)
    label = np.tile([0, 1], 4 * users)
    score = skill * label + random.normal(size=len(user)) if skill else np.zeros(len(user))
    placement, auc = placements(label, score)
    found = ((score > skill / 2) == (label == 1)).astype(float) if accuracy else np.nan
    return pd.DataFrame({"user": user, "label": label, "score": score, "placement": placement, "auc": auc, "accuracy": found})


class Clicks(MadeUpSweep):
    """The made-up sweep, evaluated by labelled rows. A model's quality is how far it tells them apart."""

    def facts(self):
        facts = super().facts()
        facts["benchmark"]["evaluation"] = CLICKS
        return facts

    def steps(self, folder):
        for call, *arguments in super().steps(folder):
            if call == "epochs":
                arguments[1] = [{**each, "metrics": {"auc": each["value"]}} for each in arguments[1]]
            elif call == "closed" and "test" in arguments[2]:
                model = next(each for each in self.models if each.name in arguments[0].study.split("/"))
                seed = 100 * int(arguments[0].study.split("/")[2][1:]) + arguments[0].number
                frame = rows_of(
                    0.0 if (model.name, arguments[0].number) == ("mkr", 1) else model.quality,
                    seed,
                    accuracy=model.name == "mkr",
                )
                frame.to_parquet(arguments[2]["artifacts"]["cases"])
                test = {"auc": frame["auc"].mean()} | ({"accuracy": frame["accuracy"].mean()} if model.name == "mkr" else {})
                arguments[2] = {**arguments[2], "test": test, "fold_in_seconds": 3.2, "fold_in_agreement": 0.91}
            yield call, *arguments


MODELS = [
    Model("mkr", 1.2, user_mode="fold_in", trials=1),
    Model("item_knn", 1.6, baseline=True, counting=True, trials=1),
]


@pytest.fixture(scope="module")
def clicks(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("clicks")
        sweep = Clicks(MODELS, split_seeds=(5, 6), epochs=2, declared_trials=1)
        yield board_of(recorded(home_with_store(folder / "home"), folder, sweep))


def test_values_of_metrics_without_a_cutoff_come_back_from_the_store(clicks):
    record = clicks.record
    assert record.mode == "click_through" and record.columns == record.standard_columns == ("auc", "accuracy")
    run = next(run for run in record.finals if run.model == "mkr")
    assert run.test["auc"] == pytest.approx(read_cases(record.uri, run)["auc"].mean())
    assert [epoch.value for epoch in run.epochs] and run.value is not None
    row = row_of(clicks, "mkr")
    assert row.metrics["accuracy"].mean > 0.6
    assert np.isnan(row_of(clicks, "item_knn").metrics["accuracy"].mean)
    assert "accuracy" not in next(run for run in record.finals if run.model == "item_knn").test


def test_a_collapsed_run_stays_in_the_mean_and_is_named(clicks):
    row = row_of(clicks, "mkr")
    assert [run.fate for run in row.runs] == ["", "collapsed", "", "", "collapsed", ""]
    assert all(run.value == pytest.approx(0.5) for run in row.runs if run.fate)
    assert row.seeds["collapsed"] == 2 and row.seeds["ended"] == 6
    assert row.metrics["auc"].mean == pytest.approx(np.mean([run.value for run in row.runs]))
    told = next(mark for mark in row.marks if mark.word == "2 collapsed")
    assert told.meaning.startswith("split 5, seed 2; split 6, seed 2.") and "AUC of chance" in told.meaning
    assert row_of(clicks, "item_knn").seeds["collapsed"] == 0


def test_every_final_run_is_printed(clicks):
    page, text = render_page(clicks), to_markdown(clicks)
    for run in row_of(clicks, "mkr").runs:
        shown = f"{run.value:.4f} {run.fate}".strip()
        assert f">{shown}<" in page and f"| {shown} |" in text
        assert f">split {run.split_seed}, seed {run.seed}<" in page
    assert f"| {NOTHING} |" in next(line for line in text.splitlines() if line.startswith("| item_knn") and NOTHING in line)


def test_the_mode_stands_in_the_title_and_warns_of_comparison(clicks):
    page, text = render_page(clicks), to_markdown(clicks)
    words = " ".join(" ".join(checked(page).texts).split())
    for told in (page, text, to_latex(clicks)):
        assert "Click-through protocol: Made-up data" in told
    for told in (words, text, to_latex(clicks), to_json(clicks)):
        assert "with no full ranking" in told
    assert json.loads(to_json(clicks))["mode"] == "click_through"
    assert "means over all labelled rows" in words and "means over all labelled rows" in text
    assert 'data-cutoff="auc"' not in page and 'name="cutoff"' not in page


@pytest.mark.fidelity("U7")
def test_how_users_were_folded_in_is_told(clicks):
    board = in_memory([Model("mkr", user_mode="fold_in", trials=2), Model("ease", trials=2)])
    plain = board.record
    folded = {"fold_in_steps": 20, "fold_in_learning_rate": 0.05}

    def with_fold_in(run):
        if run.model != "mkr":
            return run
        facts = {"fold_in_seconds": 3.2, "fold_in_agreement": 0.912} if run.stage == "final" else {}
        return replace(run, opened={**run.opened, "parameters": folded}, closed={**run.closed, **facts})

    record = replace(plain, trials=tuple(map(with_fold_in, plain.trials)), finals=tuple(map(with_fold_in, plain.finals)))
    made = make_leaderboard(record, lambda run, columns: pd.DataFrame({"user": range(30), columns[1]: 0.1}))
    words = (
        "Fold-in: 20 steps at learning rate 0.05; 3 s a final run; trained users folded in anew rank items as their own rows do"
    )
    for told in (render_page(made), to_markdown(made)):
        assert words in told and "correlation of 0.912" in told and "fold_in" in to_csv(made)
    assert row_of(made, "ease").fold_in is None and render_page(made).count("Fold-in:") == 1
    line = to_csv(made).splitlines()[1]
    assert "3.2" in line.split(",") and "0.912" in line.split(",") and "fold_in" in line


@pytest.mark.parametrize(("triples", "interval"), [(0.0, 2), (7.0, 2), (0.0, 0)])
def test_a_graph_without_triples_is_told(clicks, triples: float, interval: int):
    plain = in_memory([Model("mkr", trials=2), Model("ease", trials=2)]).record

    def changed(run):
        if run.model != "mkr":
            return run
        facts = {"triples": triples, "triples_left_out": 12.0} if run.stage == "final" else {}
        return replace(run, opened={**run.opened, "parameters": {"kge_interval": interval}}, closed={**run.closed, **facts})

    record = replace(plain, trials=tuple(map(changed, plain.trials)), finals=tuple(map(changed, plain.finals)))
    text = to_markdown(make_leaderboard(record, lambda _, columns: pd.DataFrame({"user": range(30), columns[1]: 0.1})))
    assert ("**no triples** (mkr): The graph says nothing about the candidates (12 triples" in text) == (
        triples == 0 and interval > 0
    )


def test_a_table_of_zeros_has_no_first():
    board = in_memory([Model("mkr", trials=2), Model("ease", trials=2)])
    assert "has the highest ndcg@20" in headline(board)
    rows = [replace(row, metrics={name: replace(each, mean=0.0) for name, each in row.metrics.items()}) for row in board.rows]
    assert headline(replace(board, rows=tuple(rows))) == (
        "No row ranks anything that was looked for: ndcg@20 on test is 0 in all of them."
    )


def test_what_became_of_coarse_scores_is_told(clicks):
    plain = in_memory([Model("convncf", trials=2), Model("ease", trials=2)]).record

    def told(changed: int) -> str:
        facts = {"coarse_compared": 3.0, "coarse_cases_changed": float(changed)}
        finals = tuple(replace(run, closed={**run.closed, **facts}) if run.model == "convncf" else run for run in plain.finals)
        board = make_leaderboard(
            replace(plain, finals=finals), lambda _, columns: pd.DataFrame({"user": range(30), columns[1]: 0.1})
        )
        assert render_page(board).count("Scoring: bf16") == to_markdown(board).count("Scoring: bf16") == 1
        return to_markdown(board)

    assert "in validation, every case with the metrics of fp32 in 9 validations that were made both ways" in told(0)
    assert "bf16 changed metrics of up to 4 validation cases" in told(4)


def test_a_row_below_a_baseline_says_so_by_name(clicks):
    assert "not above baseline" in marks(clicks, "mkr")
    assert "best baseline (item_knn) on auc" in to_markdown(clicks)
    board = in_memory(
        [
            Model("weak", 0.05),
            Model("strong", 0.2),
            Model("ease", 0.12, baseline=True, counting=True),
            Model("item_knn", 0.1, baseline=True, counting=True),
        ],
        users=2000,
    )
    assert {"below ease, item_knn", "not above baseline"} <= marks(board, "weak")
    assert not any("baseline" in word or "below" in word for word in marks(board, "strong"))
    assert not any("below" in word for word in marks(board, "item_knn"))
    assert "**below ease, item_knn** (weak): Significantly below these baselines on ndcg@20." in to_markdown(board)
    assert "below ease, item_knn" in render_page(board)


def test_a_full_ranking_is_called_nothing_else():
    board = in_memory([Model("a"), Model("b", baseline=True, counting=True)])
    page, text = render_page(board), to_markdown(board)
    assert board.record.mode == "full" and text.startswith("# Made-up data, user-disjoint\n")
    for told in (page, text, to_latex(board)):
        assert "full ranking" not in told and "protocol: Made-up" not in told


def test_the_sampled_mode_is_called_by_its_name():
    board = in_memory([Model("a"), Model("b", baseline=True, counting=True)])
    evaluation = board.record.benchmark["evaluation"] | {"mode": "sampled", "negatives": "shipped", "flawed_negatives": "keep"}
    counts = {"negatives": 1000, "target_itself": 1, "in_history": 12, "cases_with_some_in_history": 9, "cases": 50}
    facts = board.record.facts | {"splits": [{"seed": 42, "audit": {"negatives": counts}}]}
    record = replace(board.record, benchmark=board.record.benchmark | {"evaluation": evaluation}, facts=facts)
    board = replace(board, record=record)
    flaws = "Of 1000 shipped negatives 1 are the target of their own case, and 12 stand in the user&#39;s history (in 9 of 50"
    for told in (render_page(board), to_markdown(board).replace("'", "&#39;")):
        assert "Sampled protocol: Made-up data" in told and re.search(r"ranks among listed negatives.*no full ranking", told)
        assert flaws in told and "these stay in the lists" in told


def with_facts(board, evaluation=None, **facts):
    """The same board, with facts of every final run; a fact may depend on the run."""

    def told(run):
        return replace(run, closed={**run.closed, **{name: f(run) if callable(f) else f for name, f in facts.items()}})

    record = replace(board.record, finals=tuple(map(told, board.record.finals)))
    record = replace(record, benchmark=record.benchmark | {"evaluation": record.benchmark["evaluation"] | (evaluation or {})})
    return make_leaderboard(record, lambda run, columns: pd.DataFrame({"user": range(30), columns[1]: 0.1}))


def test_cases_without_negatives_and_with_fewer_are_told():
    plain = in_memory([Model("a"), Model("b", baseline=True, counting=True)])
    evaluation = {"mode": "sampled", "negatives": 99}
    counts = {"cases": {"test": {"exclude-vocabulary-miss-rest": {"cases": 50}}}}
    valid = {"cases": 28, "cases_without_negatives": 2, "wanted_negatives": 99, "cases_with_fewer_negatives": 6}
    split = {"seed": 42, "audit": counts, "sampled_validation": valid | {"fewest_negatives": 7}}
    plain = replace(plain, record=replace(plain.record, facts=plain.record.facts | {"splits": [split]}))
    board = with_facts(plain, evaluation, cases=47.0, cases_with_fewer_negatives=5.0, fewest_negatives=12.0)
    for told in (render_page(board), to_markdown(board)):
        assert "For 5 of 47 test cases fewer than 99 negatives could be drawn (fewest 12)" in told
        assert "3 of 50 test cases left out, without a negative" in told
        assert "2 of 30 validation cases left out, without a negative" in told
        assert "For 6 of 28 validation cases fewer than 99 negatives could be drawn (fewest 7)" in told
        assert "not counted" not in told
    split["sampled_validation"] = valid | {"cases_without_negatives": 0, "cases_with_fewer_negatives": 0}
    for other in (
        with_facts(plain, evaluation, cases=50.0, cases_with_fewer_negatives=0.0, fewest_negatives=99.0),
        with_facts(plain, {}, cases=47.0),
    ):
        assert not any("could be drawn" in told or "left out" in told for told in (render_page(other), to_markdown(other)))


def test_what_an_older_version_did_not_count_is_not_passed_over():
    """Nothing is said to be zero that nobody has counted."""
    plain = in_memory([Model("a"), Model("b", baseline=True, counting=True)])
    shipped = {"negatives": 1000, "target_itself": 1, "in_history": 12, "cases_with_some_in_history": 9, "cases": 50}
    rules = {"targets": "every_next", "unknown_targets": "drop", "seen_items": "keep", "candidates": "vocabulary"}
    counts = {"keep-vocabulary-drop-every_next": {"cases": 50, "unknown_targets": 3}}
    old = {"seed": 42, "audit": {"negatives": shipped, "cases": {"valid": counts, "test": counts}}}
    plain = replace(plain, record=replace(plain.record, facts=plain.record.facts | {"splits": [old]}))
    board = with_facts(plain, rules | {"mode": "sampled", "negatives": "shipped"}, cases=50.0)
    for told in (page := render_page(board), to_markdown(board)):
        assert "no sound negative was not counted when this split was made" in told
        assert "Validation cases without a negative among the candidates were not counted" in told
    for name in ("negatives, cases without sound", "test under this protocol, cases without known history"):
        assert re.search(rf"{name}<[^>]*>\s*<[^>]*>not counted<", page), name
    board = with_facts(plain, rules | {"mode": "sampled", "negatives": 20}, cases=50.0)
    assert "How many test cases have fewer than 20 negatives was not counted" in to_markdown(board)


@pytest.mark.fidelity("M6")
def test_networks_with_dead_units_are_marked_with_their_runs(clicks):
    def dead(run):
        return float(run.model == "mkr" and (run.split_seed, run.seed) in ((5, 2), (6, 1)))

    board = with_facts(clicks, dead_relu=dead, constant_users=lambda run: 0.25 * dead(run))
    mark = next(mark for mark in row_of(board, "mkr").marks if mark.word == "2 with dead units")
    assert mark.warning and mark.meaning.startswith(
        "split 5, seed 2 (25.0 % of users); split 6, seed 1 (25.0 % of users). Final"
    )
    for told in (render_page(board), to_markdown(board)):
        assert "2 with dead units" in told and "says little about the model" in told
    assert not any("dead" in word for word in (*marks(board, "item_knn"), *marks(clicks, "mkr")))


def test_cases_with_constant_scores_are_counted_where_there_are_any(clicks):
    board = with_facts(
        clicks, cases=200.0, constant_cases=lambda run: 30.0 * (run.model == "mkr" and (run.split_seed, run.seed) == (6, 3))
    )
    mark = next(mark for mark in row_of(board, "mkr").marks if mark.word.startswith("constant"))
    assert mark.warning and mark.word == "constant scores 2.5 %"
    assert mark.meaning.startswith(
        "Of 1,200 test cases of 6 final runs 30 got one score for all candidates (most: 30, split 6, seed 3)"
    )
    assert "constant scores 2.5 %" in render_page(board) and "constant scores 2.5 %" in to_markdown(board)
    assert not any("constant" in word for word in marks(board, "item_knn"))


def test_the_terminal_shows_metrics_without_a_cutoff(clicks, tmp_path, capsys):
    show_table(next(path for path in write_files(clicks, tmp_path) if path.suffix == ".csv"), "")
    shown = capsys.readouterr().out
    assert "auc" in shown and "accuracy" in shown and f"{row_of(clicks, 'mkr').metrics['auc'].mean:.4f}" in shown


def test_an_unfinished_sweep_claims_nothing():
    board = in_memory([Model("mkr", trials=2), Model("ease", trials=2)])
    early = replace(board, record=replace(board.record, notes={**board.record.notes, "finished": False}))
    assert headline(early).startswith("So far ") and headline(early).endswith("The sweep is not finished.")
    assert not any(word in headline(early) for word in ("significantly", "told apart"))


def test_one_training_seed_claims_no_power():
    board = in_memory([Model("mkr", trials=2), Model("ease", trials=2)])
    assert board.comparison is not None and "four times in five" in rank_words(board)
    blind = replace(board, comparison=replace(board.comparison, seed_noise_known=False))
    assert "four times in five" not in rank_words(blind) and "one training seed: unknown" in render_page(blind)


def test_failed_trials_are_a_mark():
    plain = in_memory([Model("mkr", trials=3), Model("ease", trials=2)]).record
    lost = next(run for run in plain.trials if run.model == "mkr" and run.number == 2)
    trials = tuple(replace(run, state="FAIL") if run is lost else run for run in plain.trials)
    told = to_markdown(
        make_leaderboard(replace(plain, trials=trials), lambda _, columns: pd.DataFrame({"user": range(30), columns[1]: 0.1}))
    )
    assert "**1 failed trial** (mkr)" in told
