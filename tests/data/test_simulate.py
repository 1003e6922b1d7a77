"""The bazaar: exact, repeatable, skewed, drifting, with a sequential signal, and a truth that fits the log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchbed.data.simulate import Truth, read_truth, target_probabilities, write_raw
from benchbed.data.simulate import log as log_module
from benchbed.data.simulate.visitors import WAYS, weights
from benchbed.errors import ConfigError, DataError

DEFAULT: dict[str, Any] = {"name": "bazaar", "seed": 7, "users": 2000, "items": 1000, "events": 60000}
SMALL: dict[str, Any] = {"name": "bazaar", "seed": 3, "users": 150, "items": 120, "events": 3000, "categories": 8}
FILES = ["graph", "interactions", "items", "links", "truth", "truth_items", "truth_users"]


@dataclass
class Bazaar:
    folder: Path
    log: pd.DataFrame
    items: pd.DataFrame
    graph: pd.DataFrame
    links: pd.DataFrame
    events: pd.DataFrame
    truth: Truth


@pytest.fixture(scope="module")
def bazaar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bazaar]:
    folder = tmp_path_factory.mktemp("bazaar")
    write_raw(DEFAULT, folder)
    tables = [pd.read_csv(folder / f"{name}.csv") for name in ("interactions", "items", "graph", "links")]
    yield Bazaar(folder, *tables, pd.read_parquet(folder / "truth.parquet"), read_truth(folder))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def gini(counts: np.ndarray) -> float:
    ordered, n = np.sort(counts), len(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def test_same_settings_same_bytes_and_nothing_else_left_behind(tmp_path: Path) -> None:
    write_raw(SMALL, tmp_path / "a")
    write_raw(SMALL, tmp_path / "b")
    write_raw(SMALL, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert sorted(Path(name).stem for name in contents(tmp_path / "a")) == FILES
    assert sorted({Path(name).suffix for name in contents(tmp_path / "a")}) == [".csv", ".parquet"]


def test_another_seed_is_another_shop(tmp_path: Path) -> None:
    write_raw(SMALL, tmp_path / "a")
    write_raw(SMALL | {"seed": 4}, tmp_path / "b")
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert all(a[name] != b[name] for name in a)


def test_sizes_are_exact(bazaar: Bazaar) -> None:
    assert bazaar.log.columns.tolist() == ["user", "item", "timestamp"]
    assert len(bazaar.log) == 60_000
    assert bazaar.log["user"].nunique() == 2000
    assert bazaar.log["item"].nunique() == len(bazaar.items) == bazaar.items["item"].nunique() == 1000
    assert bazaar.log["user"].value_counts().min() >= 5
    assert set(bazaar.log["item"]) == set(bazaar.items["item"]) == set(bazaar.links["item"])


@pytest.mark.parametrize(
    "settings",
    [
        {"users": 1, "items": 20, "events": 5, "categories": 1},
        {"users": 40, "items": 20, "events": 200, "categories": 4},
        {"users": 30, "items": 64, "events": 480, "categories": 3},
    ],
)
def test_sizes_are_exact_at_the_edges(settings: dict[str, int], tmp_path: Path) -> None:
    write_raw({"name": "bazaar", "seed": 0, **settings}, tmp_path)
    log = pd.read_csv(tmp_path / "interactions.csv")
    assert (log["user"].nunique(), len(log)) == (settings["users"], settings["events"])
    assert log["user"].value_counts().max() <= settings["items"] // 2
    assert len(pd.read_csv(tmp_path / "items.csv")) == settings["items"]
    assert pd.read_csv(tmp_path / "items.csv")["category"].nunique() == settings["categories"]


def test_visitors_beyond_one_block_follow_the_same_law(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "BLOCK", 64)
    write_raw(SMALL, tmp_path)
    truth = pd.read_parquet(tmp_path / "truth.parquet")
    assert len(truth) == 3000
    assert truth["user"].nunique() == 150
    assert truth.groupby("user", observed=True)["opened_session"].first().all()


def test_popularity_is_skewed_and_ids_do_not_tell(bazaar: Bazaar) -> None:
    counts = bazaar.log["item"].value_counts().sort_index()
    assert gini(counts.to_numpy()) > 0.4
    assert counts.nlargest(200).sum() > 0.5 * len(bazaar.log)
    # 1,000 ids: the standard error of a rank correlation is .03
    assert abs(counts.reset_index(drop=True).corr(pd.Series(range(1000)), method="spearman")) < 0.12
    entity = bazaar.links.set_index("item")["entity"].reindex(counts.index).rank()
    assert abs(entity.reset_index(drop=True).corr(counts.reset_index(drop=True), method="spearman")) < 0.12
    activity = bazaar.log["user"].value_counts().sort_index().reset_index(drop=True)
    assert abs(activity.corr(pd.Series(range(2000)), method="spearman")) < 0.09
    neighbours = (bazaar.items["category"] == bazaar.items["category"].shift()).mean()
    chance = (bazaar.items["category"].value_counts(normalize=True) ** 2).sum()
    assert neighbours == pytest.approx(chance, abs=0.03)


def test_users_have_one_to_four_interests(bazaar: Bazaar) -> None:
    interests = np.stack(bazaar.events["interests"].to_numpy())
    number = (interests >= 0).sum(axis=1)
    shares = pd.Series(number).groupby(bazaar.events["user"].to_numpy()).agg(["min", "max"])
    assert (shares["min"] == shares["max"]).all(), "the number of interests is for life"
    assert shares["min"].value_counts(normalize=True).sort_index().to_numpy() == pytest.approx([0.3, 0.3, 0.2, 0.2], abs=0.05)
    for row in interests[::97]:
        held = row[row >= 0]
        assert len(set(held)) == len(held)
    assert (interests == bazaar.events["topic"].to_numpy()[:, None]).any(axis=1).mean() > 0.99


def test_interests_drift_at_sessions_only(bazaar: Bazaar) -> None:
    events = bazaar.events
    interests, logits = np.stack(events["interests"].to_numpy()), np.stack(events["logits"].to_numpy())
    same_user = events["user"].to_numpy()[1:] == events["user"].to_numpy()[:-1]
    opened = events["opened_session"].to_numpy()[1:]
    moved = (logits[1:] != logits[:-1]).any(axis=1)
    swapped = (interests[1:] != interests[:-1]).any(axis=1)
    assert not moved[same_user & ~opened].any()
    assert moved[same_user & opened].all()
    assert swapped[same_user & opened].mean() == pytest.approx(0.03, abs=0.006)
    assert not swapped[same_user & ~opened].any()
    # from the first to the last event the weights of users with several interests and many sessions really change
    first, last = bazaar.truth.first[:-1], bazaar.truth.first[1:] - 1
    several = (interests[first, 1] >= 0) & (last - first > 40)
    change = np.abs(weights(interests[first], logits[first]) - weights(interests[last], logits[last])).sum(axis=1) / 2
    assert np.median(change[several]) > 0.2


def test_what_is_taken_follows_what_was_taken(bazaar: Bazaar) -> None:
    shop, item = bazaar.truth.shop, bazaar.truth.events["item"]
    user = np.repeat(np.arange(2000), np.diff(bazaar.truth.first))
    shuffled = np.random.default_rng(0).permutation(item)
    for back in (1, 2, 3):
        inside = user[back:] == user[:-back]
        followed = (shop.successor[item[:-back]] == item[back:])[inside].mean()
        chance = (shop.successor[shuffled[:-back]] == item[back:])[inside].mean()
        assert followed > 8 * chance, f"{back} events back"
    assert 0.1 < (shop.successor[item[:-1]] == item[1:])[user[1:] == user[:-1]].mean() < 0.3, "a signal, not a rule"


def test_mutual_information_of_neighbours_is_far_above_chance(bazaar: Bazaar) -> None:
    category, item = bazaar.truth.shop.category, bazaar.truth.events["item"]
    user = np.repeat(np.arange(2000), np.diff(bazaar.truth.first))
    inside = user[1:] == user[:-1]

    def information(a: np.ndarray, b: np.ndarray) -> float:
        joint = np.zeros((20, 20))
        np.add.at(joint, (category[a], category[b]), 1 / len(a))
        product = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
        there = joint > 0
        return float((joint[there] * np.log(joint[there] / product[there])).sum())

    before, after = item[:-1][inside], item[1:][inside]
    rng = np.random.default_rng(0)
    # against the same user's other events, so that mere taste does not count: order within a history shuffled
    order = np.lexsort((rng.random(len(item)), user))
    taste = information(item[order][:-1][inside], item[order][1:][inside])
    assert information(before, after) > 1.2 * taste
    assert taste > 20 * information(before, rng.permutation(after))


def test_repeats_and_ties_are_there_but_rare(bazaar: Bazaar) -> None:
    assert 0.001 < bazaar.log.duplicated(["user", "item"]).mean() < 0.01
    by_user = bazaar.events.groupby("user", observed=True)["timestamp"].diff().dropna()
    assert (by_user >= 0).all()
    assert 0.01 < (by_user == 0).mean() < 0.1
    assert by_user.quantile(0.5) < 600 < 86_400 < by_user.quantile(0.95), "events come in sessions"
    assert bazaar.log["timestamp"].is_monotonic_increasing


def test_the_truth_fits_the_log(bazaar: Bazaar) -> None:
    # in a stable order of time, the log and the truth are the same events
    events = bazaar.events.astype({"user": str, "item": str}).sort_values(["user", "position"], kind="stable")
    log = bazaar.log.assign(row=range(len(bazaar.log))).sort_values(["user", "timestamp", "row"])
    assert events[["user", "item", "timestamp"]].to_numpy().tolist() == log[["user", "item", "timestamp"]].to_numpy().tolist()
    ways = bazaar.events["way"].value_counts(normalize=True)
    assert ways["leftover"] < 0.001
    assert ways[["series", "topic", "complement", "browse"]].min() > 0.05
    assert set(ways.index) <= set(WAYS)


def test_the_graph_knows_what_is_taken_together(bazaar: Bazaar) -> None:
    graph, links = bazaar.graph, bazaar.links.set_index("entity")["item"]
    assert set(graph["relation"]) == {"in_category", "made_by", "in_series", "goes_with", "part_of"}
    assert links.is_unique and links.index.is_unique
    made = graph[graph["relation"] == "made_by"]
    assert len(made) == pytest.approx(900, abs=30), "a tenth of the triples is missing"
    assert not graph.duplicated().any()
    # users take two things of one maker from different categories of a department more often than makers' sizes explain
    shop, events = bazaar.truth.shop, bazaar.truth.events["item"]
    topic = bazaar.events["way"].to_numpy() == "topic"
    frame = pd.DataFrame({"item": events, "user": bazaar.events["user"].to_numpy(), "topic": topic})[topic]
    frame = frame.assign(maker=shop.maker[frame["item"]], category=shop.category[frame["item"]])
    frame["department"] = shop.department[frame["item"]]
    pairs = frame.merge(frame, on=["user", "department"]).query("category_x < category_y")
    together = (pairs["maker_x"] == pairs["maker_y"]).mean()
    groups = pairs.groupby(["department", "category_x", "category_y"])["maker_y"]
    strangers = groups.transform(lambda makers: makers.sample(frac=1, random_state=0).to_numpy())
    assert together > 1.3 * (pairs["maker_x"] == strangers).mean()


def test_complements_of_the_graph_are_followed(bazaar: Bazaar) -> None:
    goes = bazaar.graph[bazaar.graph["relation"] == "goes_with"]
    item = bazaar.links.set_index("entity")["item"]
    known = set(zip(goes["head"].map(item), goes["tail"].map(item), strict=True))
    events = bazaar.events.astype({"user": str, "item": str})
    same = (events["user"] == events["user"].shift())[1:].to_numpy()
    before, after = events["item"].to_numpy()[:-1][same], events["item"].to_numpy()[1:][same]
    shuffled = np.random.default_rng(0).permutation(before)
    rate = np.mean([pair in known for pair in zip(before, after, strict=True)])
    assert rate > 8 * np.mean([pair in known for pair in zip(shuffled, after, strict=True)])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"userz": 10}, ["userz", "did you mean 'users'?"]),
        ({"name": "bazar"}, ["'bazar' is not one of bazaar", "did you mean 'bazaar'?"]),
        ({"seed": -1}, ["seed"]),
        ({"items": 0}, ["items"]),
        ({"events": 9999}, ["between 10000 and 500000 events"]),
        ({"categories": 300}, ["300 categories need at least 1500 items"]),
    ],
)
def test_mistakes_in_the_settings_are_named(change: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write_raw(DEFAULT | change, tmp_path / "out")
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert not (tmp_path / "out").exists()


def test_every_mistake_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write_raw({"name": "bazaar", "seeds": 1, "users": 0}, tmp_path)
    assert {p.key for p in caught.value.problems} == {"seeds", "seed", "users"}


def cases(truth: Truth, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first users, cut after four fifths of their events."""
    users = np.arange(count)
    lengths = np.diff(truth.first)[users]
    cuts = lengths * 8 // 10
    return users, cuts, lengths - cuts


