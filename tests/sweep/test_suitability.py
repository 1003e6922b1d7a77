"""Hyper-parameters that cannot work on a split are refused before anything is recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from benchbed.config import Document, read_document
from benchbed.data.dataset import Cases, Ragged, TrainingData
from benchbed.data.split.spec import SplitSpec
from benchbed.errors import ConfigError, ModelError
from benchbed.search.space import SearchSpace
from benchbed.search.space_file import check_space
from benchbed.sweep import rehearsal
from benchbed.sweep.lookup import load_benchmark
from benchbed.sweep.preflight import preflight
from benchbed.sweep.suitability import keeps_trained_rows, unsuitable
from benchbed.testing import made_up_data
from benchbed.workspace import Workspace

RATE = {"low": 0.1, "high": 1.0, "source": "a test"}
STEPS = {"choices": [20, 0], "source": "a test"}
INTERVAL = {"low": 0, "high": 20, "source": "a test"}
TOGETHER = {"choices": {"a": {"fold_in_steps": 20}, "b": {"fold_in_steps": 0}}, "source": "a test"}
LISTED = {"choices": ["drawn", "given"], "source": "a test"}


def refusals(folder: Path, split: str, space: dict[str, Any]) -> str:
    """What the preflight of the demo with one row of this space says."""
    (folder / "search_spaces").mkdir(exist_ok=True)
    (folder / "search_spaces/mine.yaml").write_text(yaml.safe_dump({"max_epochs": 1, **space}))
    keys: dict[str, Any] = {"test_share": 0.1} if split in ("session", "temporal") else {}
    changes = {"models": ("mine",), "baselines": "none", "split": SplitSpec.model_validate({"kind": split, **keys})}
    demo = load_benchmark("demo").model_copy(update=changes).at(folder)
    try:
        preflight(demo, Workspace.open(folder / "workspace"))
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("split", ["user_disjoint", "session"])
@pytest.mark.parametrize(
    ("space", "place"),
    [
        ({"defaults": {"fold_in_steps": 0}}, "defaults.fold_in_steps"),
        ({"parameters": {"fold_in_steps": STEPS}}, "parameters.fold_in_steps"),
        ({"parameters": {"fold_in_steps": INTERVAL}}, "parameters.fold_in_steps"),
        ({"joint": {"way": TOGETHER}}, "joint.way"),
    ],
)
def test_no_steps_are_refused_where_no_user_is_trained(tmp_path: Path, split: str, space: dict[str, Any], place: str) -> None:
    told = refusals(tmp_path, split, {"model": "mf_bpr", **space})
    assert "mine can have fold_in_steps: 0" in told and f"mine.yaml: {place}" in told
    assert f"no user whom a {split} split asks for is trained: set fold_in_steps to 1 or more" in told
    assert refusals(tmp_path, "leave_one_out", {"model": "mf_bpr", **space}) == ""
    assert refusals(tmp_path, split, {"model": "mf_bpr", "defaults": {"fold_in_steps": 1}}) == ""


@pytest.mark.parametrize("space", [{"defaults": {"negatives": "given"}}, {"parameters": {"negatives": LISTED}}])
def test_listed_negatives_are_refused_where_no_rows_are_labelled(tmp_path: Path, space: dict[str, Any]) -> None:
    told = refusals(tmp_path, "leave_one_out", {"model": "mkr", **space})
    assert "mine can have negatives: given" in told and "take split.kind: click_through" in told
    assert refusals(tmp_path, "click_through", {"model": "mkr", **space}) == ""
    assert refusals(tmp_path, "leave_one_out", {"model": "mkr"}) == ""


def test_coarse_scores_are_refused_where_no_list_is_whole() -> None:
    asked = SearchSpace(model="convncf", max_epochs=1, defaults={"scoring": "bf16"})
    (found,) = unsuitable("mine", asked, Path("mine.yaml"), "leave_one_out", "sampled")
    assert "mine can have scoring: bf16" in found.message and "evaluation.mode is sampled" in found.message
    assert found.key == "defaults.scoring"
    assert not list(unsuitable("mine", asked, Path("mine.yaml"), "leave_one_out", "full"))
    assert not list(
        unsuitable("mine", SearchSpace(model="convncf", max_epochs=1), Path("mine.yaml"), "leave_one_out", "sampled")
    )


def trained(data: TrainingData, *, all_of_them: bool) -> TrainingData:
    """The same data with validation cases of training users alone, perhaps with one more user who has targets only."""
    users = np.append(data.train.users[:5], [] if all_of_them else data.train.users.max() + 1).astype(np.int64)
    histories = [data.train.items[row].tolist() for row in range(5)] + ([] if all_of_them else [[]])
    return replace(data, valid=Cases(users, Ragged.of(histories), Ragged.of([[1]] * len(users))))


def test_rehearsal_looks_for_users_without_a_row_on_every_split(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made_up_data(users=40)
    splits = {1: trained(data, all_of_them=True), 2: trained(data, all_of_them=False)}
    monkeypatch.setattr(rehearsal, "load_training_data", lambda folder, _: splits[folder])
    spaces = {
        "kept": SearchSpace(model="mf_bpr", max_epochs=1, defaults={"fold_in_steps": 0}),
        "folded": SearchSpace(model="mf_bpr", max_epochs=1),
        "listed": SearchSpace(model="mkr", max_epochs=1, defaults={"fold_in_steps": 0, "negatives": "given"}),
    }

    def rehearse(*seeds: int, rows: list[str]) -> None:
        parts = SimpleNamespace(
            splits={seed: SimpleNamespace(folder=seed) for seed in seeds},
            checked=SimpleNamespace(spaces=spaces),
            benchmark=SimpleNamespace(evaluation=None),
        )
        rehearsal.rehearse(parts, rows)  # type: ignore[arg-type]  # stands for the material of a sweep

    rehearse(1, rows=["kept", "folded", "listed"])
    rehearse(2, rows=["folded", "listed"])  # MKR scores such users by the mean row
    for seeds in ((2,), (1, 2)):
        with pytest.raises(ModelError, match=r"kept can have fold_in_steps: 0.* 1 user of the validation part has") as caught:
            rehearse(*seeds, rows=["folded", "kept"])
        assert "1 or more" in str(caught.value.advice)


def test_only_models_with_steps_keep_rows() -> None:
    assert not keeps_trained_rows(SearchSpace(model="ials", max_epochs=1))
    assert not keeps_trained_rows(SearchSpace(model="popularity", max_epochs=1))


def test_a_space_with_a_rate_of_no_steps_needs_a_condition(tmp_path: Path) -> None:
    def problems(**when: Any) -> list[str]:
        path = tmp_path / "mine.yaml"
        parameters = {"fold_in_steps": STEPS, "fold_in_learning_rate": {**RATE, **when}}
        path.write_text(yaml.safe_dump({"model": "mf_bpr", "max_epochs": 1, "parameters": parameters}))
        document: Document = read_document(path)
        return [problem.message for problem in check_space(document)[1]]

    assert any("a `when` keeps them apart" in told for told in problems())
    assert problems(when={"fold_in_steps": 20}) == []
