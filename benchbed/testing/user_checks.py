"""What a model promises of its users, be they histories or trained vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchbed.data.dataset import TrainingData
from benchbed.models.fold_in import FoldIn
from benchbed.testing.checks import Checks
from benchbed.testing.runs import histories_of, same, scores_of, things_of


class UserChecks(Checks):
    """The checks of users; part of :class:`~benchbed.testing.ModelSuite`."""

    def test_a_user_is_a_history(self) -> None:
        """Models of mode ``inductive``: other numbers for the users change nothing, in training and in scoring."""
        if self.model.user_mode != "inductive":
            pytest.skip("users of this model are trained vectors")
        data = self.data()
        others = replace(data.valid, users=data.valid.users[::-1].copy() + 1000)
        changed = replace(data, train=replace(data.train, users=data.train.users[::-1].copy()), valid=others)
        assert not self._train(changed).differs_from(self._trained()), "other numbers for the users, other results"

    def test_users_are_known_by_their_raw_ids(self) -> None:
        """Mode ``fold_in``: the users of the dataset numbered in another way, the results are the same."""
        self._only_for_vectors()
        assert not self._train(_renumbered(self.data())).differs_from(self._trained()), (
            "other numbers for the same users, other results"
        )

    def test_an_unseen_user_is_scored_by_the_history(self) -> None:
        """Mode ``fold_in``: no vector that nothing has trained. Other histories give other scores, the same ones the same."""
        self._only_for_vectors()
        user = _unseen(self.data())[0]
        histories = [[], [3], [4], [3, 4, 5], [6, 7, 8, 9]]
        scores = [self._ask([history], [user])[0, 1:] for history in histories]
        for place, history in enumerate(histories):
            assert same(self._ask([history], [user])[0, 1:], scores[place]), "the same history, other scores"
            for other in range(place):
                assert not same(scores[place], scores[other]), (
                    f"a user that was never trained gets the same scores for {history} and {histories[other]}"
                )

    def test_a_user_without_history_is_defined(self) -> None:
        """Mode ``fold_in``: the scores are numbers, and the same for every such user that was never trained."""
        self._only_for_vectors()
        users = _unseen(self.data())
        scores = self._ask([[] for _ in users], users)[:, 1:]
        assert scores.isfinite().all()
        self._close(scores, scores[:1].expand_as(scores))
        assert not same(scores[0], scores[0, :1].expand_as(scores[0])), "all items get the same score"

    def test_fold_in_changes_nothing_else(self) -> None:
        """Mode ``fold_in``: parameters, buffers, gradients, flags and random numbers are afterwards what they were."""
        self._only_for_vectors()
        model, histories = self._model().train(), histories_of(self.data().valid)
        state, things = torch.get_rng_state(), things_of(model)
        # Scores in training mode may drop out; fold-in may not.
        model.fold_in(histories) if isinstance(model, FoldIn) else model.scores(histories)
        after = things_of(model)
        changed = [name for name, thing in after.items() if not same(thing, things[name])]
        assert after.keys() == things.keys() and not changed, f"fold-in changes {changed}"
        assert same(torch.get_rng_state(), state), "fold-in draws from the random numbers of training"
        scores_of(model, histories)
        assert all(parameter.grad is None for parameter in model.parameters()), "fold-in leaves gradients behind"

    def _only_for_vectors(self) -> None:
        if self.model.user_mode != "fold_in":
            pytest.skip("a user of this model is a history")


def _unseen(data: TrainingData) -> list[int]:
    """Users that the validation cases name and training does not."""
    return [int(user) for user in np.setdiff1d(data.valid.users, data.train.users)]


def _renumbered(data: TrainingData) -> TrainingData:
    """The same users, with other numbers."""
    keys = data.user_keys
    assert keys is not None, "data of models with user vectors need `user_keys`"
    number = np.random.default_rng(0).permutation(len(keys))
    moved = np.empty_like(keys)
    moved[number] = keys
    labelled = None if data.labelled is None else replace(data.labelled, users=number[data.labelled.users])
    return replace(
        data,
        train=replace(data.train, users=number[data.train.users]),
        valid=replace(data.valid, users=number[data.valid.users]),
        labelled=labelled,
        user_keys=moved,
    )
