import csv
import io
import json
import math
from dataclasses import replace

import pandas as pd
import pytest
from made_up_sweep import COLUMNS, MadeUpSweep, Model, five_models, home_with_store

from benchbed.reporting.files import to_csv, to_json, to_latex, to_markdown, write_report
from benchbed.reporting.leaderboard import Spread, make_leaderboard
from benchbed.tracking.reading import RunRecord, SweepRecord, read_cases, read_sweep, store_uri
from benchbed.tracking.tracker import Tracker


@pytest.fixture
def store_home(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return home_with_store(tmp_path / "home")


def recorded(workspace, tmp_path, sweep):
    tracker = Tracker(workspace.sweep(sweep.name), workspace)
    sweep.play(tracker, tmp_path)
    assert tracker.close(120) and not tracker.refused
    return read_sweep(store_uri(workspace), sweep.name)


def board_of(record):
    return make_leaderboard(record, lambda run, columns: read_cases(record.uri, run, columns))


def lines_of(board):
    return list(csv.DictReader(io.StringIO(to_csv(board))))


def in_memory(models, **changes):
    """A leaderboard without a store: the calls of a made-up sweep, turned into records directly."""
    import tempfile
    from pathlib import Path

    sweep = MadeUpSweep(models, **changes)
    runs, notes, frames = {}, {}, {}
    for call, *arguments in sweep.steps(Path(tempfile.mkdtemp())):
        if call == "note":
            notes |= arguments[0]
        elif call != "start":
            key, *rest = arguments
            text = f"{key.study}/{key.number}"
            if call == "opened":
                facts = rest[0]
                runs[text] = RunRecord(text, text, facts["stage"], facts["model"], facts["variant"], "RUNNING", facts, {})
            elif call == "closed":
                runs[text] = replace(runs[text], state=rest[0], closed=rest[1], test=rest[1].get("test", {}))
                if "artifacts" in rest[1]:
                    frames[text] = pd.read_parquet(rest[1]["artifacts"]["cases"])
    facts = sweep.facts()
    record = SweepRecord(
        benchmark=facts["benchmark"],
        sweep=sweep.sweep,
        facts=facts,
        notes=notes,
        trials=tuple(run for run in runs.values() if run.stage == "search"),
        finals=tuple(run for run in runs.values() if run.stage == "final"),
        others=(),
        uri="",
        told=0,
    )
    return make_leaderboard(record, lambda run, columns: frames[run.key][list(columns)])


def marks(board, model):
    return {mark.word for row in board.rows if row.model == model for mark in row.marks}


def row_of(board, model):
    return next(row for row in board.rows if row.model == model)


@pytest.fixture(scope="module")
def five():
    return in_memory(five_models(), users=2200)


def test_from_the_store_to_the_files(store_home, tmp_path):
    models = [Model("gru4rec", trials=3, size=10), Model("ease", 0.2, trials=2, baseline=True, counting=True)]
    record = recorded(store_home, tmp_path, MadeUpSweep(models, users=50, seeds=(1, 2), epochs=4))
    written = write_report(store_home, "made-up", tmp_path / "out")
    assert [path.name for path in written] == [f"leaderboard.{kind}" for kind in ("html", "md", "csv", "tex", "json")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    assert (tmp_path / "out/leaderboard.csv").read_text() == to_csv(board_of(record))


def test_the_csv_has_the_promised_columns_and_plain_numbers(five):
    lines = lines_of(five)
    head = list(lines[0])
    assert head[:4] == ["rank", "model", "variant", "user_mode"]
    assert head[4 : 4 + 2 * len(COLUMNS)] == [
        name
        for metric in ("recall", "ndcg", "hit_rate", "mrr")
        for k in (10, 20)
        for name in (f"{metric}@{k}", f"{metric}@{k}_std")
    ]
    for line in lines:
        for name, text in line.items():
            if name not in ("model", "variant", "user_mode"):
                assert text == "" or math.isfinite(float(text))
    line = next(line for line in lines if line["model"] == "gru4rec")
    row = row_of(five, "gru4rec")
    assert float(line["ndcg@20"]) == pytest.approx(row.metrics["ndcg@20"].mean, abs=1e-6)
    assert (line["trials_declared"], line["trials_failed"]) == ("12", "2")
    assert int(line["trials_complete"]) + int(line["trials_pruned"]) == 10


def test_means_and_spreads_over_seeds(five):
    row = row_of(five, "gru4rec")
    tested = [run.test["ndcg@20"] for run in five.record.finals if run.model == "gru4rec"]
    assert row.metrics["ndcg@20"].values == tuple(tested)
    assert row.metrics["ndcg@20"].mean == pytest.approx(sum(tested) / 3)
    ease = row_of(five, "ease")
    assert ease.metrics["ndcg@20"].deviation == 0 and ease.seeds["planned"] == 1


def test_validation_and_budget_come_from_the_search(five):
    row, trials = row_of(five, "gru4rec"), [run for run in five.record.trials if run.model == "gru4rec"]
    complete = [run.value for run in trials if run.state == "COMPLETE"]
    assert row.tuned_value == max(complete) and row.default_value == trials[0].value
    assert row.budget.seconds == pytest.approx(sum(run.seconds for run in trials))
    assert row.budget.complete == len(complete)


def test_pruned_trials_never_count_as_best():
    board = in_memory([Model("gru4rec", trials=2)])
    best = board.record.trials[1]
    better = replace(best, state="PRUNED", closed={**best.closed, "value": 9.0})
    record = replace(board.record, trials=(board.record.trials[0], better), finals=())
    assert make_leaderboard(record, lambda run, columns: None).rows[0].tuned_value == board.record.trials[0].value


def test_rows_stand_in_order_and_marks_say_what_is_wrong(five):
    assert five.rows[0].model == "gru4rec" and five.rows[-1].model == "popularity"
    assert five.rows[0].rank == 1 and five.best_baseline == "ease"
    assert marks(five, "ease") == {"baseline"}
    assert "not above baseline" not in marks(five, "gru4rec")
    assert "not above baseline" in marks(five, "mkr")
    assert "not converged" in marks(five, "comirec_sa")


def test_failed_and_collapsed_seeds_are_shown_and_counted():
    board = in_memory([Model("a", failed_seed=2), Model("b", nan_seed=3), Model("c")])
    assert row_of(board, "a").seeds == {"planned": 3, "ended": 3, "tested": 2, "collapsed": 0, "failed": 1}
    assert row_of(board, "b").seeds == {"planned": 3, "ended": 3, "tested": 2, "collapsed": 1, "failed": 0}
    assert "1 failed" in marks(board, "a") and "1 collapsed" in marks(board, "b")
    values = row_of(board, "b").metrics["ndcg@20"].values
    assert len(values) == 3 and math.isnan(values[2])
    assert row_of(board, "b").metrics["ndcg@20"].mean == pytest.approx(sum(values[:2]) / 2)


def test_a_seed_far_below_the_others_is_collapsed_and_stays_in_the_mean():
    board = in_memory([Model("a"), Model("b")])
    low = [
        replace(run, test={column: 0.001 for column in COLUMNS}) if (run.model, run.seed) == ("a", 2) else run
        for run in board.record.finals
    ]
    again = make_leaderboard(replace(board.record, finals=tuple(low)), lambda run, columns: None)
    row = row_of(again, "a")
    assert row.seeds["collapsed"] == 1
    assert row.metrics["ndcg@20"].mean < 0.75 * row.metrics["ndcg@20"].middle


def test_models_without_finals_stand_last_without_a_rank():
    board = in_memory([Model("a", 0.5, finals=False), Model("b", 0.1), Model("c", 0.2, finals=False)])
    assert [(row.model, row.rank) for row in board.rows] == [("b", 1), ("a", None), ("c", None)]
    line = lines_of(board)[1]
    assert (line["rank"], line["ndcg@20"], line["final_seeds_tested"]) == ("", "", "0")
    assert "no test result" in marks(board, "a")


def test_a_ceiling_is_shown_and_ranked_against_none():
    rivals = [Model("a", 0.1), Model("b", 0.3, baseline=True)]
    board = in_memory([*rivals, Model("top", 0.6, counting=True, ceiling=True)])
    assert [(row.model, row.rank) for row in board.rows] == [("b", 1), ("a", 2), ("top", None)]
    assert marks(board, "top") == {"ceiling"} and board.best_baseline == "b"
    assert row_of(board, "top").metrics["ndcg@20"].mean > row_of(board, "b").metrics["ndcg@20"].mean
    assert len(board.comparison.pairs) == 1
    assert marks(in_memory([Model("top", ceiling=True, finals=False)]), "top") == {"no test result"}


def test_several_splits_are_pooled_with_equal_weight():
    board = in_memory([Model("a"), Model("b", baseline=True, counting=True)], split_seeds=(1, 2))
    row = row_of(board, "a")
    assert row.seeds["planned"] == 6 and row_of(board, "b").seeds["planned"] == 2
    assert row.budget.declared == 24
    by_split = {
        s: [run.test["ndcg@20"] for run in board.record.finals if run.model == "a" and run.split_seed == s] for s in (1, 2)
    }
    assert row.metrics["ndcg@20"].mean == pytest.approx(sum(sum(v) / 3 for v in by_split.values()) / 2)
    pair, sign = board.comparison.pair("a", "b")
    means = {name: row_of(board, name).metrics["ndcg@20"].mean for name in "ab"}
    assert sign * pair.difference == pytest.approx(means["a"] - means["b"])


def test_little_evidence_is_called_so():
    assert "Not evidence" in in_memory([Model("a", trials=2)], declared_trials=9).reservations[0]
    assert "Not evidence" in in_memory([Model("a", trials=2)], seeds=(1, 2)).reservations[0]
    assert in_memory([Model("a", trials=2)], declared_trials=10).reservations == ()
    (few,) = in_memory([Model("a", trials=2)], declared_trials=1, seeds=(1,), users=29).reservations
    assert "Not evidence: 29 test users (at least 30), 1 trial a model (at least 10) and 1 training seed (at least 3)." in few
    assert "not finished" in in_memory([Model("a", trials=2)], finished=False).reservations[0]


def changed(board, change):
    """The leaderboard of a record in which every run went through ``change``, with made-up values per case."""
    record = replace(
        board.record, trials=tuple(map(change, board.record.trials)), finals=tuple(map(change, board.record.finals))
    )
    return make_leaderboard(record, lambda run, columns: pd.DataFrame({columns[0]: range(30), columns[1]: 0.1}))


def test_more_trials_than_declared_are_said_aloud():
    board = in_memory([Model("a", trials=12), Model("b", trials=12)])
    board.record.facts["models"]["a"]["declared_trials"] = 10
    said = changed(board, lambda run: run).reservations
    assert said == ("Some searches had more trials than are declared for all: a 12 of 10.",)


def test_only_the_seeds_of_the_file_count():
    board = in_memory([Model("a"), Model("b", counting=True, baseline=True)], seeds=(1, 2, 3, 4))
    board.record.benchmark["final"]["seeds"] = [3, 4]
    fewer = changed(board, lambda run: run)
    assert len(row_of(fewer, "a").metrics["ndcg@20"].values) == 2
    assert row_of(fewer, "a").seeds["ended"] == row_of(fewer, "a").seeds["planned"] == 2
    assert row_of(fewer, "b").seeds["ended"] == 0


def test_a_search_that_its_cap_of_seconds_has_cut_is_not_converged():
    def cut(run, best_epoch):
        return replace(run, closed={**run.closed, "finished": "seconds", "best_epoch": best_epoch, "epochs": 5})

    board = in_memory([Model("a")])
    assert "not converged" not in marks(board, "a")
    assert "not converged" in marks(changed(board, lambda run: cut(run, 5) if run.stage == "search" else run), "a")
    assert "not converged" not in marks(changed(board, lambda run: cut(run, 3) if run.stage == "search" else run), "a")


def test_a_leaderboard_never_mixes_two_protocols(store_home, tmp_path):
    models = [Model("gru4rec", trials=2), Model("ease", trials=1, counting=True, baseline=True)]
    recorded(store_home, tmp_path, MadeUpSweep(models, users=20, seeds=(1,), epochs=2, protocol_fingerprint="aa" * 32))
    tracker = Tracker(store_home.sweep("made-up"), store_home)
    newer = MadeUpSweep(models[:1], users=20, seeds=(1,), epochs=2, protocol_fingerprint="bb" * 32)
    for call, *arguments in newer.steps(tmp_path):  # the same sweep, told under another protocol
        if call in ("opened", "epochs", "closed"):
            arguments[0] = replace(arguments[0], study=arguments[0].study + "b")
        getattr(tracker, call)(*arguments)
    assert tracker.close(60)
    board = board_of(read_sweep(store_uri(store_home), "made-up"))
    assert [row.model for row in board.rows] == ["gru4rec"]
    assert all(run.study.endswith("b") for run in (*board.record.trials, *board.record.finals))


def test_the_json_is_strict_and_whole(five):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    whole = json.loads(to_json(five), parse_constant=refuse)
    assert [row["model"] for row in whole["rows"]] == [row.model for row in five.rows]
    assert len(whole["comparison"]["pairs"]) == 10 and len(whole["runs"]) == 45 + 11
    broken = json.loads(to_json(in_memory([Model("a", nan_seed=1), Model("b")])), parse_constant=refuse)
    row = next(row for row in broken["rows"] if row["model"] == "a")
    assert row["metrics"]["ndcg@20"]["values"][0] is None


def test_markdown_and_latex_escape_names():
    board = in_memory([Model("a_b|<i>&%", trials=2)])
    assert "a_b\\|&lt;i&gt;&amp;%" in to_markdown(board)
    assert "a\\_b|<i>\\&\\%" in to_latex(board)
    assert to_markdown(in_memory([Model("a", trials=2)], seeds=(1,))).splitlines()[2].startswith("> **Not evidence")


def test_spread_of_nothing_and_of_one():
    nothing = Spread.of([math.nan], [1], closed_form=False)
    assert math.isnan(nothing.mean) and math.isnan(nothing.deviation)
    one = Spread.of([0.5], [1], closed_form=False)
    assert one.mean == 0.5 and math.isnan(one.deviation)


def test_the_files_do_not_tell_where_the_sweep_lay(tmp_path):
    board = in_memory([Model("a"), Model("b", baseline=True, counting=True)])
    assert any("artifacts" in run.closed for run in board.record.finals)
    assert "cases.parquet" not in to_json(board)