def test_the_oracle_is_calibrated_and_ranks_better_than_popularity(bazaar: Bazaar) -> None:
    truth = bazaar.truth
    users, cuts, targets = cases(truth, 400)
    probability = target_probabilities(truth, users, cuts, targets, copies=200)
    hit, seen = np.zeros(probability.shape, bool), np.zeros(probability.shape, bool)
    for row, user in enumerate(users):
        items = truth.events["item"][truth.first[user] : truth.first[user + 1]]
        seen[row, items[: cuts[row]]] = True
        hit[row, items[cuts[row] :]] = True
    assert not probability[seen].any()
    hit &= ~seen
    # among all items given a probability of about p, the share p is taken: in five bands, within 4 standard errors. Targets of
    # one user exclude each other, so that errors of independent draws are an upper bound.
    for low, high in ((0.005, 0.02), (0.02, 0.05), (0.05, 0.1), (0.1, 0.25), (0.25, 1.0)):
        band = (probability >= low) & (probability < high)
        expected, error = probability[band].mean(), np.sqrt(probability[band].mean() / band.sum())
        # choosing a band by a noisy estimate favours those estimated too high: noise of 200 copies, at most
        slack = 0.15 * expected
        assert abs(hit[band].mean() - expected) < 4 * error + slack, (low, high, expected, hit[band].mean())
    popularity = np.bincount(truth.events["item"], minlength=1000)

    def recall(scores: np.ndarray) -> np.ndarray:
        top = np.argsort(-np.where(seen, -1.0, scores), axis=1)[:, :20]
        return np.take_along_axis(hit, top, axis=1).sum(axis=1) / np.maximum(hit.sum(axis=1), 1)

    gain = recall(probability) - recall(np.broadcast_to(popularity, probability.shape))
    assert gain.mean() > 5 * gain.std() / np.sqrt(len(gain))


