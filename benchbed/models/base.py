"""The contract of a model: what it needs, how it learns, how it scores. The base class does the checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from benchbed.config import Schema
from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ModelError


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

    Subclasses set the class attributes and implement :meth:`scores`, and either :meth:`fit` (``trained_by = "counting"``) or
    :meth:`batches`, :meth:`loss` and :meth:`optimizers` (``trained_by = "gradient"``).

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
        ``gradient``: epochs under the training loop. ``counting``: a closed form, one pass, no random numbers.
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
    trained_by: ClassVar[Literal["gradient", "counting"]] = "gradient"
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

    def fit(self) -> None:
        """Learn in closed form."""
        raise NotImplementedError(f"{type(self).__name__} does not say its `fit`")

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
    """Whether the data hold ``sequences`` (times or an order), ``item_features``, a ``graph``, or a ``planted_truth``."""
    present = {
        "sequences": True,
        "item_features": bool(data.item_features),
        "graph": data.graph is not None and len(data.graph.heads) > 0,
        "planted_truth": data.planted is not None,
    }
    return present[need]
