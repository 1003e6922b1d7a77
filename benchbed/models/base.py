"""The contract of a model: what it needs, how it learns, how it scores. The base class does the checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from benchbed.config import Schema
from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ModelError

PAIR_BLOCK = 2**22
"""Scores in one block where single ones are picked from those of all items."""


class ModelConfig(Schema):
    """Hyper-parameters of a model; the defaults are the authors'.

    Attributes
    ----------
    elsewhere
        Names that other libraries use and this model does not have, each with the rest of a sentence that says why.
    """

    elsewhere: ClassVar[Mapping[str, str]] = {}


class Recommender(nn.Module):
    """A model that scores items for histories.

    Subclasses set the class attributes and implement :meth:`scores`, and :meth:`fit` (``trained_by = "counting"``),
    :meth:`solve` (``"solving"``), or :meth:`batches`, :meth:`loss` and :meth:`optimizers` (``"gradient"``).

    Attributes
    ----------
    name
        As in benchmark files.
    Config
        The schema of its hyper-parameters.
    reference
        Where the model comes from.
    needs
        Of ``sequences``, ``item_features``, ``graph``, ``planted_truth``: what the data must hold.
    user_mode
        ``inductive``: a user is a history. ``fold_in``: a user is a trained vector.
    trained_by
        ``gradient``: epochs under the training loop. ``solving``: epochs that the model makes itself, such as alternating least
        squares. ``counting``: a closed form, one pass, no random numbers.
    logits
        Whether the sigmoid of a score is the probability that the user takes the item.
    labelled_only
        Hyper-parameter -> the value that takes the labelled rows of a click-through split, and works on no other split. A model
        with ``fold_in_steps`` scores users without a trained row under it, too.
    full_ranking_only
        Hyper-parameter -> the value that has an effect in full rankings alone (``evaluation.mode: full``).
    ceiling
        True for what knows the truth that the data were made of: shown beside the others, ranked against none.

    Parameters
    ----------
    config
        Hyper-parameters, an instance of ``Config``.
    data
        Training data; the model may keep what it derives from it. The training loop shows it no validation cases.

    Raises
    ------
    ModelError
        The data lack something the model needs.
    """

    name: ClassVar[str]
    Config: ClassVar[type[ModelConfig]]
    reference: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    user_mode: ClassVar[Literal["inductive", "fold_in"]] = "inductive"
    trained_by: ClassVar[Literal["gradient", "solving", "counting"]] = "gradient"
    logits: ClassVar[bool] = False
    labelled_only: ClassVar[Mapping[str, Any]] = {}
    full_ranking_only: ClassVar[Mapping[str, Any]] = {}
    ceiling: ClassVar[bool] = False

    def __init__(self, config: Any, data: TrainingData) -> None:
        super().__init__()
        missing = [need for need in sorted(self.needs) if not has(data, need)]
        if missing:
            raise ModelError(
                f"{self.name} needs {' and '.join(m.replace('_', ' ') for m in missing)}, which this dataset does not have.",
                advice="Add the table to the dataset card, or take the model out of the benchmark.",
            )
        self.check(data.n_items)
        self.n_items = data.n_items

    @classmethod
    def variant(cls, config: ModelConfig) -> str:
        """The label of this form of the model, shown on the leaderboard."""
        return "standard"

    @classmethod
    def check(cls, n_items: int) -> None:
        """Refuse a catalogue that the model cannot hold, whatever its configuration; asked before a sweep begins.

        Raises
        ------
        ModelError
            Saying what would fit.
        """

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(iter([*self.parameters(), *self.buffers()]), torch.zeros(())).device

    @property
    def size(self) -> int:
        """How many numbers were learnt."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def warm_up_epochs(self) -> int:
        """Epochs before all parts of the model take part; patience begins to count after them."""
        return 0

    @property
    def costs(self) -> dict[str, float]:
        """Facts of this process's part of a run, beside those that every model has. Names in ``_seconds`` add up over parts."""
        return {}

    def fit(self) -> None:
        """Learn in closed form."""
        raise NotImplementedError(f"{type(self).__name__} does not say its `fit`")

    def solve(self, generator: torch.Generator) -> float:
        """One epoch of a model that is ``trained_by = "solving"``; returns the mean loss."""
        raise NotImplementedError(f"{type(self).__name__} does not say its `solve`")

    def bind(self, data: TrainingData, device: str | torch.device) -> None:
        """Move the model, and what one epoch's batches are drawn from, to the device. Once, before training."""
        self.to(device)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimisers that step after every batch."""
        raise NotImplementedError(f"{type(self).__name__} does not say its `optimizers`")

    def batches(self, generator: torch.Generator) -> Iterator[Any]:
        """The batches of one epoch: each training target once, in an order drawn from the generator."""
        raise NotImplementedError(f"{type(self).__name__} does not say its `batches`")

    def loss(self, batch: Any) -> Tensor:
        """Mean loss over the batch's targets, a scalar. A batch says how many those are in its attribute ``n_targets``."""
        raise NotImplementedError(f"{type(self).__name__} does not say its `loss`")

    def after_backward(self) -> None:
        """What happens to gradients between the backward pass and the step, such as clipping. Nothing, by default."""

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        """Scores of items for every history; larger is better.

        Parameters
        ----------
        histories
            B histories.
        items
            (M,) item indices, or None for all.

        Returns
        -------
        Tensor
            (B, M), or (B, n_items + 1) with column 0 (padding) without meaning.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say its `scores`")

    def block_scores(self, histories: Histories) -> Callable[[int, int], Tensor]:
        """What ranking asks for: scores of all items for the histories from one number to another, block after block.

        A model that has work to do once for all blocks does it here.
        """
        return lambda start, stop: self.scores(histories.block(start, stop))

    def pair_scores(self, histories: Histories, owner: Tensor, items: Tensor) -> Tensor:
        """Scores of single items, for evaluations that rank a short list.

        Parameters
        ----------
        histories
            B histories.
        owner
            (P,) the history that each score is for, rising.
        items
            (P,) the items.

        Returns
        -------
        Tensor
            (P,)
        """
        give = self.block_scores(histories)
        step = max(1, PAIR_BLOCK // (self.n_items + 1))
        parts = []
        for start in range(0, len(histories), step):
            stop = min(start + step, len(histories))
            low, high = torch.searchsorted(owner, torch.tensor([start, stop], device=owner.device)).tolist()
            if high > low:
                parts.append(give(start, stop)[owner[low:high] - start, items[low:high]])
        return torch.cat(parts) if parts else torch.zeros(0, device=items.device)


class InnerProduct(Recommender):
    """A model whose scores are inner products: ranking is one matrix product."""

    def user_vectors(self, histories: Histories) -> Tensor:
        """(B, d) vectors of histories."""
        raise NotImplementedError(f"{type(self).__name__} does not say its `user_vectors`")

    def item_vectors(self) -> Tensor:
        """(n_items + 1, d) vectors of items."""
        raise NotImplementedError(f"{type(self).__name__} does not say its `item_vectors`")

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        """Inner products of user and item vectors; see :meth:`Recommender.scores`."""
        vectors = self.item_vectors()
        return self.user_vectors(histories) @ (vectors if items is None else vectors[items]).T


def has(data: TrainingData, need: str) -> bool:
    """Whether the data hold ``sequences``, ``item_features``, a ``graph`` (even an empty one) or a ``planted_truth``."""
    present = {
        "sequences": True,
        "item_features": bool(data.item_features),
        "graph": data.graph is not None,
        "planted_truth": data.planted is not None,
    }
    return present[need]
