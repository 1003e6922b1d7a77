"""Models whose users are trained vectors, and how a user whom they have not seen gets one: by fold-in.

Everything but the new rows is frozen. A user's row starts from the trained one, where there is one, else from the mean of the
trained rows, and takes some steps down the model's own training objective on the history. The objective of each user is a sum
over that user's events alone, and the negatives come from a counter-based generator, so that a row does not depend on who else
is folded in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ModelError
from benchbed.models.base import ModelConfig, Recommender
from benchbed.models.counter import Outside, below, hashed

CHUNK_EVENTS = 2**17
"""Events of the histories that are folded in at once on a processor; a GPU takes 16 times as many."""


class FoldInConfig(ModelConfig):
    """Hyper-parameters of every model with user vectors.

    Attributes
    ----------
    fold_in_steps
        Steps down the training objective, each over the whole history. With 0 users who were trained keep their rows, and
        others cannot be scored.
    fold_in_learning_rate
        Of these steps; without any it must keep its default.
    """

    fold_in_steps: int = Field(20, ge=0)
    fold_in_learning_rate: float = Field(0.05, gt=0)

    @model_validator(mode="after")
    def _steps_have_a_rate(self) -> Self:
        usual = type(self).model_fields["fold_in_learning_rate"].default
        if self.fold_in_steps == 0 and self.fold_in_learning_rate != usual:
            raise ValueError(f"fold_in_learning_rate has no effect without steps (fold_in_steps: 0) and must be {usual:g}")
        return self


class FoldIn(Recommender):
    """A model that scores items for trained user vectors.

    Row ``r`` of the user table is that of row ``r`` of the training sequences. Subclasses give :attr:`user_table`,
    :meth:`fold_in_loss` and :meth:`row_scores`; what of the items is the same for all users goes into :meth:`item_side`.

    Parameters
    ----------
    config, data
        As of every :class:`Recommender`.

    References
    ----------
    Fold-in by gradient descent on a user's row with frozen items: Gantner et al., "MyMediaLite", RecSys 2011 (``RetrainUser``).
    """

    user_mode: ClassVar[Literal["inductive", "fold_in"]] = "fold_in"
    fold_in_dtype: ClassVar[torch.dtype | None] = None
    """What rows are while they descend; None is what the table is. Adam divides by the size of gradients, and so makes much of
    the last digits of small ones, which depend on who else is in a product: a model that descends by it takes float64."""

    training_users: Tensor
    row_of_training_user: Tensor
    user_keys: Tensor
    fold_in_seed: Tensor

    def __init__(self, config: Any, data: TrainingData) -> None:
        super().__init__(config, data)
        self.n_users = len(data.train.items)
        self.fold_in_steps: int = config.fold_in_steps
        self.fold_in_learning_rate: float = config.fold_in_learning_rate
        self.fold_in_seconds = 0.0
        users, rows = torch.as_tensor(data.train.users, dtype=torch.int64).sort()
        keys = torch.zeros(0, dtype=torch.int64) if data.user_keys is None else torch.as_tensor(data.user_keys)
        for name, tensor in (("training_users", users), ("row_of_training_user", rows), ("user_keys", keys)):
            self.register_buffer(name, tensor, persistent=False)
        self.register_buffer("fold_in_seed", torch.randint(2**62, ()))

    # What a model says

    @property
    def user_table(self) -> Tensor:
        """(n_users, d) rows of the training users."""
        raise NotImplementedError(f"{type(self).__name__} does not say its `user_table`")

    def item_side(self) -> Any:
        """What scoring and fold-in need of the items, made once; None by default."""
        return None

    def fold_in_loss(self, rows: Tensor, owner: Tensor, positives: Tensor, negatives: Tensor, side: Any) -> Tensor:
        """The training objective of each user, summed over users.

        Parameters
        ----------
        rows
            (B, d) user rows, the only numbers that get a gradient; each has an event at least.
        owner
            (E,) the row whose event it is.
        positives, negatives
            (E,) an item of the history, and one outside it.
        side
            Of :meth:`item_side`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say its `fold_in_loss`")

    def row_scores(self, rows: Tensor, items: Tensor | None, side: Any) -> Tensor:
        """(B, M) scores of items, or (B, n_items + 1) of all, for user rows."""
        raise NotImplementedError(f"{type(self).__name__} does not say its `row_scores`")

    def row_pair_scores(self, rows: Tensor, owner: Tensor, items: Tensor, side: Any) -> Tensor:
        """(P,) scores of ``items[p]`` for the row ``owner[p]``."""
        return self.row_scores(rows, None, side)[owner, items]

    def fold_in_optimizer(self, rows: Tensor) -> torch.optim.Optimizer:
        """What makes the steps; one that treats rows apart, as all that work number by number do."""
        return torch.optim.Adam([rows], lr=self.fold_in_learning_rate)

    # What follows from it

    @property
    def costs(self) -> dict[str, float]:
        """Seconds that fold-in took."""
        return {**super().costs, "fold_in_seconds": self.fold_in_seconds}

    def start_rows(self, users: Tensor, *, trained: bool = True) -> tuple[Tensor, Tensor]:
        """(B, d) the rows that fold-in starts from, and (B,) whether the user was trained.

        Parameters
        ----------
        users
            (B,) user numbers of the dataset.
        trained
            Whether trained users start from their own rows; otherwise all start from the mean row.
        """
        table = self.user_table.detach()
        place = torch.searchsorted(self.training_users, users).clamp(max=max(len(self.training_users) - 1, 0))
        known = (
            self.training_users[place] == users
            if trained and len(self.training_users)
            else torch.zeros_like(users, dtype=torch.bool)
        )
        rows = table.mean(0).expand(len(users), -1).clone()
        rows[known] = table[self.row_of_training_user[place[known]]]
        return rows, known

    def fold_in(self, histories: Histories, *, trained: bool = True) -> Tensor:
        """User rows for histories, all at once.

        Parameters
        ----------
        histories
            B histories; items outside the candidates are skipped. One without known items keeps the row that it starts from.
        trained
            See :meth:`start_rows`.

        Returns
        -------
        Tensor
            (B, d)

        Raises
        ------
        ModelError
            ``fold_in_steps`` is 0 and a user with a history was never trained.
        """
        started = time.perf_counter()
        with self._frozen():
            # Copies: what was made under inference mode cannot take part in a gradient.
            given = Histories(histories.users.clone(), histories.items.clone(), histories.offsets.clone()).known()
            rows, known = self.start_rows(given.users, trained=trained)
            if self.fold_in_steps == 0:
                if bool(((given.lengths > 0) & ~known).any()):
                    raise ModelError(
                        f"{self.name} with fold_in_steps: 0 has no row for a user whom it was not trained on.",
                        advice="Set fold_in_steps to 1 or more, or take a split whose users are all trained.",
                    )
                return rows
            side = self.item_side()
            for start, stop in _chunks(given, CHUNK_EVENTS * (16 if given.device.type == "cuda" else 1)):
                rows[start:stop] = self._descend(rows[start:stop], given.block(start, stop), side)
        if rows.device.type == "cuda":
            torch.cuda.synchronize(rows.device)
        self.fold_in_seconds += time.perf_counter() - started
        return rows

    def _descend(self, start: Tensor, histories: Histories, side: Any) -> Tensor:
        outside = Outside(histories, self.n_items)
        owner, items = histories.rows, histories.items
        place = torch.arange(len(items), device=items.device) - histories.offsets[:-1][owner]
        usable = outside.room[owner] > 0  # who has had every item has nothing left to be ranked
        owner, items, place = owner[usable], items[usable], place[usable]
        if len(items) == 0:
            return start
        keys, room = self._keys(histories.users)[owner], outside.room[owner]
        # Rows without events stay out: a penalty of a loss would move them, but only where others are folded in beside them.
        present, row_of_event = torch.unique(owner, return_inverse=True)
        rows = start[present].to(self.fold_in_dtype or start.dtype).requires_grad_()
        optimizer = self.fold_in_optimizer(rows)
        for step in range(self.fold_in_steps):
            bits = hashed(self.fold_in_seed, keys, torch.tensor(step, device=items.device), place)
            loss = self.fold_in_loss(rows, row_of_event, items, outside.pick(owner, below(bits, room)), side)
            (rows.grad,) = torch.autograd.grad(loss, rows)
            optimizer.step()
        moved = start.clone()
        moved[present] = rows.detach().to(start.dtype)
        return moved

    def _keys(self, users: Tensor) -> Tensor:
        """The keys of raw user ids, or the numbers themselves for data without raw ids."""
        return self.user_keys[users] if len(self.user_keys) else users

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """No parameter takes part in gradients, no dropout, and gradients are on; afterwards all is as it was."""
        was_training, asked = self.training, [(p, p.requires_grad) for p in self.parameters()]
        try:
            self.eval()
            for parameter, _ in asked:
                parameter.requires_grad_(False)
            with torch.inference_mode(False), torch.enable_grad():
                yield
        finally:
            self.train(was_training)
            for parameter, wanted in asked:
                parameter.requires_grad_(wanted)

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        """Scores of items for folded-in rows; see :meth:`Recommender.scores`."""
        rows = self.fold_in(histories)
        with torch.no_grad():
            return self.row_scores(rows, items, self.item_side())

    def block_scores(self, histories: Histories) -> Callable[[int, int], Tensor]:
        """Everybody is folded in once, and the items are prepared once; see :meth:`Recommender.block_scores`."""
        rows, side = self.fold_in(histories), self._side()
        return lambda start, stop: self.row_scores(rows[start:stop], None, side)

    def pair_scores(self, histories: Histories, owner: Tensor, items: Tensor) -> Tensor:
        """Scores of single items; see :meth:`Recommender.pair_scores`."""
        rows, side = self.fold_in(histories), self._side()
        with torch.no_grad():
            return self.row_pair_scores(rows, owner, items, side)

    def _side(self) -> Any:
        with torch.no_grad():
            return self.item_side()


def _chunks(histories: Histories, events: int) -> Iterator[tuple[int, int]]:
    """Runs of histories with about so many events each; a longer history is a run of its own."""
    total = len(histories)
    ends = histories.offsets[1:].cpu()
    start = 0
    while start < total:
        limit = (int(ends[start - 1]) if start else 0) + events
        stop = max(start + 1, int(torch.searchsorted(ends, torch.tensor(limit), right=True)))
        yield start, stop
        start = stop
