"""ModelSuite: what every model of benchbed promises, as tests to inherit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NoReturn

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from benchbed.data.dataset import TrainingData
from benchbed.errors import ModelError
from benchbed.models.base import ModelConfig
from benchbed.testing.runs import backward_passes, build, disturb, finish, histories_of, open_fit, pairs_of, same, scores_of
from benchbed.testing.user_checks import UserChecks
from benchbed.testing.variations import Vary, accepts, other_values

NEEDS: dict[str, dict[str, Any]] = {
    "item_features": {"item_features": {}},
    "graph": {"graph": None},
    "planted_truth": {"planted": None},
}
"""What a model may declare besides ``sequences`` -> the fields of TrainingData that are empty without it."""

EXTREME = 1e3
LARGEST_SCALE = 1e6


class ModelSuite(UserChecks):
    """Inherit, name the model, and pytest runs every check.

    Attributes
    ----------
    model
        The class under test.
    parameters
        Hyper-parameters of all checks. Small ones: the made-up data have 28 items and sequences of up to 12 events.
    variations
        How single hyper-parameters are varied, where the suite cannot know: another value, or :class:`Vary` with the context
        in which the key has an effect. Numbers, switches and choices are varied by themselves.
    refused
        Hyper-parameters that the ``Config`` refuses to change in this configuration. The suite checks that it does.
    tolerance
        Largest difference of two scores that are the same sum in another order, relative to the largest score.

    Notes
    -----
    Override :meth:`data` for other data and :meth:`targets_of_an_epoch` where a model is documented to leave targets out.
    The suite uses pytest's own fixtures only.

    Examples
    --------
    >>> from benchbed.models.markov import Markov
    >>> class TestMarkov(ModelSuite):
    ...     model = Markov
    ...     parameters = {"order": 2}
    >>> TestMarkov().test_scores_on_a_subset_are_the_same_columns()
    >>> TestMarkov().test_every_hyper_parameter_matters("decay")
    """

    variations: ClassVar[Mapping[str, Any]] = {}
    refused: ClassVar[frozenset[str]] = frozenset()

    def targets_of_an_epoch(self, data: TrainingData) -> int:
        """Training targets of the split: every event of a sequence but its first."""
        return int((data.train.items.lengths - 1).clip(0).sum())

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test a hyper-parameter."""
        if "hyper_parameter" in metafunc.fixturenames:
            metafunc.parametrize("hyper_parameter", list(type(self).model.Config.model_fields))

    # What it says of itself

    def test_it_says_what_it_is(self) -> None:
        """Name, reference, needs and schema are there and valid; an unknown hyper-parameter is refused."""
        kind = self.model
        assert kind.name and kind.reference
        assert kind.needs <= {"sequences", *NEEDS}
        assert kind.user_mode in ("inductive", "fold_in") and kind.trained_by in ("gradient", "solving", "counting")
        assert issubclass(kind.Config, ModelConfig)
        assert kind.variant(kind.Config()) and kind.variant(kind.Config.model_validate(dict(self.parameters)))
        with pytest.raises(ValidationError):
            kind.Config.model_validate({**self.parameters, "no_such_hyper_parameter": 1})
        for said, keys in (("variations", self.variations), ("refused", self.refused)):
            unknown = sorted(set(keys) - set(kind.Config.model_fields))
            assert not unknown, f"`{said}` names {', '.join(unknown)}, and the Config has no such hyper-parameter"

    def test_data_without_what_it_needs_are_refused(self) -> None:
        """And whoever reads the refusal learns what is missing."""
        for need in sorted(self.model.needs & NEEDS.keys()):
            with pytest.raises(ModelError, match=need.replace("_", " ")):
                self._build(replace(self.data(), **NEEDS[need]))

    def test_it_works_without_what_it_does_not_need(self) -> None:
        """Item features, graph and times may be absent unless they are declared; nothing else changes."""
        data = self.data()
        without: dict[str, Any] = {"train": replace(data.train, timestamps=None)}
        for need in sorted(NEEDS.keys() - self.model.needs):
            without |= NEEDS[need]
        assert not self._train(replace(data, **without)).differs_from(self._trained()), (
            "other numbers without data that are not declared in `needs`"
        )

    # Scores

    def test_scores_have_a_column_an_item_and_are_numbers(self) -> None:
        """(B, n_items + 1) finite numbers, also for histories that are empty or hold nothing known."""
        data, scores = self.data(), self._scores()
        assert tuple(scores.shape) == (len(data.valid), data.n_items + 1)
        assert scores.is_floating_point()
        bad = (~scores[:, 1:].isfinite()).any(1).nonzero().squeeze(1).tolist()
        assert not bad, f"no finite scores for the histories {[data.valid.histories[row].tolist() for row in bad]}"

    def test_scores_on_a_subset_are_the_same_columns(self) -> None:
        """``scores(histories, items)`` takes columns out of ``scores(histories)``."""
        data, scores = self.data(), self._scores()
        for chosen in ([3], [5, 2, data.n_items, 2], list(range(1, data.n_items + 1))):
            items = torch.tensor(chosen)
            self._close(scores_of(self._model(), histories_of(data.valid), items), scores[:, items])

    def test_single_scores_and_blocks_are_the_same_scores(self) -> None:
        """``block_scores`` gives rows of ``scores(histories)``, ``pair_scores`` single entries of them."""
        data, scores, model = self.data(), self._scores(), self._model().eval()
        n, histories = len(data.valid), histories_of(data.valid)
        with torch.inference_mode():
            give = model.block_scores(histories)
            for start, stop in ((0, 5), (5, n)):
                self._close(give(start, stop).cpu()[:, 1:], scores[start:stop, 1:])
        owner, items = pairs_of(n, data.n_items)
        with torch.inference_mode():
            self._close(model.pair_scores(histories, owner, items).cpu(), scores[owner, items])

    def test_batches_and_order_of_cases_change_nothing(self) -> None:
        """A case gets its scores whoever stands beside it, before it and after it."""
        data, scores, model = self.data(), self._scores(), self._model()
        n = len(data.valid)
        for size in (1, 7):
            for start in range(0, n, size):
                rows = np.arange(start, min(n, start + size))
                self._close(scores_of(model, histories_of(data.valid.take(rows)))[:, 1:], scores[rows, 1:])
        backwards = np.arange(n)[::-1].copy()
        self._close(scores_of(model, histories_of(data.valid.take(backwards)))[:, 1:], scores[backwards.tolist(), 1:])

    def test_scoring_leaves_no_trace(self) -> None:
        """Asked twice, a model says the same, and its state is what it was."""
        model, histories = self._build(self.data()), histories_of(self.data().valid)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        scores = scores_of(model, histories)
        disturb()
        assert same(scores_of(model, histories), scores), "asked twice, it gives other scores"
        changed = [name for name, value in model.state_dict().items() if not same(value, before[name])]
        assert not changed, f"scoring changes {changed}"

    def test_unknown_items_in_a_history_change_nothing(self) -> None:
        """0 stands for an item outside the candidates: it is skipped. A history without known items counts as empty."""
        pairs: list[tuple[list[int], list[int]]] = [([3, 0, 4], [3, 4]), ([0, 3, 4, 0], [3, 4]), ([0, 0], [])]
        for given, plain in pairs:
            self._close(self._ask([given])[:, 1:], self._ask([plain])[:, 1:])

    # Padding

    def test_padding_learns_nothing(self) -> None:
        """Row 0 of a table of items gets no gradient: padding is no target, no negative, and in no denominator."""
        model = self._gradient_model(self.data())
        batches = 0
        for _ in backward_passes(model):
            batches += 1
            for name, parameter in model.named_parameters():
                if parameter.grad is None or parameter.shape[:1] != (model.n_items + 1,):
                    continue
                gradient = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
                assert not gradient[0].any(), f"padding (row 0 of {name}) gets a gradient"
        assert batches > 0, "an epoch without a batch"

    def test_lists_hold_each_item_once_and_no_padding(self) -> None:
        """What is recommended is an item, whatever stands in the column of padding."""
        data = self.data()
        with TemporaryDirectory() as folder:
            fit = open_fit(self.model, self.parameters, data, Path(folder))
            finish(fit)
            frame = fit.test(data.valid, top=data.n_items).table.to_pandas()
        for items in frame["top_items"]:
            assert sorted(items) == list(range(1, data.n_items + 1))

    # Training

    def test_an_epoch_holds_each_training_target_once(self) -> None:
        """The targets that the batches of an epoch count are as many as the split holds."""
        model = self._gradient_model(self.data())
        expected = self.targets_of_an_epoch(self.data())
        for seed in (0, 1):
            found = sum(batch.n_targets for batch, _ in backward_passes(model, seed))
            assert found == expected, f"an epoch holds {found} targets, the split {expected}"

    def test_gradients_are_finite_at_extreme_scores(self) -> None:
        """Weights are scaled until scores reach 1000 either side: loss and gradients stay numbers."""
        model, histories = self._gradient_model(self.data()), histories_of(self.data().valid)
        scale = 1.0
        while scores_of(model, histories)[:, 1:].abs().max() < EXTREME and scale < LARGEST_SCALE:
            scale *= 1.25
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(1.25)
        for _, loss in backward_passes(model):
            assert np.isfinite(loss), f"the loss is {loss} at extreme scores"
            for name, parameter in model.named_parameters():
                gradient = parameter.grad
                assert gradient is None or _numbers(gradient).isfinite().all(), f"{name} gets a gradient that is no number"

    def test_the_same_seed_trains_the_same_model(self, tmp_path: Path) -> None:
        """Bit by bit, whatever else draws random numbers in the process; another seed trains another one."""
        runs = []
        for place, seed in enumerate((0, 0, 1)):
            disturb()
            runs.append(finish(open_fit(self.model, self.parameters, self.data(), tmp_path / str(place), seed=seed, epochs=2)))
        assert not runs[0].differs_from(runs[1]), "two runs of one seed differ"
        if self.model.trained_by != "counting":
            assert runs[0].differs_from(runs[2]), "runs of two seeds are equal"
        else:
            assert not runs[0].differs_from(runs[2]), "a closed form that depends on the seed"

    def test_a_continued_run_equals_an_uninterrupted_one(self, tmp_path: Path) -> None:
        """Stopped after the first of three epochs and continued from the checkpoint."""
        whole = finish(open_fit(self.model, self.parameters, self.data(), tmp_path / "whole", epochs=3))
        open_fit(self.model, self.parameters, self.data(), tmp_path / "parts", epochs=3).step()
        disturb()
        continued = open_fit(self.model, self.parameters, self.data(), tmp_path / "parts", epochs=3)
        assert len(continued.history) == 1
        if self.model.trained_by == "counting":
            continued.test(self.data().valid)  # a closed form is computed again, not stored
        assert not finish(continued).differs_from(whole), "a continued run differs from an uninterrupted one"

    def test_saved_and_loaded_it_scores_the_same(self, tmp_path: Path) -> None:
        """From the files of a run, and, where weights are trained, from a state_dict into a model with other weights."""
        data = self.data()
        fit = open_fit(self.model, self.parameters, data, tmp_path)
        finish(fit)
        tested = fit.test(data.valid).table
        again = open_fit(self.model, self.parameters, data, tmp_path)
        assert again.test(data.valid).table.equals(tested), "a run that was opened again gives other lists"
        if self.model.trained_by != "counting":
            other = build(self.model, self.parameters, data, seed=5)
            other.load_state_dict(fit.model.state_dict())
            histories = histories_of(data.valid)
            assert same(scores_of(other, histories), scores_of(fit.model, histories)), "the state_dict lacks something"

    def test_validation_cases_are_not_read(self) -> None:
        """A model that was handed them by mistake would still not look."""
        sealed = _Sealed()
        model = self._build(replace(self.data(), valid=sealed))  # type: ignore[arg-type]  # no cases at all: it only stands there
        if self.model.trained_by == "gradient":
            for _ in backward_passes(model):
                pass
        elif self.model.trained_by == "solving":
            model.solve(torch.Generator())
        scores_of(model, histories_of(self.data().valid))
        assert not sealed.opened, "the model reads validation cases"

    # Hyper-parameters

    def test_every_hyper_parameter_matters(self, hyper_parameter: str) -> None:
        """Another value changes a loss, the parameters after an epoch, or the scores. No key is dead."""
        kind, key = self.model.Config, hyper_parameter
        if key in self.refused:
            others = other_values(kind, self.parameters, key)
            assert not others, f"`refused` names {key}, but {others[0]!r} is accepted"
            return
        given = self.variations.get(key)
        vary = given if isinstance(given, Vary) else Vary(given)
        base = {**self.parameters, **vary.where}
        if key in self.variations:
            values = [vary.to]
            assert accepts(kind, {**base, key: vary.to}), f"the Config refuses {key}={vary.to!r} of `variations`"
        else:
            values = other_values(kind, base, key)
        assert values, f"found no other value of {key} that the Config accepts: give one in `variations`"
        before = self._trained(vary.where, vary.epochs)
        assert np.isfinite(before.losses).all()
        dead = [value for value in values if not self._trained({**vary.where, key: value}, vary.epochs).differs_from(before)]
        choices = all(isinstance(value, str) for value in values)
        # One of the numbers must matter (a window longer than all sequences does not), but each of the choices.
        assert not dead if choices else len(dead) < len(values), (
            f"{key}: {', '.join(map(repr, dead))} changed nothing. Give a value and a context that matter in `variations`, "
            "or let the Config refuse the key where it has no effect, or remove it."
        )


def _numbers(gradient: Tensor) -> Tensor:
    return gradient.coalesce().values() if gradient.is_sparse else gradient


class _Sealed:
    """Stands where cases would, and tells whether somebody looked."""

    opened = False

    def _look(self, *_: Any) -> NoReturn:
        self.opened = True
        raise AssertionError("the model reads validation cases")

    __getattr__ = __getitem__ = __len__ = __iter__ = __bool__ = _look
