"""Presets of GRU4Rec, what does not go together, and names that belong elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from benchbed.data.dataset import Ragged, TrainingData
from benchbed.data.histories import Histories
from benchbed.errors import ConfigError
from benchbed.models.gru4rec import GRU4Rec
from benchbed.models.gru4rec_config import BATCHINGS, ELSEWHERE, PRESETS, GRU4RecConfig
from benchbed.search.space import SearchSpace
from benchbed.search.space_file import load_space
from benchbed.training.recpack import GRU4RecNegSampling

SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("gru4rec*.yaml"))


def config(**values: Any) -> GRU4RecConfig:
    return GRU4RecConfig.model_validate(values)


@pytest.mark.parametrize("variant", PRESETS)
@pytest.mark.parametrize("loss", ["cross-entropy", "bpr", "bpr-max", "top1", "top1-max"])
def test_every_preset_takes_every_loss_and_survives_being_written_out(variant: str, loss: str) -> None:
    made = config(variant=variant, loss=loss)
    assert GRU4RecConfig.model_validate(made.model_dump(mode="json")) == made
    assert GRU4Rec.variant(made) == variant


def test_presets_are_what_their_authors_say() -> None:
    official = config(variant="official")
    assert (official.loss, official.n_negatives, official.sample_alpha, official.logq) == ("cross-entropy", 2048, 0.5, 0)
    assert (official.hidden_size, official.batch_size, official.learning_rate, official.momentum) == (100, 64, 0.05, 0)
    assert config(variant="official", loss="bpr-max").bpreg == 1 and config(variant="official", loss="bpr-max").elu_alpha == 0.5
    recpack = config(variant="recpack")
    assert (recpack.loss, recpack.n_negatives, recpack.embedding_size, recpack.hidden_size) == ("bpr", 50, 250, 100)
    assert (recpack.optimizer, recpack.learning_rate, recpack.clip_norm, recpack.bptt, recpack.batch_size) == (
        "adagrad", 0.03, 1.0, 1, 512,
    )  # fmt: skip
    recbole = config(variant="recbole")
    assert (recbole.batching, recbole.window, recbole.dropout_embed, recbole.padding_in_softmax) == ("prefixes", 50, 0.3, True)
    assert config(variant="recbole", loss="bpr").n_negatives == 1


def test_a_changed_form_is_told_in_the_label() -> None:
    assert GRU4Rec.variant(config(variant="official", embedding_mode="one-hot")) == "official"
    assert GRU4Rec.variant(config(variant="official", shared_negatives=False)) == "official, changed"
    assert GRU4Rec.variant(config(variant="recpack", optimizer="sgd", momentum=0.5)) == "recpack"
    assert GRU4Rec.variant(config(variant="recpack", loss="cross-entropy", padding_in_softmax=False)) == "recpack, changed"
    assert GRU4Rec.variant(config(batching="prefixes", window=20)) == "windows, changed"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"loss": "bpr", "n_negatives": 0}, "needs negatives"),
    ({"sample_alpha": 0.5}, "sample_alpha has no effect"),
    ({"bpreg": 0.5}, "bpreg has no effect"),
    ({"elu_alpha": 0.5}, "elu_alpha has no effect"),
    ({"logq": 1.0}, "logq has no effect"),
    ({"variant": "official", "loss": "bpr-max", "logq": 1.0}, "logq has no effect"),
    ({"variant": "official", "padding_in_softmax": True}, "padding_in_softmax has no effect"),
    ({"variant": "recpack", "projection": True}, "projection has no effect"),
    ({"variant": "official", "embedding_mode": "one-hot", "dropout_embed": 0.1}, "dropout_embed has no effect"),
    ({"variant": "official", "embedding_mode": "one-hot", "embedding_size": 8}, "embedding_size has no effect"),
    ({"momentum": 0.5}, "momentum has no effect"),
    ({"variant": "recpack", "momentum": 0.5}, "momentum has no effect"),
    ({"batch_size": 8}, "batch_size has no effect"),
    ({"bptt": 2}, "bptt has no effect"),
    ({"variant": "recbole", "burn_in": 5}, "burn_in has no effect"),
    ({"variant": "official", "window": 5}, "window has no effect"),
    ({"window": 0}, "window must be at least 1"),
    ({"variant": "official", "bptt": 0}, "bptt must be at least 1"),
    ({"variant": "official", "cell": "reset_after"}, "which only the cell reset_before can do"),
    ({"embedding_mode": "one-hot", "embedding_size": 0, "dropout_embed": 0, "projection": False}, "which only the cell"),
    ({"variant": "official", "n_negatives": 0, "batch_size": 1}, "batch_size must be at least 2 without n_negatives"),
]


@pytest.mark.parametrize(("values", "why"), REFUSED)
def test_what_has_no_effect_is_refused(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        config(**values)


@pytest.mark.fidelity("G21")
def test_a_shared_table_must_be_as_wide_as_the_state() -> None:
    with pytest.raises(ValidationError, match="as wide as the state"):
        config(variant="official", embedding_size=64)
    assert config(variant="official", embedding_size=100).width == config(variant="official").width == 100


@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_of_other_libraries_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ValidationError, match=rf"{name} (is|stands|would)"):
        config(variant="recpack", **{name: 1})


def test_a_search_space_with_such_a_name_is_told_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for name, why in ELSEWHERE.items():
        for block in (
            f"defaults: {{variant: recpack, {name}: 1}}",
            f"parameters:\n  {name}: {{choices: [1, 2], source: none}}",
        ):
            path.write_text(f"model: gru4rec\nmax_epochs: 3\n{block}\n", encoding="utf-8")
            with pytest.raises(ConfigError, match=re.escape(f"{name} {why}")):
                load_space(path)


def test_the_page_names_every_variant_space_and_parameter_of_recpack(ring: TrainingData) -> None:
    page = (Path(__file__).parents[2] / "docs/gru4rec.md").read_text(encoding="utf-8")
    spaces = [path.stem for path in SPACES if load_space(path).model == "gru4rec"]
    for name in (*PRESETS, *spaces, *(field.name for field in fields(GRU4RecNegSampling) if field.init)):
        assert f"`{name}`" in page, name
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.S | re.M)
    names = {"data": ring, "histories": Histories.of(ring.valid.users, ring.valid.histories)}
    exec(example, names)
    assert names["scores"].shape == (60, 41)  # type: ignore[attr-defined]


def test_every_way_of_batching_decides_the_same_sizes() -> None:
    assert len({frozenset(sizes) for sizes in BATCHINGS.values()}) == 1


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_shipped_spaces_hold_their_variant_and_sources(path: Path) -> None:
    space = load_space(path)
    if space.model == "gru4rec":
        assert space.variant == space.default_variant == space.default_config()["variant"]


DIMENSIONS = [
    (path, name) for path in SPACES if (space := load_space(path)).model == "gru4rec" for name in space.dimensions
]  # fmt: skip
"""Every searched dimension of every shipped space."""


@pytest.mark.fidelity("G18")
@pytest.mark.parametrize(("path", "name"), DIMENSIONS, ids=[f"{path.stem}-{name}" for path, name in DIMENSIONS])
def test_no_dimension_of_a_shipped_space_is_dead(path: Path, name: str, make_ring: Callable[..., TrainingData]) -> None:
    # More targets than the smallest batch_targets that is searched.
    data, space = make_ring(users=200 if name == "batch_targets" else 40, longest=7), load_space(path)
    small = {"hidden_size": 8, "n_negatives": 9} if space.variant == "official" else {}
    default = space.default_labels()
    other = next(value for value in _values(space, name) if value != default[name])
    scores = []
    for labels in (default, default | {name: other}):
        chosen = space.to_parameters(labels)
        torch.manual_seed(0)
        model = GRU4Rec(GRU4RecConfig.model_validate(chosen | {k: v for k, v in small.items() if k != name}), data)
        model.bind(data, "cpu")
        (optimizer,) = model.optimizers()
        for _, batch in zip(range(8), model.batches(torch.Generator().manual_seed(0)), strict=False):
            optimizer.zero_grad()
            model.loss(batch).backward()  # type: ignore[no-untyped-call]
            model.after_backward()
            optimizer.step()
        scores.append(model.eval().scores(Histories.of(np.arange(1), Ragged.of([[3, 4, 5]]))))
    assert not torch.equal(*scores)


def _values(space: SearchSpace, name: str) -> list[Any]:
    dimension = space.dimensions[name]
    if (finite := space.values(name)) is not None:
        return finite
    return [dimension.high]  # type: ignore[union-attr]  # an interval
