"""Evaluation of listed items alone: targets among their negatives, and labelled rows that are told apart.

Numbers made here depend on the lists. They are comparable with numbers of the same lists, and with no full ranking.

The area under the curve is that of all rows together (pooled), not a mean over users. It is the mean of the rows' placement
values [1]: of a positive row the share of negatives below it, of a negative row the share of positives above it. What tells how
sure it is are the rows' influence values: a placement's distance from the area, times what one over the share of its label is.
Their mean is the area, and their variance over users is that of an area under the curve of clustered rows [2]; the placements
themselves vary half as much as they should where labels are balanced.

References
----------
[1] E. DeLong, D. DeLong, D. Clarke-Pearson. Comparing the areas under two or more correlated receiver operating characteristic
curves: a nonparametric approach. Biometrics 44 (1988).
[2] N. Obuchowski. Nonparametric analysis of clustered ROC curve data. Biometrics 53 (1997).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchbed.data.dataset import Cases, IntArray, Ragged
from benchbed.data.histories import CaseHistories
from benchbed.errors import DataError, ModelError
from benchbed.evaluation.metrics import FloatArray
from benchbed.evaluation.scoring import BLOCK_ROWS, NanScores, Scorer, pair_scores

BLOCK_PAIRS = 2**18
"""Pairs of a history and an item that a processor scores at once, for a model may hold two vectors of each. A GPU takes 16
times as many; a single case may have more."""

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class ListedBlock:
    """The pairs of some cases that follow one another, end to end: of each case its targets first, then its negatives.

    Attributes
    ----------
    targets, others
        Of these cases.
    offsets
        (n_cases + 1,) where each case begins.
    owner, items, is_target
        (n_pairs,) the place of each pair's case in the block, its item, and whether it is a target.
    """

    targets: Ragged
    others: Ragged
    offsets: IntArray
    owner: IntArray
    items: IntArray
    is_target: BoolArray

    @classmethod
    def of(cls, targets: Ragged, others: Ragged) -> ListedBlock:
        """Two lists of items for each case."""
        lengths = targets.lengths + others.lengths
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        owner = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
        is_target: BoolArray = np.arange(len(owner)) - offsets[owner] < targets.lengths[owner]
        items = np.empty(len(owner), np.int64)
        items[is_target], items[~is_target] = targets.values, others.values
        return cls(targets, others, offsets, owner, items, is_target)

    def constant(self, scores: FloatArray) -> int:
        """Cases with two candidates or more that all got the same score."""
        if len(scores) == 0:
            return 0
        known = self.items > 0
        starts = self.offsets[:-1][np.diff(self.offsets) > 0]
        highest = np.maximum.reduceat(scores, starts)
        lowest = np.minimum.reduceat(np.where(known, scores, np.inf), starts)
        several = np.add.reduceat(known.astype(np.int64), starts) > 1
        return int(((highest <= lowest) & several).sum())

    def ranks(self, scores: FloatArray, tie_place: IntArray) -> IntArray:
        """Rank of every target among the negatives of its case and its other targets; see :meth:`ListedCases.ranks`."""
        targets = self.targets
        own = scores[self.is_target]
        order = np.lexsort((tie_place[targets.values], -own, targets.row_of_value))
        among = np.empty(len(own), np.int64)  # place among the targets of the case, from 0
        among[order] = np.arange(len(own)) - np.repeat(targets.offsets[:-1], targets.lengths)
        ranks = 1 + among + at_least(own, targets.row_of_value, scores[~self.is_target], self.others.offsets)
        return np.where(targets.values > 0, ranks, 0)


class ListedCases:
    """Cases whose targets are compared with listed negatives, scored and judged block by block.

    Parameters
    ----------
    cases
        With ``others``.

    Raises
    ------
    DataError
        The cases list no negatives.
    """

    def __init__(self, cases: Cases) -> None:
        if cases.others is None:
            raise DataError(
                "These cases list no negatives, so there is nothing to compare their targets with.",
                advice="Take `evaluation.mode: full`, or a split and a dataset card that give negatives.",
            )
        self.cases, self.others = cases, cases.others
        self.ends: IntArray = np.cumsum(cases.targets.lengths + self.others.lengths)

    def block(self, start: int, stop: int) -> ListedBlock:
        """The pairs of the cases from ``start`` to before ``stop``."""
        rows = np.arange(start, stop)
        return ListedBlock.of(self.cases.targets.take(rows), self.others.take(rows))

    def blocks(self, pairs: int, histories: CaseHistories) -> Iterator[tuple[int, int]]:
        """Cases that follow one another, with at most so many pairs, of one run of histories; a longer case stands alone."""
        start = 0
        for _, last in histories.bounds:
            while start < last:
                before = int(self.ends[start - 1]) if start else 0
                stop = int(np.searchsorted(self.ends, before + pairs, side="right"))
                stop = min(max(stop, start + 1), start + BLOCK_ROWS, last)
                yield start, stop
                start = stop

    def scored(self, model: Scorer, histories: CaseHistories) -> Iterator[tuple[ListedBlock, FloatArray]]:
        """Blocks of pairs with their scores; -inf for an item outside the candidates, all others finite.

        Raises
        ------
        NanScores
            A score is NaN.
        ModelError
            The scores have the wrong shape.
        """
        limit = torch.finfo(torch.float32).max
        for start, stop in self.blocks(BLOCK_PAIRS * (16 if histories.device.type == "cuda" else 1), histories):
            block = self.block(start, stop)
            found = np.full(len(block.items), -np.inf)
            known = np.flatnonzero(block.items)
            if len(known):
                owner, items = (torch.as_tensor(each[known]).to(histories.device) for each in (block.owner, block.items))
                given = pair_scores(model, histories.block(start, stop), owner, items)
                if given.shape != (len(known),):
                    raise ModelError(f"{model.name} gave scores of shape {tuple(given.shape)}, not {(len(known),)}.")
                numbers = given.to(torch.float32)
                if bool(numbers.isnan().any()):
                    raise NanScores(f"{model.name} gave NaN scores; a comparison of them would mean nothing.")
                found[known] = numbers.clamp(-limit, limit).double().cpu().numpy()
            yield block, found

    def ranks(self, model: Scorer, histories: CaseHistories, tie_place: IntArray) -> tuple[Ragged, int]:
        """Rank of every target among the negatives of its case and its other targets. No more than a block is held at once.

        Parameters
        ----------
        model
            Scores the pairs.
        histories
            Of the cases.
        tie_place
            (n_items + 1,) places of items by which targets with equal scores are ordered. Negatives with the score of a target
            are ahead of it.

        Returns
        -------
        Ragged
            One row a case; 0 for a target outside the candidates.
        int
            Cases with two candidates or more that all got the same score.
        """
        ranks, constant, start = np.zeros(len(self.cases.targets.values), np.int64), 0, 0
        for block, scores in self.scored(model, histories):
            ranks[start : start + len(block.targets.values)] = block.ranks(scores, tie_place)
            start += len(block.targets.values)
            constant += block.constant(scores)
        return Ragged(ranks, self.cases.targets.offsets), constant


def at_least(own: FloatArray, rows: IntArray, pool: FloatArray, offsets: IntArray) -> IntArray:
    """How many values of its row of the pool are not below each of the given ones.

    Parameters
    ----------
    own, rows
        (N,) values and the row of each.
    pool, offsets
        Rows of values, end to end.

    Examples
    --------
    >>> at_least(np.array([0.5, 2.0]), np.array([0, 0]), np.array([0.9, 0.5, 0.5, 0.1]), np.array([0, 4])).tolist()
    [3, 0]
    """
    lengths = np.diff(offsets)[rows]
    ends = np.cumsum(lengths)
    found = np.zeros(len(own), np.int64)
    start = 0
    while start < len(own):
        before = int(ends[start] - lengths[start])
        stop = max(start + 1, int(np.searchsorted(ends, before + BLOCK_PAIRS, side="right")))
        sizes = lengths[start:stop]
        edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        place = np.repeat(offsets[rows[start:stop]] - edges[:-1], sizes) + np.arange(edges[-1])
        counts = np.concatenate([np.zeros(1, np.int64), np.cumsum(pool[place] >= np.repeat(own[start:stop], sizes))])
        found[start:stop] = counts[edges[1:]] - counts[edges[:-1]]
        start = stop
    return found


@dataclass(frozen=True)
class LabelledRows:
    """What a model made of labelled rows, one entry of each array a row.

    Attributes
    ----------
    users, items, labels, scores
        The row: 1 for an event, 0 for a drawn negative.
    placement
        Share of the negatives below a positive row, or of the positives above a negative one; ties count half.
    auc
        Influence values; their mean is the pooled area under the curve.
    accuracy
        Whether the row is on its label's side of probability 1/2; None for scores that are no logits.
    """

    users: IntArray
    items: IntArray
    labels: IntArray
    scores: FloatArray
    placement: FloatArray
    auc: FloatArray
    accuracy: FloatArray | None

    @property
    def values(self) -> dict[str, FloatArray]:
        """The metrics that are known, by column."""
        return {"auc": self.auc} | ({} if self.accuracy is None else {"accuracy": self.accuracy})


class LabelledCases(ListedCases):
    """The labelled rows of cases: targets are positives, listed items are negatives.

    Parameters
    ----------
    cases
        With ``others``; a case may have no targets.
    drop_unknown
        Leave out rows of items outside the candidates. Otherwise these stand below all others.

    Raises
    ------
    DataError
        The cases list no negatives, or no row of one of the labels is left.
    """

    def __init__(self, cases: Cases, *, drop_unknown: bool) -> None:
        super().__init__(cases)
        self.drop_unknown = drop_unknown
        for name, rows in (("positive", cases.targets), ("negative", self.others)):
            if len(cases) and not (bool((rows.values > 0).any()) if drop_unknown else len(rows.values)):
                raise DataError(
                    f"A part of this split has no {name} rows, so there is nothing to tell apart.",
                    advice="Take other `split` settings, or a larger log.",
                )

    def rows(self, model: Scorer, histories: CaseHistories, *, logits: bool) -> tuple[LabelledRows, int]:
        """Score the rows and judge them, all together.

        Parameters
        ----------
        model
            Scores the pairs.
        histories
            Of the cases.
        logits
            The sigmoid of a score is a probability.

        Returns
        -------
        LabelledRows
            In the order of the cases, positives first.
        int
            Cases with two candidates or more that all got the same score.
        """
        parts, constant = [], 0
        for block, found in self.scored(model, histories):
            parts.append(found)
            constant += block.constant(found)
        whole = self.block(0, len(self.cases))
        kept = np.flatnonzero(whole.items > 0) if self.drop_unknown else np.arange(len(whole.items))
        scores = np.concatenate([np.zeros(0), *parts])[kept]
        labels = whole.is_target[kept].astype(np.int64)
        placement, influence = placements(labels, scores)
        judged = LabelledRows(
            users=self.cases.users[whole.owner[kept]],
            items=whole.items[kept],
            labels=labels,
            scores=scores,
            placement=placement,
            auc=influence,
            accuracy=((scores >= 0) == (labels == 1)).astype(np.float64) if logits else None,
        )
        return judged, constant


def placements(labels: IntArray, scores: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Placement and influence values of labelled rows.

    Parameters
    ----------
    labels
        (N,) 0 or 1, both there.
    scores
        (N,) numbers or infinities.

    Returns
    -------
    tuple of FloatArray
        The mean of the first over the rows of either label, and the mean of the second over all rows, is the area under the
        curve.

    Examples
    --------
    >>> values = placements(np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.4, 0.4, 0.2, 0.5]))
    >>> values[0].tolist(), round(float(values[1].mean()), 10)
    ([1.0, 0.8333333333333334, 0.75, 1.0, 1.0], 0.9166666667)
    """
    positive = labels == 1
    placement = np.empty(len(labels))
    for mine, sign in ((positive, 1.0), (~positive, -1.0)):  # a negative row is well placed below
        others = np.sort(sign * scores[~mine])
        own = sign * scores[mine]
        below = np.searchsorted(others, own, side="left") + np.searchsorted(others, own, side="right")
        placement[mine] = below / (2.0 * len(others))
    area = float(placement[positive].mean())
    share = float(positive.mean())
    return placement, area + (placement - area) / np.where(positive, share, 1.0 - share)
