from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "search"))
sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

from driver import lay_out
from search_fakes import fake_models

from benchbed.errors import BenchbedError, ModelError, ResourceError, TrackingError
from benchbed.sweep.lookup import load_benchmark
from benchbed.sweep.stages import run_sweep
from benchbed.workspace import Workspace


@pytest.fixture
def place(tmp_path, monkeypatch):
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with fake_models():
        yield Workspace(tmp_path / "ws")


def refused(place: Workspace, kind: type[BenchbedError]) -> BenchbedError:
    with pytest.raises(kind) as caught:
        run_sweep(load_benchmark("crash"), place)
    return caught.value


@pytest.mark.parametrize("asked", ["{cpu: 4096}", "{gpu: 64}"])
def test_what_no_machine_has_is_refused_before_anything_is_recorded(place, asked):
    path = Path("reports/crash/benchmark.yaml")
    path.write_text(path.read_text().replace("{cpu: 1}", asked))
    assert "no machine has them" in str(refused(place, ResourceError))
    assert not place.sweep("crash").exists()
    assert not place.mlflow_database.exists()


@pytest.mark.parametrize("uri", ["foo://x", "htp://tracking:5000"])
def test_a_store_that_can_never_work_is_refused_before_the_start(place, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    error = refused(place, TrackingError)
    assert uri in str(error) and "MLFLOW_TRACKING_URI" in str(error) and error.exit_code == 2
    assert not place.sweep("crash").exists()


def test_a_catalogue_that_a_model_cannot_hold_is_refused_before_the_start(place, monkeypatch):
    monkeypatch.setattr("benchbed.models.ease.LARGEST", 4)
    path = Path("reports/crash/benchmark.yaml")
    path.write_text(path.read_text().replace("[fake, other, counting]", "[fake, ease]"))
    assert "up to 4 items" in str(refused(place, ModelError))
    assert not place.sweep("crash").exists()


def test_what_a_row_lacks_in_the_data_is_refused_before_anything_is_recorded(place):
    path, spaces = Path("reports/crash/benchmark.yaml"), Path("search_spaces")
    path.write_text(path.read_text().replace("[fake, other, counting]", "[fake, greedy, more_greedy]"))
    for name, number in (("greedy", 5000), ("more_greedy", 6000)):
        space = f"model: comirec_sa\nmax_epochs: 1\ndefaults: {{n_negatives: {number}}}\n"
        (spaces / f"{name}.yaml").write_text(space)
    told = str(refused(place, ModelError))
    assert "greedy: " in told and "more_greedy: " in told and "5000" in told and "6000" in told
    assert not place.mlflow_database.exists()
