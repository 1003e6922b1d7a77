"""What the checks of the suite share: the model under test, its data, and its training runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from benchbed.config import canonical
from benchbed.data.dataset import Ragged, TrainingData
from benchbed.data.histories import Histories
from benchbed.models.base import Recommender
from benchbed.testing.made_up import made_up_data
from benchbed.testing.runs import Trace, build, finish, open_fit, scores_of


class Checks:
    """A model, its hyper-parameters and its data; see :class:`~benchbed.testing.ModelSuite`, which says what they are."""

    model: ClassVar[type[Recommender]]
    parameters: ClassVar[Mapping[str, Any]] = {}
    tolerance: ClassVar[float] = 1e-5

    def data(self) -> TrainingData:
        """The data of all checks."""
        return made_up_data()

    def _close(self, found: Tensor, expected: Tensor) -> None:
        size = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
        torch.testing.assert_close(found, expected, rtol=0, atol=self.tolerance * size)

    def _build(self, data: TrainingData) -> Recommender:
        return build(self.model, self.parameters, data)

    def _gradient_model(self, data: TrainingData) -> Recommender:
        if self.model.trained_by != "gradient":
            pytest.skip("what is counted or solved has no gradients and no batches")
        return self._build(data)

    def _train(self, data: TrainingData, changes: Mapping[str, Any] | None = None, epochs: int = 1) -> Trace:
        with TemporaryDirectory() as folder:
            return finish(open_fit(self.model, {**self.parameters, **(changes or {})}, data, Path(folder), epochs=epochs))

    def _trained(self, changes: Mapping[str, Any] | None = None, epochs: int = 1) -> Trace:
        """The run under changed hyper-parameters, made once: data and seed are always the same."""
        run = type(self), canonical(changes or {}), epochs
        if run not in _TRACES:
            _TRACES[run] = self._train(self.data(), changes, epochs)
        return _TRACES[run]

    def _model(self) -> Recommender:
        """A model whose scores depend on histories: trained for an epoch, so that no row is at its first value."""
        model = self._build(self.data())
        model.load_state_dict(self._trained().state)
        return model

    def _scores(self) -> Tensor:
        return self._trained().scores

    def _ask(self, histories: list[list[int]], users: list[int] | None = None) -> Tensor:
        who = np.arange(len(histories)) if users is None else np.array(users)
        return scores_of(self._model(), Histories.of(who, Ragged.of(histories)))


_TRACES: dict[tuple[type, str, int], Trace] = {}
