"""What stops a sweep before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchbed.errors import ConfigError
from benchbed.evaluation.protocol import Diversity
from benchbed.search.space_file import find_space
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.lookup import load_benchmark
from benchbed.sweep.preflight import preflight
from benchbed.sweep.protocol_words import protocol_words
from benchbed.workspace import Workspace


def test_a_search_space_of_another_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo, ease = load_benchmark("demo"), find_space("ease").read_text()
    monkeypatch.chdir(tmp_path)
    workspace = Workspace.open(tmp_path / "workspace")
    assert preflight(demo, workspace).spaces["gru4rec"].model == "gru4rec"
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces/gru4rec.yaml").write_text(ease)
    with pytest.raises(ConfigError, match=r"search_spaces/gru4rec\.yaml.*taken for the model 'gru4rec'.*of 'ease'"):
        preflight(demo, workspace)


def test_the_ceiling_is_that_of_unseen_items(tmp_path: Path) -> None:
    demo, workspace = load_benchmark("demo"), Workspace.open(tmp_path)
    with_oracle = demo.model_copy(update={"models": ("oracle",)})
    assert "oracle" in preflight(with_oracle, workspace).chosen
    kept = demo.evaluation.model_copy(update={"seen_items": "keep"})
    with pytest.raises(ConfigError, match="oracle is the ceiling of `seen_items: exclude` alone"):
        preflight(with_oracle.model_copy(update={"evaluation": kept}), workspace)


def test_diversity_needs_a_categorical_feature_of_the_dataset(tmp_path: Path) -> None:
    demo, workspace = load_benchmark("demo"), Workspace.open(tmp_path)
    for feature in ("category", "tags"):
        said = demo.evaluation.model_copy(update={"diversity": Diversity(feature=feature)})
        assert preflight(demo.model_copy(update={"evaluation": said}), workspace).card.name == "bazaar"
    said = demo.evaluation.model_copy(update={"diversity": Diversity(feature="catgory")})
    with pytest.raises(ConfigError, match=r"category, brand, tags; 'catgory' is not among them") as caught:
        preflight(demo.model_copy(update={"evaluation": said}), workspace)
    assert caught.value.problems[0].suggestion == "category"


def test_models_of_the_order_are_refused_where_a_split_leaves_none(tmp_path):
    split, evaluation = {"kind": "click_through"}, {"mode": "click_through"}
    asked = {"name": "x", "dataset": "bazaar", "split": split, "evaluation": evaluation, "models": ["mkr", "markov", "gru4rec"]}
    with pytest.raises(ConfigError) as refused:
        preflight(Benchmark(**asked), Workspace.open(tmp_path))
    assert str(refused.value).count("learns from the order of events") == 2 and "mkr learns" not in str(refused.value)


def test_models_of_the_order_are_refused_where_chance_made_it_and_markov_is_left_out_with_words(tmp_path: Path) -> None:
    """The order of a log without times is chance under ``ties: hash``, and is known under ``ties: file``."""
    (tmp_path / "bare.yaml").write_text(
        "name: bare\ntables:\n  interactions:\n    files: [a.csv, b.csv]\n"
        "    columns: {user: u, item: i, extra: {part: {kind: file}}}\n"
    )
    workspace = Workspace.open(tmp_path / "ws")
    workspace.dataset("bare").mkdir(parents=True)
    (workspace.dataset("bare") / "manifest.json").write_text("{}")

    def asked(ties: str, *models: str) -> Benchmark:
        split = {"kind": "leave_one_out", "test": "column: part", "ties": ties}
        said = {"name": "x", "dataset": str(tmp_path / "bare.yaml"), "split": split, "evaluation": {"seen_items": "exclude"}}
        return Benchmark.model_validate({**said, "models": models})

    found = preflight(asked("hash", "mf_bpr"), workspace)
    assert found.models == ("mf_bpr", "popularity", "item_knn", "ease", "ials") == found.chosen
    assert set(found.spaces) == set(found.models)
    assert set(found.left_out) == {"markov"} and "'bare' has no times" in found.left_out["markov"]
    words = protocol_words(asked("hash", "mf_bpr"), found.left_out, timed=False)
    assert "markov" not in words[-1] and "one other event of such a user is the validation target" in words[0]
    assert "is a hash of split seed, user and item" in words[1]
    assert "the last other event" in protocol_words(asked("file", "mf_bpr"), timed=False)[0]
    for models, chosen in ((("mf_bpr", "gru4rec"), None), (("mf_bpr", "markov"), None), (("mf_bpr",), ["markov"])):
        with pytest.raises(ConfigError, match=r"(gru4rec|markov) learns from the order of events, and .* leaves it to chance"):
            preflight(asked("hash", *models), workspace, chosen)
    assert "markov" in preflight(asked("file", "mf_bpr", "gru4rec"), workspace).models
