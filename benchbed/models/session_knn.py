"""Session kNN: what else stood in the training sessions that are most like this one."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from torch import Tensor

from benchbed.data.dataset import IntArray, TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import ModelConfig, Recommender
from benchbed.models.sparse import dense, interaction_matrix

FloatArray = NDArray[np.float64]
Weighting = Literal["none", "linear", "share", "quadratic", "log"]

PAIRS_AT_ONCE = 2**21
"""Pairs of a current item and a training session that are looked at together."""


class SessionKNNConfig(ModelConfig):
    """Hyper-parameters of :class:`SessionKNN`.

    Attributes
    ----------
    neighbours
        k, how many of the most similar training sessions vote.
    sample_size
        m, how many of the newest training sessions that share an item are compared at all.
    similarity
        ``cosine`` divides by the root of the number of items in the training session, ``product`` does not.
    weighting
        How much an item of the current session weighs in the similarity, where n events are in the session and b came after
        the item: ``none`` 1, ``linear`` 1 - b/10 (not below 0), ``share`` (n - b)/n, ``quadratic`` its square, ``log``
        1/log10(b + 1.7).
    vote_weighting
        How much a neighbour's vote weighs when the newest item that it shares is the s-th newest event of the session: ``none``
        1, ``linear`` 1 - s/10 (not below 0), ``share`` 1/s, ``quadratic`` 1/s^2, ``log`` 1/log10(s + 1.7).
    rarity
        Votes for an item are multiplied by 1 + rarity * log(sessions / sessions with the item).
    """

    neighbours: int = Field(100, ge=1)
    sample_size: int = Field(1000, ge=1)
    similarity: Literal["cosine", "product"] = "product"
    weighting: Weighting = "share"
    vote_weighting: Weighting = "share"
    rarity: float = Field(0.0, ge=0)


class SessionKNN(Recommender):
    """score(j) = rarity of j * sum of similarity * weight of the vote, over those of the k most similar sessions that hold j.

    Compared are the ``sample_size`` newest training sequences among those that share an item with the current one; newest is
    what began last, as the training sequences are ordered. Among equally similar ones the newer goes first. Repeated items
    count once, at their newest place. A history without known items has no neighbours and scores 0 everywhere.

    Notes
    -----
    In the authors' code ``linear`` weights turn negative, or are zero for whatever stands after the tenth event; here they end
    at 0 and count from the newest event. Their cosine multiplies by a root that it should divide by, for want of a bracket;
    here it divides.

    References
    ----------
    Jannach and Ludewig, RecSys 2017 (SKNN: ``similarity: cosine`` without weights); Ludewig and Jannach, "Evaluation of
    session-based recommendation algorithms", UMUAI 2018 (V-SKNN: ``product`` with weights); the session-rec framework of the
    same authors.
    """

    name = "session_knn"
    Config = SessionKNNConfig
    reference = "SKNN (Jannach and Ludewig, RecSys 2017), V-SKNN (Ludewig and Jannach, UMUAI 2018)."
    needs = frozenset({"sequences"})
    trained_by = "counting"

    def __init__(self, config: SessionKNNConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        self.config = config
        self._events = data.train.items
        self._sessions = sparse.csr_array((0, data.n_items + 1))
        self._newest = _Lists(np.zeros(0, np.int64), np.zeros(data.n_items + 2, np.int64))
        self._lengths = np.zeros(0)

    @classmethod
    def variant(cls, config: ModelConfig) -> str:
        """SKNN or V-SKNN, or neither."""
        assert isinstance(config, SessionKNNConfig)
        weighted = config.weighting != "none", config.vote_weighting != "none" or config.rarity > 0
        if config.similarity == "cosine" and not any(weighted):
            return "SKNN"
        return "V-SKNN" if config.similarity == "product" and weighted[0] else "mixed"

    @property
    def size(self) -> int:
        """Items of all training sessions."""
        return int(self._sessions.nnz)

    def fit(self) -> None:
        """Keep the sessions, and for every item the newest ones that hold it."""
        met = interaction_matrix(self._events, self.n_items)
        self._lengths = np.diff(met.indptr).astype(np.float64)
        by_item = met.tocsc()
        by_item.sort_indices()
        # A session among the newest m that share any item is among the newest m of each item that it shares.
        counts = np.diff(by_item.indptr)
        place = np.arange(by_item.nnz) - np.repeat(by_item.indptr[:-1], counts)
        kept = place >= np.repeat(counts - self.config.sample_size, counts)
        offsets = np.concatenate([[0], np.cumsum(np.minimum(counts, self.config.sample_size))])
        self._newest = _Lists(by_item.indices[kept].astype(np.int64), offsets)
        rarity = 1.0 + self.config.rarity * np.log(max(1, met.shape[0]) / np.maximum(counts, 1))
        self._sessions = sparse.csr_array(met @ sparse.diags_array(rarity))

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        """See :meth:`Recommender.scores`."""
        votes = sparse.csr_array(self.votes(histories) @ self._sessions)
        return dense(votes, items, histories.device)

    def votes(self, histories: Histories) -> sparse.csr_array:
        """(B, sessions) weights of the neighbours of each history."""
        known = histories.known()
        lengths = known.lengths.cpu().numpy()
        row, item, back = _newest_places(known.rows.cpu().numpy(), known.items.cpu().numpy(), lengths)
        weight = _weights(self.config.weighting, back, lengths[row])
        cost = np.cumsum(np.bincount(row, self._newest.lengths[item], len(lengths)))
        found, start = [_NOBODY], 0
        while start < len(lengths):
            limit = (cost[start - 1] if start else 0.0) + PAIRS_AT_ONCE
            stop = max(start + 1, int(np.searchsorted(cost, limit, side="right")))
            own = slice(*np.searchsorted(row, [start, stop]))
            found.append(self._neighbours(row[own], item[own], back[own], weight[own]))
            start = stop
        query, session, value = (np.concatenate(part) for part in zip(*found, strict=True))
        return sparse.csr_array((value, (query, session)), shape=(len(lengths), len(self._lengths)))

    def _neighbours(
        self, row: IntArray, item: IntArray, back: IntArray, weight: FloatArray
    ) -> tuple[IntArray, IntArray, FloatArray]:
        """The neighbours of some histories: (N,) history, session and weight of the vote."""
        session, source = self._newest.of(item)
        if len(session) == 0:
            return _NOBODY
        key = row[source] * len(self._lengths) + session
        order = np.argsort(key, kind="stable")
        key, source = key[order], source[order]
        first = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        query, session = np.divmod(key[first], len(self._lengths))
        likeness = np.add.reduceat(weight[source], first)
        step = np.minimum.reduceat(back[source], first) + 1
        if self.config.similarity == "cosine":
            likeness = likeness / np.sqrt(self._lengths[session])
        newest = _place_from_end(query) < self.config.sample_size
        query, session, likeness, step = (part[newest] for part in (query, session, likeness, step))
        # Sums of the same weights in another order differ in their last digits, and are equal all the same.
        order = np.lexsort((-session, -np.round(likeness, 10), query))
        order = order[_place(query) < self.config.neighbours]
        vote = likeness[order] * _vote_weights(self.config.vote_weighting, step[order])
        return query[order], session[order], vote


_NOBODY: tuple[IntArray, IntArray, FloatArray] = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


class _Lists:
    """Lists of sessions, one an item, end to end."""

    def __init__(self, values: IntArray, offsets: IntArray) -> None:
        self.values, self.offsets = values, offsets
        self.lengths: IntArray = np.diff(offsets)

    def of(self, items: IntArray) -> tuple[IntArray, IntArray]:
        """The sessions of all these items, and which of the items each comes from."""
        lengths = self.lengths[items]
        source = np.repeat(np.arange(len(items)), lengths)
        start = np.cumsum(lengths) - lengths
        return self.values[np.arange(len(source)) - start[source] + self.offsets[items][source]], source


def _newest_places(rows: IntArray, items: IntArray, lengths: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Each item of each row once, row after row: row, item, and how many events came after its newest one."""
    ends = np.cumsum(lengths)
    after = ends[rows] - 1 - np.arange(len(rows))
    width = int(items.max(initial=0)) + 1
    keys, last = np.unique((rows * width + items)[::-1], return_index=True)
    return keys // width, keys % width, after[::-1][last]


def _weights(kind: Weighting, back: IntArray, length: IntArray) -> FloatArray:
    """Of items of the current session, ``back`` events before the newest of ``length``."""
    share: FloatArray = (length - back) / length
    return _decayed(kind, share, back)


def _vote_weights(kind: Weighting, step: IntArray) -> FloatArray:
    """Of neighbours whose newest shared item is the ``step``-th newest."""
    return _decayed(kind, 1.0 / step, step)


def _decayed(kind: Weighting, share: FloatArray, distance: IntArray) -> FloatArray:
    weights: dict[Weighting, FloatArray] = {
        "none": np.ones(len(share)),
        "linear": np.maximum(0.0, 1.0 - distance / 10),
        "share": share,
        "quadratic": share**2,
        "log": 1.0 / np.log10(distance + 1.7),
    }
    return weights[kind]


def _place(groups: IntArray) -> IntArray:
    """Place of each number (none is negative) within its run of equal ones, from 0."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))


def _place_from_end(groups: IntArray) -> IntArray:
    """The same, counted from the end of the run."""
    return _place(groups[::-1])[::-1]
