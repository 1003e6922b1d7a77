"""Items that are launched late: when they can be taken, how much they are, and a ceiling that knows the law of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchbed.data.card import load_card
from benchbed.data.simulate import Truth, read_settings, read_truth, target_probabilities, write_raw
from benchbed.data.simulate.log import OPENING, YEAR, simulate
from benchbed.data.simulate.visitors import LEFTOVER_WAY, weights
from benchbed.errors import ConfigError

SMALL: dict[str, Any] = {"name": "bazaar", "seed": 3, "users": 150, "items": 120, "events": 3000, "categories": 8}
LAUNCHING = SMALL | {"launches": 0.25}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("launching")
    write_raw(LAUNCHING, made)
    return made


@pytest.fixture(scope="module")
def truth(folder: Path) -> Truth:
    return read_truth(folder)


def test_a_shop_without_launches_is_the_shop_of_old(tmp_path: Path) -> None:
    write_raw(SMALL, tmp_path / "a")
    write_raw(SMALL | {"launches": 0}, tmp_path / "b")
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    log = hashlib.sha256((tmp_path / "a" / "interactions.csv").read_bytes()).hexdigest()
    assert log[:16] == "2d8dbcb7bbdd7909", "settings of old must give the bytes of old, or SIMULATOR_VERSION must rise"
    assert read_truth(tmp_path / "a").shop.launch is None


def test_nothing_is_taken_before_it_is_launched_and_all_is_described(folder: Path, truth: Truth) -> None:
    shop = truth.shop
    assert shop.launch is not None and shop.attention is not None
    late = shop.launch > 0
    assert late.sum() == 30 and shop.launch[late].min() >= 0.9 * YEAR and shop.launch.max() <= YEAR
    times = truth.events["timestamp"] - OPENING
    assert (times >= shop.launch[truth.events["item"]]).all()
    assert late[truth.events["item"]].sum() > 100
    assert shop.attention.sum() == pytest.approx(1) and shop.attention[late].sum() == pytest.approx(0.4)
    assert np.ptp(shop.attention[late]) == pytest.approx(0)
    old = shop.attention[~late] / shop.weight[~late]
    assert old == pytest.approx(np.full(len(old), old[0])), "old items keep their popularity among themselves"
    assert set(pd.read_csv(folder / "items.csv")["item"]) == set(shop.ids.tolist())
    entity = pd.read_csv(folder / "links.csv").set_index("item")["entity"]
    heads = set(pd.read_csv(folder / "graph.csv")["head"])
    assert np.mean([entity[name] in heads for name in shop.ids[late]]) > 0.95


def test_same_settings_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_raw(LAUNCHING, tmp_path)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in tmp_path.iterdir()}


def test_sessions_are_drawn_before_what_is_taken_and_written_as_drawn(folder: Path, truth: Truth) -> None:
    events = pd.read_parquet(folder / "truth.parquet")
    first = truth.first[:-1]
    assert events["opened_session"].to_numpy()[first].all()
    assert events["opened_session"].mean() == pytest.approx(0.25 + 0.75 * 150 / 3000, abs=0.03)
    assert (events.groupby("user", observed=True)["timestamp"].diff().dropna() >= 0).all()


def test_a_share_of_half_or_more_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="launches"):
        write_raw(SMALL | {"launches": 0.5}, tmp_path)


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_the_benchmark_has_what_it_promises(seed: int) -> None:
    """15 % of the items, with 0 to 4 training events each, make a fifth of the test targets of 2,000 users, at every seed."""
    card = load_card("bazaar-launches")
    shop, log = simulate(read_settings({**(card.simulate or {}), "seed": seed}))
    assert shop.launch is not None
    late, day = shop.launch > 0, 86_400
    test_from = log.timestamps.max() - round(17.5 * day)
    train, test = log.timestamps < test_from - round(17.5 * day), log.timestamps >= test_from
    assert late.sum() == 150
    assert (log.ways == LEFTOVER_WAY).mean() < 0.001
    assert np.bincount(log.items[train], minlength=len(shop))[late].max() <= 4
    assert late[log.items[test]].mean() > 0.2
    assert len(set(log.users[test]) & set(log.users[~test])) > 2050
    assert set(log.users[train]) == set(range(len(log.lengths))), "every user has training events"


def law(truth: Truth, user: int, cut: int, now: int) -> np.ndarray:
    """The equations of the documentation for an event that opens no session: the probability of every item."""
    shop, state = truth.shop, truth.state(np.array([user]), np.array([cut]))
    assert shop.launch is not None and shop.attention is not None
    draw = shop.attention
    allowed = ~state.seen[0] & (shop.launch <= now)
    topics = dict.fromkeys(range(len(shop)), 0.0)
    topics[int(state.topic[0])] = 0.85
    for category, weight in zip(state.interests[0], weights(state.interests, state.logits)[0], strict=True):
        if category >= 0:
            topics[int(category)] += 0.15 * weight
    total = np.zeros(len(shop))
    for z, share in topics.items():
        if not share:
            continue
        inside = shop.category == z
        own = inside & (shop.maker == state.maker[0, shop.department[inside][0]])
        topic = draw * inside / draw[inside].sum()
        if own.any():
            topic = 0.5 * topic + 0.5 * draw * own / draw[own].sum()
        mixture = 0.1 * draw + 0.5 * topic
        for a, weight in zip(state.recent[0], (8 / 15, 4 / 15, 2 / 15, 1 / 15), strict=True):
            follow = [(0.3, shop.successor[a] if a >= 0 else -1)]
            follow += [(0.05, other) for other in (shop.complements[a] if a >= 0 else (-1, -1))]
            for probability, item in follow:
                mixture = mixture + weight * probability * (np.arange(len(shop)) == item if item >= 0 else topic)
        assert mixture.sum() == pytest.approx(1)
        total += share * mixture * allowed / (mixture * allowed).sum()
    return 0.995 * total


def test_one_step_follows_the_equations_at_its_time(truth: Truth) -> None:
    times, opened = truth.events["timestamp"] - OPENING, truth.events["opened_session"]
    launch = truth.shop.launch
    assert launch is not None
    user_of = np.repeat(np.arange(150), np.diff(truth.first))
    place = np.arange(len(times)) - truth.first[user_of]
    chosen = np.flatnonzero((times > 0.93 * YEAR) & (times < 0.98 * YEAR) & ~opened & (place > 4))[::40][:6]
    early = np.flatnonzero((times < 0.5 * YEAR) & ~opened & (place > 4))[:2]
    chosen = np.append(chosen, early)
    users, cuts, copies = user_of[chosen], place[chosen], 20_000
    found = target_probabilities(truth, users, cuts, np.ones(len(chosen), np.int64), copies=copies)
    for row, event in enumerate(chosen):
        expected = law(truth, int(users[row]), int(cuts[row]), int(times[event]))
        error = np.sqrt(expected * (1 - expected) / copies)
        assert (np.abs(found[row] - expected) < 5 * error + 2e-4).all()
        assert not found[row][launch > times[event]].any()
        assert found[row].sum() == pytest.approx(0.995, abs=0.005)
    assert found[:6, launch > 0].sum(axis=1).mean() > 0.15 and not found[6:, launch > 0].any()


def test_continuations_come_when_the_user_came(truth: Truth) -> None:
    """What is launched between a user's last two events can only be the last one."""
    launch, times = truth.shop.launch, truth.events["timestamp"] - OPENING
    assert launch is not None
    last = truth.first[1:] - 1
    users = np.flatnonzero(times[last] > 0.95 * YEAR)[:20]
    cuts = np.diff(truth.first)[users] - 2
    one = target_probabilities(truth, users, cuts, np.ones(len(users), np.int64), copies=500)
    two = target_probabilities(truth, users, cuts, np.full(len(users), 2), copies=500)
    between = (launch[None] > times[last[users] - 1][:, None]) & (launch[None] <= times[last[users]][:, None])
    after = launch[None] > times[last[users]][:, None]
    assert between.any() and not one[between].any() and two[between].sum() > 0 and not two[after].any()


def test_events_until_the_end_of_the_stretch(truth: Truth) -> None:
    edges = [OPENING + int(share * YEAR) for share in (0.9, 0.95)]
    rng = np.random.default_rng(0)
    users = rng.integers(0, 150, 200)
    cuts = (1 + rng.random(200) * (np.diff(truth.first)[users] - 1)).astype(np.int64)
    for moments in (edges, []):
        found = truth.events_until(users, cuts, moments)
        for user, cut, number in zip(users, cuts, found, strict=True):
            rest = truth.events["timestamp"][truth.first[user] + cut : truth.first[user + 1]]
            ends = [edge for edge in moments if len(rest) and edge > rest[0]]
            assert number == (rest < ends[0]).sum() if ends else number == len(rest)
    whole = np.diff(truth.first)
    assert not truth.events_until(np.arange(150), whole, edges).any()
