"""The ceiling: ranking by the true probability of being among the targets, given the planted state at the cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchbed.data.simulate.log import OPENING, generator
from benchbed.data.simulate.shop import Ints, Shop
from benchbed.data.simulate.visitors import ANCHORS, Schedule, Taken, Visitors, walk
from benchbed.errors import DataError

COPIES = 500
"""Simulated continuations of every case, at least: the standard error of a probability of one tenth is then 0.013."""
ROWS = 32_768
"""Continuations walked at once."""


@dataclass(frozen=True)
class Truth:
    """The planted truth of one simulated shop.

    Attributes
    ----------
    shop
        Its items, in the numbering of the simulator; ``shop.ids`` gives the raw ids.
    users
        Raw id -> number of the user.
    first
        Number of the first event of each user in ``events``, then the number of events.
    maker
        Preferred makers of each user.
    events
        The columns of ``truth.parquet`` that a state is made of, and ``timestamp`` and ``opened_session``.
    """

    shop: Shop
    users: dict[str, int]
    first: Ints
    maker: Ints
    events: dict[str, NDArray[Any]]

    def state(self, users: Ints, cuts: Ints) -> Visitors:
        """The planted state of each user after their first ``cuts`` events.

        Raises
        ------
        DataError
            A cut lies outside the user's events.
        """
        lengths = np.diff(self.first)[users]
        if np.any((cuts < 1) | (cuts > lengths)):
            raise DataError("a cut must lie between 1 and the number of the user's events")
        begin, last = self.first[users], self.first[users] + cuts - 1
        back = last[:, None] - np.arange(ANCHORS)
        recent = np.where(back >= begin[:, None], self.events["item"][np.maximum(back, 0)], -1)
        seen = np.zeros((len(users), len(self.shop)), dtype=np.bool_)
        rows = np.repeat(np.arange(len(users)), cuts)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(cuts) - cuts, cuts)
        seen[rows, self.events["item"][begin[rows] + within]] = True
        columns = {name: self.events[name][last].astype(np.int64) for name in ("interests", "topic")}
        return Visitors(self.maker[users], columns["interests"], self.events["logits"][last], columns["topic"], recent, seen)

    def schedule(self, users: Ints, cuts: Ints) -> Schedule | None:
        """When each user came after their first ``cuts`` events; None where time has no influence on what is taken."""
        if self.shop.launch is None:
            return None
        return Schedule(self.first[users] + cuts, self.events["opened_session"], self.events["timestamp"] - OPENING)

    def events_until(self, users: Ints, cuts: Ints, edges: Sequence[int]) -> Ints:
        """How many events follow the first ``cuts`` of each user in the stretch of the next one.

        Parameters
        ----------
        users, cuts
            For each case: number of the user, events before the cut.
        edges
            Moments that divide time into stretches; without any, all events that the user has left follow.
        """
        begin, end = self.first[users] + cuts, self.first[users + 1]
        times = self.events["timestamp"]
        following = times[np.minimum(begin, len(times) - 1)]
        ordered = np.sort(np.asarray(edges, dtype=np.int64))
        until = np.append(ordered, np.iinfo(np.int64).max)[np.searchsorted(ordered, following, side="right")]
        row, within = np.repeat(np.arange(len(users)), end - begin), np.arange(int((end - begin).sum()))
        within -= np.repeat(np.cumsum(end - begin) - (end - begin), end - begin)
        inside = times[begin[row] + within] < until[row]
        return np.bincount(row[inside], minlength=len(users))


def read_truth(folder: Path) -> Truth:
    """Read what :func:`~benchbed.data.simulate.write_raw` planted.

    Raises
    ------
    DataError
        The folder holds no planted truth.
    """
    missing = [n for n in ("truth", "truth_users", "truth_items") if not (folder / f"{n}.parquet").is_file()]
    if missing:
        raise DataError(f"{folder} holds no {missing[0]}.parquet: only simulated data have a planted truth")
    there = pq.read_schema(folder / "truth_items.parquet").names
    goods = _columns(folder / "truth_items.parquet", [name for name in Shop.__dataclass_fields__ if name in there])
    people = _columns(folder / "truth_users.parquet", ["user", "events", "maker"])
    names = ["topic", "interests", "logits", "timestamp", "opened_session"]
    table = pq.read_table(folder / "truth.parquet", columns=["item", *names])
    events = {name: _plain(table[name].combine_chunks()) for name in names}
    # the dictionary of truth.parquet is in the simulator's numbering, but Parquet may reorder it: go by id
    number = {item: index for index, item in enumerate(goods["ids"].tolist())}
    codes = table["item"].combine_chunks()
    lookup = np.array([number[item] for item in codes.dictionary.to_pylist()], dtype=np.int64)
    events["item"] = lookup[codes.indices.to_numpy(zero_copy_only=False)]
    users = {user: index for index, user in enumerate(people["user"].tolist())}
    first = np.concatenate([np.zeros(1, np.int64), np.cumsum(people["events"])])
    return Truth(Shop(**goods), users, first, people["maker"], events)


def _columns(path: Path, names: list[str]) -> dict[str, NDArray[Any]]:
    table = pq.read_table(path, columns=names)
    return {name: _plain(table[name].combine_chunks()) for name in names}


def _plain(column: Any) -> NDArray[Any]:
    """A column as an array; lists of fixed size become a second axis."""
    if hasattr(column.type, "list_size"):
        flat: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(-1, column.type.list_size)
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values.astype(str) if values.dtype == object else values


def target_probabilities(
    truth: Truth, users: Ints, cuts: Ints, targets: Ints, *, copies: int = COPIES, seed: int = 0
) -> NDArray[np.float32]:
    """How likely each item is to be among the next events of each user.

    Every case is continued ``copies`` times from its planted state; the share of continuations that hold an item is its
    probability. Items taken before the cut have probability 0. In a shop with launches a continuation comes when the user came
    (the times of the events after the cut, not the events), because what can be taken depends on it.

    Parameters
    ----------
    truth
        Of the simulated shop.
    users, cuts, targets
        For each case: number of the user, events before the cut, events after it to be ranked for.
    copies
        Continuations of each case.
    seed
        Of the continuations; independent of the log whatever it is.

    Returns
    -------
    array of shape (cases, items)
        In the numbering of ``truth.shop``.
    """
    shares = np.zeros((len(users), len(truth.shop)), dtype=np.float32)
    order = np.argsort(-targets, kind="stable")
    cases_at_once = max(1, ROWS // copies)
    for block, start in enumerate(range(0, len(order), cases_at_once)):
        cases = order[start : start + cases_at_once]
        shares[cases] = _continue(truth, users[cases], cuts[cases], targets[cases], copies, generator(seed, 5, block))
    return shares


def _continue(
    truth: Truth, users: Ints, cuts: Ints, targets: Ints, copies: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    case = np.repeat(np.arange(len(users)), copies)
    start = truth.state(users, cuts)
    visitors = start.view(case)

    def nothing(number: int, taken: Taken, state: Visitors) -> None:
        """The state keeps what was taken; no step needs noting."""

    schedule = truth.schedule(users[case], cuts[case])
    walk(truth.shop, visitors, targets[case], rng, nothing, schedule)
    held = visitors.seen.reshape(len(users), copies, -1).mean(axis=1, dtype=np.float32)
    shares: NDArray[np.float32] = np.where(start.seen, np.float32(0), held)
    return shares