def test_the_state_at_a_cut_is_what_was_planted(bazaar: Bazaar) -> None:
    truth = bazaar.truth
    users, cuts = np.array([0, 17, 1999]), np.array([1, 3, 5])
    state = truth.state(users, cuts)
    for row, (user, cut) in enumerate(zip(users, cuts, strict=True)):
        items = truth.events["item"][truth.first[user] : truth.first[user] + cut]
        assert set(np.flatnonzero(state.seen[row])) == set(items)
        recent = state.recent[row][state.recent[row] >= 0]
        assert recent.tolist() == items[::-1][:4].tolist()
        at = bazaar.events.iloc[truth.first[user] + cut - 1]
        assert state.interests[row].tolist() == at["interests"].tolist()
        assert state.topic[row] == at["topic"]
        assert truth.shop.ids[items[-1]] == at["item"]
    with pytest.raises(DataError, match="a cut must lie between"):
        truth.state(np.array([0]), np.array([0]))


def test_the_same_seed_gives_the_same_continuations(bazaar: Bazaar) -> None:
    users, cuts, targets = cases(bazaar.truth, 30)
    once = target_probabilities(bazaar.truth, users, cuts, targets, copies=64, seed=1)
    assert (once == target_probabilities(bazaar.truth, users, cuts, targets, copies=64, seed=1)).all()
    other = target_probabilities(bazaar.truth, users, cuts, targets, copies=64, seed=2)
    assert (once != other).any()
    # every continuation takes `targets` items, all new but for the few repeats
    assert once.sum(axis=1) == pytest.approx(targets, rel=0.1, abs=0.2)


def test_data_without_a_planted_truth_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only simulated data have a planted truth"):
        read_truth(tmp_path)
