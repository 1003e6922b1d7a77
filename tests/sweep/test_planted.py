"""Claims about planted truth: the statistics against numbers worked out by hand, the rules, the runner."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import t

from benchbed.data.card import find_card, load_card
from benchbed.data.load import load_training_data
from benchbed.data.prepare import prepare
from benchbed.data.split.make import split_dataset
from benchbed.errors import ConfigError, Interrupted, SweepError
from benchbed.sweep import planted
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.lookup import known_benchmarks, load_benchmark
from benchbed.sweep.planted import load_claims, main, run_planted, shop_benchmark
from benchbed.sweep.planted_claims import Claims, Shop, estimate, findings, judge, under_ceiling
from benchbed.sweep.planted_page import write_planted
from benchbed.sweep.stages import SweepOutcome
from benchbed.tracking.reading import RunRecord, SweepRecord
from benchbed.workspace import Workspace

PLANTED = sorted(path for name, path in known_benchmarks().items() if (path.parent / "claims.yaml").is_file())


def shop(seed: int, a: list[list[float]], b: list[list[float]], top: list[float]) -> Shop:
    values = {"a": np.array(a), "b": np.array(b), "top": np.array([top])}
    return Shop(seed, np.array([1, 2, 2, 4]), {"ndcg@20": values})


SHOPS = [
    shop(1, [[0.4, 0.2, 0.6, 0.0], [0.4, 0.4, 0.6, 0.2]], [[0.2, 0.2, 0.2, 0.2], [0.2, 0.0, 0.2, 0.0]], [1, 1, 1, 0.5]),
    shop(2, [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]], [[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4]], [1, 1, 0.5, 1]),
]
DIFFERENCE = {"a": 1.0, "b": -1.0}


def test_an_estimate_is_what_the_hand_computes() -> None:
    made = estimate(SHOPS, "ndcg@20", DIFFERENCE, None, 0.95)
    # shop 1: users' means .4 .3 .6 .1 against .2 .1 .2 .1; shop 2: .5 against .1 .2 .3 .4
    first, second = np.array([0.2, 0.2, 0.4, 0.0]), np.array([0.4, 0.3, 0.2, 0.1])
    assert made.each == pytest.approx((0.2, 0.25))
    assert made.mean == pytest.approx(0.225)
    error = math.sqrt(((0.2 - 0.225) ** 2 + (0.25 - 0.225) ** 2) / 1) / math.sqrt(2)
    assert made.standard_error == pytest.approx(error)
    assert (made.low, made.high) == pytest.approx((0.225 - t.isf(0.025, 1) * error, 0.225 + t.isf(0.025, 1) * error))
    assert made.user_part == pytest.approx(math.sqrt((first.var(ddof=1) + second.var(ddof=1)) / 4) / 2)
    # seeds of shop 1 have the means .3 and .4 of a, .2 and .1 of b: one variance of .005 for both, two seeds each
    assert made.seed_part == pytest.approx(math.sqrt(0.005 / 2 + 0.005 / 2) / 2)
    assert made.users == (4, 4)


def test_an_estimate_takes_the_users_that_are_asked_for() -> None:
    made = estimate(SHOPS, "ndcg@20", DIFFERENCE, (2, 4), 0.95)
    assert made.each == pytest.approx((0.2, 0.2)) and made.users == (3, 3)
    assert made.low == made.high == pytest.approx(0.2)
    alone = estimate(SHOPS[:1], "ndcg@20", DIFFERENCE, (2,), 0.95)
    assert alone.each == pytest.approx((0.3,)) and math.isnan(alone.low) and math.isnan(alone.standard_error)


@pytest.mark.parametrize(
    ("expected", "low", "high", "verdict"),
    [
        ("gain", 0.001, 0.9, "confirmed"),
        ("gain", -0.001, 0.9, "undecided"),
        ("gain", -0.02, 0.009, "refuted"),
        ("gain", -0.3, -0.2, "refuted"),
        ("no_gain", -0.9, 0.009, "confirmed"),
        ("no_gain", 0.001, 0.02, "undecided"),
        ("no_gain", 0.011, 0.02, "refuted"),
        ("none", -0.009, 0.009, "confirmed"),
        ("none", -0.02, 0.009, "undecided"),
        ("none", 0.002, 0.02, "undecided"),
        ("none", 0.011, 0.02, "refuted"),
        ("none", -0.02, -0.011, "refuted"),
        *((kind, math.nan, math.nan, "undecided") for kind in ("gain", "no_gain", "none")),
    ],
)
def test_verdicts(expected: str, low: float, high: float, verdict: str) -> None:
    assert judge(expected, low, high, 0.01) == verdict


def claims(**changes: object) -> Claims:
    one = {"name": "better", "says": "a beats b.", "rows": DIFFERENCE, "expected": "gain", "scale": "b"}
    return Claims.model_validate({"ceiling": "top", "metric": "ndcg@20", "claims": [one], "test_users": 4, **changes})


def test_a_margin_is_a_share_of_its_row() -> None:
    (found,) = findings(claims(), SHOPS)
    assert found.scale == pytest.approx((0.15 + 0.25) / 2)
    assert found.margin == pytest.approx(0.05 * 0.2)
    assert found.verdict == "undecided"  # two shops: the interval is wide


def test_the_ceiling_is_held_or_broken_in_any_shop() -> None:
    assert all(each.holds for each in under_ceiling(claims(), SHOPS))
    high = shop(3, [[1.0, 0.9, 1.0, 1.0]] * 2, [[0.0] * 4] * 2, [0.0, 0.0, 0.1, 0.0])
    above = {each.row: each for each in under_ceiling(claims(), [*SHOPS, *SHOPS, *SHOPS, *SHOPS, high])}
    assert above["a"].errors < 0 and above["a"].highest > 3 and not above["a"].holds
    assert above["b"].holds


def test_unbalanced_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to 0"):
        claims(claims=[{"name": "x", "says": "", "rows": {"a": 1, "b": 1}, "expected": "gain", "scale": "b"}])


@pytest.mark.parametrize("path", PLANTED, ids=lambda path: path.parent.name)
def test_declared_claims_fit_their_benchmarks(path: Path, tmp_path: Path) -> None:
    benchmark = load_benchmark(path)
    declared = load_claims(path.parent / "claims.yaml", benchmark)
    assert declared.test_users >= 2000
    asked = shop_benchmark(benchmark, 5, Workspace(tmp_path))
    assert asked.name == f"{benchmark.name}-5" and asked.folder == benchmark.folder
    card = yaml.safe_load(Path(asked.dataset).read_text())
    assert card["simulate"] == {**yaml.safe_load(find_card(benchmark.dataset).read_text())["simulate"], "seed": 5}


def test_claims_about_rows_that_are_not_there(tmp_path: Path) -> None:
    benchmark = load_benchmark("bazaar-sparse")
    text = (known_benchmarks()["bazaar-sparse"].parent / "claims.yaml").read_text()
    (tmp_path / "claims.yaml").write_text(text.replace("items_alone", "items_alon").replace("ndcg@20", "ndcg@30"))
    with pytest.raises(ConfigError, match=r"no 'items_alon'; did you mean 'items_alone'\?") as caught:
        load_claims(tmp_path / "claims.yaml", benchmark)
    assert "no 'ndcg@30'" in str(caught.value)
    with pytest.raises(ConfigError, match="declared before anything runs"):
        load_claims(tmp_path / "no.yaml", benchmark)


def test_ordinary_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not simulated, so nothing is planted"):
        shop_benchmark(load_benchmark("ml-100k-user-disjoint"), 1, Workspace(tmp_path))
    asked = load_benchmark("bazaar-sparse")
    keeping = asked.model_copy(update={"evaluation": asked.evaluation.model_copy(update={"seen_items": "keep"})})
    with pytest.raises(ConfigError, match="seen_items: exclude"):
        shop_benchmark(keeping, 1, Workspace(tmp_path))


def test_the_page_says_what_came_out(tmp_path: Path) -> None:
    benchmark = Benchmark.model_validate(
        {
            "name": "try",
            "dataset": "bazaar",
            "split": {"kind": "user_disjoint"},
            "evaluation": {"seen_items": "exclude"},
            "models": ["popularity"],
        }
    )
    write_planted(tmp_path, benchmark, claims(), SHOPS)
    page, data = (tmp_path / "planted.md").read_text(), json.loads((tmp_path / "planted.json").read_text())
    assert "**better: undecided.** a beats b. Expected: a gain; found ndcg@20 +0.2250 [" in page
    assert (
        "**Holds.**" in page and "| a - b | all users |" in page and (tmp_path / "planted.svg").read_text().startswith("<svg")
    )
    assert data["claims"][0]["each"] == pytest.approx([0.2, 0.25]) and data["ceiling"][0]["holds"] is True
    assert "simple methods" not in page
    named = [
        replace(one, values={"ndcg@20": {**one.values["ndcg@20"], "ease": one.values["ndcg@20"]["a"][:1]}}) for one in SHOPS
    ]
    write_planted(tmp_path, benchmark, claims(), named)
    assert "is ease with a ndcg@20 of 0.4000. Above it with its whole interval: none" in (tmp_path / "planted.md").read_text()
    write_planted(tmp_path, benchmark, claims(), SHOPS[:1])
    assert "[unknown, unknown]" in (tmp_path / "planted.md").read_text()


def lay_out(folder: Path) -> Path:
    """A benchmark on a tiny shop, of rows that cost nothing."""
    card = yaml.safe_load(find_card("bazaar-sparse").read_text())
    card |= {
        "name": "tiny",
        "simulate": {"name": "bazaar", "seed": 1, "users": 90, "items": 60, "events": 1200, "categories": 4},
    }
    benchmark = {
        "name": "tiny",
        "dataset": str(folder / "tiny.yaml"),
        "split": {"kind": "user_disjoint", "ratios": [1, 1, 1], "ties": "file"},
        "evaluation": {"metrics": ["recall", "ndcg"], "seen_items": "exclude"},
        "models": ["popularity", "markov", "oracle"],
        "baselines": "none",
        "search": {"trials": 1},
        "resources": {"cpu": 1},
    }
    claim = {"name": "c", "says": "s", "rows": {"markov": 1, "popularity": -1}, "expected": "gain", "scale": "popularity"}
    declared = {"metric": "ndcg@20", "also": ["recall@20"], "test_users": 30, "claims": [claim | {"interests": [1, 2]}]}
    for name, value in (("tiny", card), ("benchmark", benchmark), ("claims", declared)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(value))
    return folder / "benchmark.yaml"


@pytest.mark.slow
def test_two_shops_from_nothing_to_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = lay_out(tmp_path)
    shops = run_planted(path, [4, 5], Workspace(tmp_path / "ws"))
    assert [one.seed for one in shops] == [4, 5]
    assert all(set(one.values["recall@20"]) == {"popularity", "markov", "oracle"} for one in shops)
    assert set(np.unique(shops[0].interests)) <= {1, 2, 3, 4} and len(shops[0].interests) == 30
    means = [one.values["ndcg@20"]["oracle"].mean() for one in shops]
    assert means[0] != means[1] and min(means) > max(one.values["ndcg@20"]["popularity"].mean() for one in shops)
    assert "| oracle |" in (tmp_path / "planted.md").read_text()
    again = run_planted(path, [4, 5], Workspace(tmp_path / "ws"))
    np.testing.assert_array_equal(again[1].values["ndcg@20"]["markov"], shops[1].values["ndcg@20"]["markov"])


def test_a_shop_that_was_run_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record that a sweep left is made up; the shop, its split and what was planted are real."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path, home = lay_out(tmp_path), Workspace(tmp_path / "ws")
    benchmark = load_benchmark(path)
    asked = shop_benchmark(benchmark, 4, home)
    prepared = prepare(load_card(asked.dataset), home)
    split = split_dataset(prepared, asked.split, 42)
    data = load_training_data(split.folder, asked.evaluation)
    users = data.valid.users
    about = {"trained_by": "counting", "space": {"parameters": {}, "joint": {}}}
    record = SweepRecord(
        benchmark=asked.model_dump(mode="json"),
        sweep="s",
        facts={"models": dict.fromkeys(benchmark.models, about), "splits": [{"split_id": split.split_id}]},
        notes={},
        trials=(),
        finals=tuple(
            RunRecord(
                f"{row}/{seed}", f"{row}-{seed}", "final", row, "", "COMPLETE", {"seed": seed}, {}, test={"ndcg@20": value}
            )
            for row in benchmark.models
            for seed, value in ((3, 0.5), (2, math.nan), (1, 0.5), (9, 0.5))
        ),
        others=(),
        uri="",
        told=0,
    )

    def values(uri: str, run: RunRecord, columns: list[str]) -> pd.DataFrame:
        return pd.DataFrame({"user": users} | {column: np.full(len(users), float(run.seed or 0)) for column in columns[1:]})

    monkeypatch.setattr(planted, "run_sweep", lambda *_, **__: SweepOutcome("tiny-4", "s"))
    monkeypatch.setattr(planted, "read_sweep", lambda *_: record)
    monkeypatch.setattr(planted, "read_cases", values)
    made = planted.run_shop(benchmark, load_claims(path.parent / "claims.yaml", benchmark), 4, home)
    # seed 2 has no result, seed 9 is not one that the benchmark asks for; seeds stand in their order
    assert made.values["ndcg@20"]["markov"][:, 0].tolist() == [1.0, 3.0]
    assert list(made.values["recall@20"]) == list(benchmark.models)
    assert made.rows["oracle"]["tuned"] == {} and made.rows["oracle"]["seeds_missing"] == -1
    truth = pd.read_parquet(data.planted.truth / "truth.parquet") if data.planted else pd.DataFrame()
    likes = truth.groupby("user", observed=True)["interests"].first().map(lambda found: int((np.array(found) >= 0).sum()))
    ids = pd.read_parquet(prepared.folder / "users.parquet").set_index("index")["id"]
    assert made.interests.tolist() == [likes[ids[user]] for user in users]
    with pytest.raises(SweepError, match="has 30 test users; the claims ask for 2000"):
        planted.run_shop(benchmark, claims(ceiling="oracle", test_users=2000), 4, home)
    monkeypatch.setattr(planted, "run_sweep", lambda *_, **__: SweepOutcome("tiny-4", "s", interrupted=True))
    with pytest.raises(Interrupted, match="was interrupted"):
        planted.run_shop(benchmark, claims(), 4, home)


def test_the_command_tells_a_mistake_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "claims.yaml").write_text("metric: ndcg@20\n")
    path = lay_out(tmp_path)
    (tmp_path / "claims.yaml").unlink()
    assert main([str(path), "--workspace", str(tmp_path / "ws")]) == 2
    assert "declared before anything runs" in capsys.readouterr().err
