"""What evaluation asks of a model, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

from benchbed.data.histories import Histories
from benchbed.errors import ModelError

BLOCK_ROWS = 2**14
"""Most histories in one block: with few items it is the encoding of histories that fills the memory, not their scores."""


class NanScores(ModelError):
    """A model gave scores that are no numbers."""


class Scorer(Protocol):
    """A model: the least that is asked of it."""

    @property
    def name(self) -> str:
        """As in benchmark files."""
        ...

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        """(B, n_items + 1) scores."""
        ...


@runtime_checkable
class Proposer(Protocol):
    """A model that says itself what re-ranked lists are made of, such as the first items of each of a user's interests."""

    def candidates(self, histories: Histories, n: int, *, exclude_seen: bool = False) -> Tensor:
        """(B, M) items, n or more for each of the ways in which it looks at a user; 0 for none."""
        ...


@runtime_checkable
class BlockScorer(Protocol):
    """A model that does once what all blocks of histories need, as :class:`benchbed.models.base.Recommender` can."""

    def block_scores(self, histories: Histories) -> Callable[[int, int], Tensor]:
        """Scores for the histories from one number to another."""
        ...


@runtime_checkable
class PairScorer(Protocol):
    """A model that scores single items, as :class:`benchbed.models.base.Recommender` does."""

    def pair_scores(self, histories: Histories, owner: Tensor, items: Tensor) -> Tensor:
        """(P,) scores of ``items[p]`` for the history ``owner[p]``."""
        ...


class CoarseScores(Protocol):
    """Scores of a few digits, and the means to have them in full."""

    def coarse(self, start: int, stop: int) -> Tensor:
        """Coarse scores of all items for the histories from one number to another."""
        ...

    def exact(self, start: int, stop: int) -> Tensor:
        """The same in full, those of :func:`block_scores`."""
        ...

    def pairs(self, owner: Tensor, items: Tensor) -> Tensor:
        """(P,) exact scores of ``items[p]`` for the history ``owner[p]``."""
        ...


@runtime_checkable
class CoarseScorer(Scorer, Protocol):
    """A model that may be told to score in fewer digits than it was trained in."""

    @property
    def scores_coarsely(self) -> bool:
        """Whether its configuration asks for that."""
        ...

    def coarse_scores(self, histories: Histories) -> CoarseScores:
        """Its coarse scores."""
        ...


def block_scores(model: Scorer, histories: Histories) -> Callable[[int, int], Tensor]:
    """The model's scores of all items for the histories from one number to another."""
    if isinstance(model, BlockScorer):
        return model.block_scores(histories)
    return lambda start, stop: model.scores(histories.block(start, stop))


def pair_scores(model: Scorer, histories: Histories, owner: Tensor, items: Tensor) -> Tensor:
    """(P,) the model's scores of single items; ``owner`` rises."""
    if isinstance(model, PairScorer):
        return model.pair_scores(histories, owner, items)
    return model.scores(histories)[owner, items]
