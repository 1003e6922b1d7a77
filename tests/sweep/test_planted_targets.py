"""Claims about a part of the targets: which those are, what a metric says of them, and where such a claim makes no sense."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchbed.config import fingerprint
from benchbed.data.card import load_card
from benchbed.data.dataset import Ragged
from benchbed.data.load import load_training_data
from benchbed.data.prepare import prepare
from benchbed.data.split.make import split_dataset
from benchbed.data.split.spec import SplitSpec
from benchbed.data.vault import open_vault
from benchbed.errors import ConfigError, SweepError
from benchbed.evaluation.protocol import Protocol
from benchbed.sweep.lookup import known_benchmarks, load_benchmark
from benchbed.sweep.planted import load_claims, planted_users
from benchbed.sweep.planted_claims import Claims, Shop, estimate, findings
from benchbed.sweep.planted_page import write_planted
from benchbed.sweep.planted_targets import column_of, late_targets, partial_values
from benchbed.workspace import Workspace

LAUNCHES = known_benchmarks()["bazaar-launches"]
NAN = float("nan")


def test_the_log_tells_the_targets_of_the_split_without_the_vault(tmp_path: Path) -> None:
    card = load_card("bazaar-launches")
    card = card.model_copy(
        update={"simulate": {**(card.simulate or {}), "users": 300, "items": 100, "events": 4500, "categories": 5}}
    )
    asked = load_benchmark(LAUNCHES)
    split = split_dataset(prepare(card, Workspace(tmp_path)), SplitSpec(kind="temporal", test_days=17.5, ties="file"), 42)
    data = load_training_data(split.folder, asked.evaluation)
    cases = open_vault(split.folder, asked.evaluation, model="x", seed=0, by="test", sweep="s", fingerprint=data.fingerprint)
    truth, users = planted_users(split, asked, cases.users)
    late = late_targets(truth, users, split.manifest["edges"]["test"])
    assert truth.shop.launch is not None
    launched = dict(zip(truth.shop.ids.tolist(), (truth.shop.launch > 0).tolist(), strict=True))
    assert late.offsets.tolist() == cases.targets.offsets.tolist()
    assert late.values.tolist() == [launched[data.item_ids[item]] for item in cases.targets.values.tolist()]
    assert 0 < late.values.mean() < 1
    ids = dict(zip(*(pq.read_table(data.planted.users)[name].to_pylist() for name in ("index", "id")), strict=True))  # type: ignore[union-attr]  # simulated
    assert [truth.users[ids[user]] for user in cases.users.tolist()] == users.tolist()


def test_a_part_of_the_targets_is_measured_as_if_it_were_all() -> None:
    ranks, late = [np.array([1, 3, 0]), np.array([2]), np.array([40, 1])], Ragged.of([[1, 0, 1], [0], [1, 1]])
    assert partial_values(ranks, late, "recall@20", "launched").tolist() == pytest.approx([0.5, NAN, 0.5], nan_ok=True)
    assert partial_values(ranks, late, "recall@20", "other").tolist() == pytest.approx([1.0, 1.0, NAN], nan_ok=True)
    ideal = 1 + 1 / np.log2(3)
    assert partial_values(ranks, late, "ndcg@20", "launched").tolist() == pytest.approx(
        [1 / ideal, NAN, 1 / ideal], nan_ok=True
    )
    with pytest.raises(SweepError, match="other targets than the simulated log"):
        partial_values(ranks[:2], Ragged.of([[1], [0]]), "recall@20", "launched")


def part_of(targets: str | None) -> Claims:
    claim = {"name": "c", "says": "It helps.", "rows": {"a": 1, "b": -1}, "expected": "gain", "scale": "top"}
    more = {} if targets is None else {"targets": targets}
    return Claims.model_validate({"ceiling": "top", "metric": "ndcg@20", "test_users": 1, "claims": [claim | more]})


def shop(seed: int, shift: float) -> Shop:
    whole = {row: np.array([[base, base, base]]) for row, base in (("a", 0.4 + shift), ("b", 0.3), ("top", 0.8))}
    launched = {row: values * [1, NAN, 0.5] for row, values in whole.items()}
    other = {row: values * [NAN, 1, 1] for row, values in whole.items()}
    columns = {column_of("ndcg@20", part): values for part, values in ((None, whole), ("launched", launched), ("other", other))}
    return Shop(seed, np.array([1, 2, 3]), columns)


def test_users_without_such_a_target_do_not_count() -> None:
    shops = [shop(1, 0.0), shop(2, 0.1)]
    made = estimate(shops, "ndcg@20 of launched targets", {"a": 1.0, "b": -1.0}, None, 0.95)
    assert made.each == pytest.approx((0.075, 0.15)) and made.users == (2, 2)
    (found,) = findings(part_of("launched"), shops)
    assert found.estimate == made and found.scale == pytest.approx(0.6)
    (whole,) = findings(part_of(None), shops)
    assert whole.estimate.each == pytest.approx((0.1, 0.2)) and whole.scale == pytest.approx(0.8)


def test_the_page_shows_both_parts(tmp_path: Path) -> None:
    write_planted(tmp_path, load_benchmark(LAUNCHES), part_of("launched"), [shop(1, 0.0), shop(2, 0.1)])
    page = (tmp_path / "planted.md").read_text()
    assert "| a - b | all users, launched targets |" in page and "found ndcg@20 of launched targets +0.1125 [" in page
    assert "## ndcg@20 of launched and of other targets" in page and "| test users | 3, 3 | 2, 2 | 2, 2 |" in page
    means = json.loads((tmp_path / "planted.json").read_text())["shops"][0]["means"]
    assert means["ndcg@20 of other targets"]["b"] == pytest.approx([0.3])
    write_planted(tmp_path, load_benchmark(LAUNCHES), part_of(None), [shop(1, 0.0), shop(2, 0.1)])
    assert "of other targets" not in (tmp_path / "planted.md").read_text().partition("## Protocol")[0]


@pytest.mark.parametrize(
    "change", [{"kind": "user_disjoint", "test_days": None}, {"targets": "next"}, {"dataset": "bazaar-sparse"}]
)
def test_a_claim_about_launches_wants_launches(change: dict[str, str]) -> None:
    asked = load_benchmark(LAUNCHES)
    asked = asked.model_copy(
        update={
            "dataset": change.get("dataset", asked.dataset),
            "split": asked.split.model_copy(update={k: v for k, v in change.items() if k in ("kind", "test_days")}),
            "evaluation": Protocol(**{**asked.evaluation.model_dump(), "targets": change.get("targets", "rest")}),
        }
    )
    with pytest.raises(ConfigError, match="want a shop with launches, a temporal split"):
        load_claims(LAUNCHES.parent / "claims.yaml", asked)


def test_claims_of_old_keep_their_fingerprint() -> None:
    sparse = known_benchmarks()["bazaar-sparse"].parent
    declared = load_claims(sparse / "claims.yaml", load_benchmark("bazaar-sparse"))
    assert fingerprint(declared) == json.loads((sparse / "planted.json").read_text())["declared"]["fingerprint"]
    assert (
        "targets" not in part_of(None).model_dump()["claims"][0]
        and part_of("other").model_dump()["claims"][0]["targets"] == "other"
    )
