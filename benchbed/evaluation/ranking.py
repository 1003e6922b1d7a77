"""Full ranking in blocks on the device: scores -> mask -> ranks of the targets, and the first items of the list.

The other modes of a protocol, which look at listed items alone, are those of :mod:`benchbed.evaluation.listed`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchbed.data.dataset import Cases, IntArray, Ragged
from benchbed.data.histories import CaseHistories, Histories
from benchbed.errors import ModelError
from benchbed.evaluation.averages import mean_over
from benchbed.evaluation.diversity import Variety
from benchbed.evaluation.listed import LabelledCases, LabelledRows, ListedCases
from benchbed.evaluation.metrics import FloatArray, metric_values
from benchbed.evaluation.protocol import Protocol, parse_column
from benchbed.evaluation.refining import refine
from benchbed.evaluation.scoring import BLOCK_ROWS, CoarseScorer, CoarseScores, NanScores, Proposer, Scorer, block_scores

__all__ = ["Evaluator", "NanScores", "RankedCases", "Scorer"]

BLOCK_NUMBERS = 2**22
"""Scores in one block on a processor; a GPU takes 16 times as many."""


@dataclass(frozen=True)
class RankedCases:
    """Where a model put the targets of every case.

    Attributes
    ----------
    ranks
        One row a case, aligned with its targets: rank from 1 among the candidates, 0 for a target outside them. Empty rows
        where labelled rows are told apart.
    top_items, top_scores
        (n_cases, n) the head of every list, or None when it was not asked for; item 0 pads a list shorter than n.
    constant
        Cases whose candidates all got the same score.
    labelled
        With ``mode: click_through`` what became of the labelled rows; else None.
    """

    ranks: Ragged
    top_items: IntArray | None
    top_scores: FloatArray | None
    constant: int
    labelled: LabelledRows | None = None


class Evaluator:
    """Evaluates a fixed set of cases, again and again.

    Cases, and everything derived from them, move to the device once; long histories run after run (:class:`CaseHistories`).

    Parameters
    ----------
    cases
        Histories and targets; targets of a case are distinct.
    n_items
        Number of candidates.
    protocol
        ``mode`` decides what is compared, ``seen_items`` the mask, ``seed`` the order of items with equal scores.
    device
        Where the scores are made.

    Raises
    ------
    DataError
        The protocol compares listed items, and the cases list none, or none of one label.
    """

    def __init__(self, cases: Cases, n_items: int, protocol: Protocol, device: str | torch.device = "cpu") -> None:
        self.cases, self.n_items, self.protocol = cases, n_items, protocol
        self.device = torch.device(device)
        self.histories = CaseHistories(cases.users, cases.histories, self.device)
        self.targets = torch.as_tensor(cases.targets.values, dtype=torch.int64).to(self.device)
        self.one_target = bool((cases.targets.lengths == 1).all())
        self.target_rows = torch.as_tensor(cases.targets.row_of_value, dtype=torch.int64).to(self.device)
        order = np.random.Generator(np.random.Philox(protocol.seed)).permutation(n_items) + 1
        place = np.zeros(n_items + 1, dtype=np.int64)
        place[order] = np.arange(1, n_items + 1)
        self.tie_place = torch.as_tensor(place).to(self.device)  # the smaller place wins a tie
        self.turn = 0  # of coarse rankings: each looks at other rows in full
        self.listed: ListedCases | None = None
        if protocol.mode == "sampled":
            self.listed = ListedCases(cases)
        elif protocol.mode == "click_through":
            self.listed = LabelledCases(cases, drop_unknown=protocol.unknown_targets == "drop")

    @torch.inference_mode()
    def rank(self, model: Scorer, top: int = 0, variety: Variety | None = None, *, coarse: bool = False) -> RankedCases:
        """Score every case and rank its targets, or judge its labelled rows.

        Parameters
        ----------
        model
            What scores.
        top
            Length of the lists to keep; where listed items alone are compared there are none.
        variety
            Gets the lists of every block, for re-ranking; ``top`` must be its cutoff at least.
        coarse
            Begin with coarse scores, of a model that has them (:class:`CoarseScorer`). Ranks up to the largest cutoff are
            those of exact scores, as far as :mod:`benchbed.evaluation.refining` can tell; further ones are not.

        Raises
        ------
        NanScores
            A score is NaN.
        ModelError
            The scores have the wrong shape.
        """
        if self.listed is not None:
            return self._compare_listed(model, self.listed)
        self.turn += coarse
        size = BLOCK_NUMBERS * (16 if self.device.type == "cuda" else 1)
        step = min(BLOCK_ROWS, max(1, size // (self.n_items + 1)))
        ranks: list[Tensor] = []
        heads: list[tuple[Tensor, Tensor]] = []
        constant = torch.zeros((), dtype=torch.int64, device=self.device)
        for first, start, block, rough, give in self._blocks(model, step, coarse=coarse):
            stop = start + len(block)
            scores = self._refined(model.name, rough, block, start, top) if rough else None
            if scores is None:
                scores = self._candidate_scores(model.name, give(start, stop), block)
            constant += self._constant(scores, block)
            low, high = (int(self.cases.targets.offsets[first + edge]) for edge in (start, stop))
            ranks.append(self._ranks(scores, self.target_rows[low:high] - first - start, self.targets[low:high]))
            if top:
                heads.append(self._head(scores, min(top, self.n_items)))
                if variety is not None:
                    variety.add(heads[-1][0], *self._pool(model, block, scores, heads[-1], variety.said.cutoff))
        flat = torch.cat(ranks) if ranks else torch.zeros(0, dtype=torch.int64)
        return RankedCases(
            Ragged(flat.cpu().numpy(), self.cases.targets.offsets),
            torch.cat([items for items, _ in heads]).cpu().numpy() if heads else None,
            torch.cat([scores for _, scores in heads]).double().cpu().numpy() if heads else None,
            int(constant),
        )

    def evaluate(self, model: Scorer) -> dict[str, float]:
        """Means of every column of the protocol, over users or cases as it says; without those that the model does not have."""
        return self.means(self.rank(model))

    def means(self, ranked: RankedCases) -> dict[str, float]:
        """Means of what :meth:`rank` gave."""
        if ranked.labelled is not None:
            return {
                name: float(value.mean()) for name, value in ranked.labelled.values.items() if name in self.protocol.metrics
            }
        values = metric_values(ranked.ranks, self.protocol.columns, self.cases.repeats)
        average = self.protocol.average
        return {column: mean_over(value, self.cases.users, average) for column, value in values.items()}

    def _blocks(
        self, model: Scorer, step: int, *, coarse: bool
    ) -> Iterator[tuple[int, int, Histories, CoarseScores | None, Callable[[int, int], Tensor]]]:
        """Blocks of ``step`` cases at most: the first case of the run, the place of the first of the block in it, their
        histories, and what gives scores of the run by places."""
        for first, last, histories in self.histories.runs():
            rough = model.coarse_scores(histories) if coarse and isinstance(model, CoarseScorer) else None
            give = rough.exact if rough else block_scores(model, histories)
            for start in range(0, last - first, step):
                yield first, start, histories.block(start, min(start + step, last - first)), rough, give

    def _compare_listed(self, model: Scorer, listed: ListedCases) -> RankedCases:
        if isinstance(listed, LabelledCases):
            rows, constant = listed.rows(model, self.histories, logits=bool(getattr(model, "logits", False)))
            empty = Ragged(np.zeros(0, np.int64), np.zeros(len(self.cases) + 1, np.int64))
            return RankedCases(empty, None, None, constant, rows)
        ranks, constant = listed.ranks(model, self.histories, self.tie_place.cpu().numpy())
        return RankedCases(ranks, None, None, constant)

    def _candidate_scores(self, name: str, given: Tensor, block: Histories) -> Tensor:
        """Scores with -inf at padding and, where the protocol excludes them, at seen items; all others finite."""
        if given.shape != (len(block), self.n_items + 1):
            raise ModelError(f"{name} gave scores of shape {tuple(given.shape)}, not {(len(block), self.n_items + 1)}.")
        given = given.to(self.device, torch.float32)
        # A NaN or an infinite score shows in the largest or the smallest of its row: far cheaper than a look at each.
        edges = torch.stack([given[:, 1:].amax(1), given[:, 1:].amin(1)])
        if bool(edges.isnan().any()):
            raise NanScores(f"{name} gave NaN scores; a ranking of them would mean nothing.")
        limit = torch.finfo(torch.float32).max
        # Infinite scores stay distinct from masked ones. A copy in any case: the model may keep what it gave.
        scores = given.clone() if bool(edges.isfinite().all()) else given.clamp(-limit, limit)
        scores[:, 0] = -torch.inf
        if self.protocol.seen_items == "exclude":
            scores[block.rows, block.items] = -torch.inf
        return scores

    def _refined(self, name: str, rough: CoarseScores, block: Histories, start: int, top: int) -> Tensor | None:
        """Scores of a block that are exact where they decide; None where too many of them do."""
        scores = self._candidate_scores(name, rough.coarse(start, start + len(block)), block)
        places = max(top, *(parse_column(column)[1] for column in self.protocol.columns))
        return scores if refine(scores, rough, start, places, self.turn) else None

    def _constant(self, scores: Tensor, block: Histories) -> Tensor:
        """Number of rows whose candidates all have the same score."""
        largest = scores.amax(1)
        if self.protocol.seen_items == "keep":
            return (largest <= scores[:, 1:].amin(1)).sum()
        rows = block.rows
        scores[rows, block.items] = torch.inf
        smallest = scores[:, 1:].amin(1)
        scores[rows, block.items] = -torch.inf
        return (largest <= smallest).sum()

    def _ranks(self, scores: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        """1 + number of candidates ahead of each target; equal scores are in the order of the tie places."""
        ranks = torch.zeros_like(targets)
        chunk = max(1, scores.numel() // (self.n_items + 1))
        for start in range(0, len(targets), chunk):
            row, target = rows[start : start + chunk], targets[start : start + chunk]
            own = scores[row, target][:, None]
            lines = scores if self.one_target else scores[row]
            ahead = _count(lines > own)
            tied = _count(lines == own) > 1
            if bool(tied.any()):
                which = tied.nonzero().squeeze(1)
                before = self.tie_place < self.tie_place[target[which]][:, None]
                ahead[which] += ((lines[which] == own[which]) & before).sum(1)
            ranks[start : start + chunk] = torch.where(own.squeeze(1) > -torch.inf, ahead + 1, 0)
        return ranks

    def _head(self, scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """The first n items of every list and their scores, ties in the order of the tie places."""
        values, items = scores.topk(n, dim=1)
        by_place = self.tie_place[items].argsort(dim=1)
        values, items = values.gather(1, by_place), items.gather(1, by_place)
        values, by_score = values.sort(dim=1, descending=True, stable=True)
        items = items.gather(1, by_score)
        cut_in_tie = ((scores >= values[:, -1:]).sum(1) > n).nonzero().squeeze(1)
        if len(cut_in_tie):  # topk chose among equals by itself: sort these rows whole
            columns = self.tie_place.argsort()
            whole, order = scores[cut_in_tie][:, columns].sort(dim=1, descending=True, stable=True)
            values[cut_in_tie], items[cut_in_tie] = whole[:, :n], columns[order[:, :n]]
        listed = values > -torch.inf
        return torch.where(listed, items, 0), torch.where(listed, values, torch.nan)

    def _pool(
        self, model: Scorer, block: Histories, scores: Tensor, head: tuple[Tensor, Tensor], n: int
    ) -> tuple[Tensor, Tensor]:
        """What re-ranked lists are made of, best first: the first n and what the model proposes, else the head."""
        if not isinstance(model, Proposer):
            return head
        proposed = model.candidates(block, n, exclude_seen=self.protocol.seen_items == "exclude")
        items = torch.cat([head[0][:, :n], proposed.to(self.device)], dim=1).sort(dim=1).values
        items[:, 1:] = items[:, 1:].masked_fill(items[:, 1:] == items[:, :-1], 0)
        items = items.gather(1, self.tie_place[items].argsort(dim=1))
        values, by_score = scores.gather(1, items).sort(dim=1, descending=True, stable=True)
        return items.gather(1, by_score).masked_fill(values == -torch.inf, 0), values


def _count(flags: Tensor) -> Tensor:
    """(rows,) number of true flags. As bytes: summing flags as such takes more than twice the time on a processor."""
    return flags.view(torch.uint8).sum(1, dtype=torch.int32).to(torch.int64)
