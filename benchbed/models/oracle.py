"""The ceiling of a simulated shop: a ranking by the probability that the simulator itself gives to every item."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import torch
from pydantic import Field
from torch import Tensor

from benchbed.data.dataset import TrainingData
from benchbed.data.histories import Histories
from benchbed.data.simulate import read_truth, target_probabilities
from benchbed.errors import ModelError
from benchbed.models.base import ModelConfig, Recommender


class OracleConfig(ModelConfig):
    """What can be chosen of :class:`Oracle`.

    Attributes
    ----------
    continuations
        Simulated futures of every case. With 500 the standard error of a probability of one tenth is 0.013.
    events
        Events of every future; None for as many as the user's log has after the history (``targets: rest``; on a temporal
        split, in the stretch of the next one), 1 for ``targets: next``.
    seed
        Of the futures.
    """

    continuations: int = Field(500, ge=500)
    events: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)


class Oracle(Recommender):
    """Scores every item with its probability of being among the next events, given the planted state at the end of the history.

    The state (interests and their weights, topic of the session, preferred makers) is read from the truth beside the raw files
    and continued with the step that made the log. Among all rankings this one has the highest expected recall at every cutoff,
    so that no model can be above it but by luck. It is no competitor: it is shown, and ranked against none.

    Where items are launched in the course of time, a future comes when the user came: it knows the times of the events to
    come, and so what can be taken, not the events. That is more than any model is told, so that the bound holds.

    Items of the history get 0, which is right under ``seen_items: exclude``. All histories of one call share their random
    numbers' block, so that a case asked for alone gets other futures, of the same distribution.
    """

    name = "oracle"
    Config = OracleConfig
    reference = "The simulator's own state, continued; docs/bazaar.md."
    needs = frozenset({"planted_truth"})
    trained_by = "counting"
    ceiling = True

    def __init__(self, config: OracleConfig, data: TrainingData) -> None:
        super().__init__(config, data)
        assert data.planted is not None
        self.config = config
        self._edges = data.planted.edges
        self._truth = read_truth(data.planted.truth)
        number = {item: index for index, item in enumerate(self._truth.shop.ids.tolist())}
        users = pq.read_table(data.planted.users, columns=["index", "id"])
        named = zip(users["index"].to_pylist(), users["id"].to_pylist(), strict=True)
        try:
            self._items = np.array([-1, *(number[item] for item in data.item_ids[1:])])
            self._users = {index: self._truth.users[name] for index, name in named}
        except KeyError as error:
            raise ModelError(
                f"The planted truth in {data.planted.truth} knows no user or item {error}: it belongs to another log.",
                advice="Prepare the dataset again.",
            ) from None

    @property
    def size(self) -> int:
        """Nothing is learnt."""
        return 0

    def fit(self) -> None:
        """Nothing to learn: the truth is known."""

    def scores(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        """See :meth:`Recommender.scores`.

        Raises
        ------
        ModelError
            A history is not the beginning of what its user took.
        """
        lengths = histories.lengths.cpu().numpy()
        if len(lengths) == 0:
            return torch.zeros((0, self.n_items + 1 if items is None else len(items)), device=histories.device)
        users = np.array([self._users[user] for user in histories.users.tolist()])
        self._check(users, lengths, histories.items.cpu().numpy())
        after = self._truth.events_until(users, lengths, self._edges)
        if self.config.events is not None:
            after = np.minimum(after, self.config.events)
        shares = target_probabilities(
            self._truth, users, lengths, after, copies=self.config.continuations, seed=self.config.seed
        )
        scores = torch.as_tensor(shares[:, self._items.clip(min=0)]).to(histories.device)
        scores[:, 0] = 0.0
        return scores if items is None else scores[:, items]

    def _check(self, users: np.ndarray, lengths: np.ndarray, items: np.ndarray) -> None:
        """Every history must be the first events of its user, in the order in which they happened."""
        truth = self._truth
        fits = bool(np.all((lengths >= 1) & (lengths <= np.diff(truth.first)[users])))
        if fits:
            within = np.arange(len(items)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            taken = truth.events["item"][np.repeat(truth.first[users], lengths) + within]
            given = self._items[items]
            fits = bool(np.all((given < 0) | (given == taken)))
        if not fits:
            raise ModelError(
                "The oracle continues the state in which a history ended, and a history here is not the beginning of its "
                "user's log.",
                advice="Set `ties: file` in the split block (the log keeps the true order within a second), and clean nothing "
                "in the card.",
            )
