"""The training loop: exact continuation, seeds, stopping, NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchbed.data.dataset import Ragged, Sequences, TrainingData
from benchbed.errors import ModelError
from benchbed.evaluation.protocol import Protocol
from benchbed.models.gru4rec import GRU4Rec
from benchbed.training.checkpoint import CHECKPOINT, UNREADABLE, best_file
from benchbed.training.fit import Fit, FitSpec, can_continue

PROTOCOL = Protocol(cutoffs=(5, 10), select_by="ndcg@10", seen_items="keep").model_dump(mode="json")
SMALL = {"embedding_size": 8, "hidden_size": 12, "batch_targets": 64, "window": 8, "burn_in": 4, "learning_rate": 0.02}


def spec(**changes: object) -> FitSpec:
    base = FitSpec("gru4rec", SMALL, seed=3, max_epochs=6, patience=None, seconds=None, protocol=PROTOCOL)
    return replace(base, **changes)  # type: ignore[arg-type]


def run(fit: Fit) -> list[tuple[float, float]]:
    while fit.finished is None:
        fit.step()
    return [(epoch.loss, epoch.value) for epoch in fit.history]


def weights(fit: Fit) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in fit.model.state_dict().items()}


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_continued_run_equals_an_uninterrupted_one(ring: TrainingData, tmp_path: Path, stop: int) -> None:
    whole = Fit(spec(), ring, folder=tmp_path / "whole")
    numbers = run(whole)
    torch.manual_seed(999)  # what else happens in the process must not matter
    first = Fit(spec(), ring, folder=tmp_path / "parts")
    for _ in range(stop):
        first.step()
    torch.rand(17)
    second = Fit(spec(), ring, folder=tmp_path / "parts")
    assert len(second.history) == stop
    assert run(second) == numbers
    for name, value in weights(whole).items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert whole.test(ring.valid).metrics == second.test(ring.valid).metrics


def test_a_kill_between_best_weights_and_checkpoint_changes_nothing(
    ring: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = Fit(spec(), ring, folder=tmp_path / "whole")
    reference.step()
    tested = reference.test(ring.valid).metrics
    whole = run(reference)
    fit = Fit(spec(), ring, folder=tmp_path / "parts")
    fit.step()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("benchbed.training.fit.write_checkpoint", interrupted)
        fit.step()
    assert fit.best is fit.history[1]  # its weights are on the disk, and do not count
    again = Fit(spec(), ring, folder=tmp_path / "parts")
    assert again.test(ring.valid).metrics == tested
    again = Fit(spec(), ring, folder=tmp_path / "parts")
    assert run(again) == whole
    assert again.best is not None
    assert [path.name for path in (tmp_path / "parts").glob("best-*")] == [best_file(again.best.number)]


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("broken", ["truncated", "empty", "garbage", "no best weights", "half of the best weights"])
def test_a_checkpoint_that_cannot_be_read_counts_as_none(ring: TrainingData, tmp_path: Path, broken: str) -> None:
    whole = run(Fit(spec(), ring, folder=tmp_path / "whole"))
    folder = tmp_path / "parts"
    fit = Fit(spec(), ring, folder=folder)
    fit.step(), fit.step()
    assert fit.best is not None and can_continue(folder)
    checkpoint, best = folder / CHECKPOINT, folder / best_file(fit.best.number)
    content = checkpoint.read_bytes()
    if broken == "no best weights":
        best.unlink()
    elif broken == "half of the best weights":
        best.write_bytes(best.read_bytes()[: best.stat().st_size // 2])
    else:
        content = {"truncated": content[: len(content) // 2], "empty": b"", "garbage": b"\x80\x02 no checkpoint"}[broken]
        checkpoint.write_bytes(content)
    assert not can_continue(folder)
    assert (folder / (CHECKPOINT + UNREADABLE)).read_bytes() == content
    again = Fit(spec(), ring, folder=folder)
    assert again.history == [] and run(again) == whole


def test_two_runs_in_one_process_do_not_disturb_each_other(ring: TrainingData, tmp_path: Path) -> None:
    alone = run(Fit(spec(), ring, folder=tmp_path / "alone"))
    a, b = Fit(spec(), ring, folder=tmp_path / "a"), Fit(spec(seed=4), ring, folder=tmp_path / "b")
    while a.finished is None:
        a.step()
        b.step()
    assert [(e.loss, e.value) for e in a.history] == alone


def test_seeds_matter_and_repeat(ring: TrainingData, tmp_path: Path) -> None:
    runs = [run(Fit(spec(seed=seed, max_epochs=2), ring, folder=tmp_path / str(n))) for n, seed in enumerate((3, 3, 5))]
    assert runs[0] == runs[1] != runs[2]


def test_the_loop_leaves_the_global_generator_alone(ring: TrainingData, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    run(Fit(spec(max_epochs=1), ring, folder=tmp_path))
    assert torch.equal(torch.rand(3), expected)


def test_it_learns_the_ring(make_ring: Callable[..., TrainingData], tmp_path: Path) -> None:
    data = make_ring(users=200)
    fit = Fit(spec(max_epochs=30), data, folder=tmp_path)
    run(fit)
    popular = Fit(spec(model="popularity", parameters={}), data, folder=tmp_path / "popularity")
    run(popular)
    assert fit.best is not None and popular.best is not None
    assert fit.best.metrics["recall@5"] > 0.5 > popular.best.metrics["recall@5"]
    assert popular.finished == "fitted"


def test_patience_counts_epochs_without_a_better_value(ring: TrainingData, tmp_path: Path) -> None:
    fit = Fit(spec(max_epochs=500, patience=3, parameters=SMALL | {"learning_rate": 0.1}), ring, folder=tmp_path)
    run(fit)
    assert fit.finished == "patience" and fit.best is not None
    assert len(fit.history) == fit.best.number + 3


def test_the_test_uses_the_best_epoch_not_the_last(ring: TrainingData, tmp_path: Path) -> None:
    fit = Fit(spec(max_epochs=40, parameters=SMALL | {"learning_rate": 0.1}), ring, folder=tmp_path)
    run(fit)
    assert fit.best is not None and fit.best.number < 40
    assert fit.test(ring.valid).metrics["ndcg@10"] == fit.best.value != fit.history[-1].value


def test_the_cap_of_seconds_ends_a_run_and_even_an_epoch(make_ring: Callable[..., TrainingData], tmp_path: Path) -> None:
    data = make_ring(users=400)
    fit = Fit(spec(max_epochs=10**6, seconds=0.05, parameters=SMALL | {"batch_targets": 1}), data, folder=tmp_path)
    run(fit)
    assert fit.finished == "seconds"
    assert len(fit.history) == 1 and fit.history[0].train_seconds < 1
    assert math.isfinite(fit.history[0].value)


@pytest.mark.parametrize(
    ("model", "parameters", "longest"),
    [("gru4rec", {}, 1), ("comirec_sa", {"variant": "article"}, 4), ("gru4rec", {"variant": "official", "n_negatives": 0}, 2)],
)
def test_a_model_that_nothing_trains_is_an_error_and_no_row(
    model: str, parameters: dict[str, object], longest: int, ring: TrainingData, tmp_path: Path
) -> None:
    # In-batch negatives alone need two sessions side by side: the third case has one.
    rows = [[1, 2, 3, 4][:longest], *([[5], [6]] if longest == 2 else [[5, 6, 7, 8][:longest]])]
    data = replace(ring, train=Sequences(np.arange(len(rows)), Ragged.of(rows)))
    with pytest.raises(ModelError, match=f"{model} finds nothing to learn from"):
        Fit(spec(model=model, parameters=parameters), data, folder=tmp_path).step()


def test_divergence_is_reported_as_nan(ring: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Fit(spec(), ring, folder=tmp_path)
    fit.step()
    healthy = GRU4Rec.loss
    monkeypatch.setattr(GRU4Rec, "loss", lambda self, batch: healthy(self, batch) * math.nan)
    epoch = fit.step()
    assert math.isnan(epoch.value) and fit.finished == "nan"
    assert fit.best is fit.history[0]
    with pytest.raises(ModelError, match="finished"):
        fit.step()


def test_a_last_update_that_diverges_ends_the_run_and_not_the_trial(
    ring: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = Fit(spec(), ring, folder=tmp_path)
    fit.step()
    expected = fit.test(ring.valid).metrics
    healthy = GRU4Rec.user_vectors
    monkeypatch.setattr(GRU4Rec, "user_vectors", lambda self, histories: healthy(self, histories) * math.nan)
    epoch = fit.step()
    assert math.isfinite(epoch.loss) and math.isnan(epoch.value) and fit.finished == "nan"
    monkeypatch.undo()
    assert fit.test(ring.valid).metrics == expected


def test_a_model_is_shown_no_validation_case(ring: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[TrainingData] = []
    make, bind = GRU4Rec.__init__, GRU4Rec.bind
    monkeypatch.setattr(GRU4Rec, "__init__", lambda self, config, data: (shown.append(data), make(self, config, data))[1])
    monkeypatch.setattr(GRU4Rec, "bind", lambda self, data, device: (shown.append(data), bind(self, data, device))[1])
    Fit(spec(), ring, folder=tmp_path)
    assert [len(data.valid) for data in shown] == [0, 0]
    assert all(data.train is ring.train for data in shown)


def test_coverage_is_that_of_the_deciding_cutoff(make_ring: Callable[..., TrainingData], tmp_path: Path) -> None:
    data = make_ring(items=180)
    protocol = Protocol(cutoffs=(180,), select_by="ndcg@180", seen_items="keep").model_dump(mode="json")
    fit = Fit(spec(model="popularity", parameters={}, protocol=protocol), data, folder=tmp_path)
    fit.step()
    assert fit.test(data.valid).facts["coverage"] == 1


def test_a_folder_of_another_run_is_refused(ring: TrainingData, make_ring: Callable[..., TrainingData], tmp_path: Path) -> None:
    Fit(spec(), ring, folder=tmp_path).step()
    for other, data in ((spec(seed=9), ring), (spec(), make_ring(seed=1))):
        with pytest.raises(ModelError, match="other settings or other data"):
            Fit(other, data, folder=tmp_path)


def test_more_epochs_continue_a_run_that_reached_its_cap(ring: TrainingData, tmp_path: Path) -> None:
    whole = run(Fit(spec(max_epochs=6), ring, folder=tmp_path / "whole"))
    run(Fit(spec(max_epochs=4), ring, folder=tmp_path / "parts"))
    assert run(Fit(spec(max_epochs=6), ring, folder=tmp_path / "parts")) == whole


def test_the_result_keeps_lists_and_ranks_case_by_case(ring: TrainingData, tmp_path: Path) -> None:
    fit = Fit(spec(max_epochs=1), ring, folder=tmp_path)
    run(fit)
    result = fit.test(ring.valid, top=7)
    frame = result.table.to_pandas()
    assert len(frame) == len(ring.valid)
    assert frame["ndcg@10"].mean() == pytest.approx(result.metrics["ndcg@10"])
    for row in range(5):
        target = ring.valid.targets[row][0]
        rank = frame["target_ranks"][row][0]
        assert (rank <= 7) == (target in frame["top_items"][row])
        assert np.all(np.diff(frame["top_scores"][row]) <= 0)
    assert 0 < result.facts["coverage"] <= 1
