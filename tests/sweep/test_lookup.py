from __future__ import annotations

import pytest

from benchbed.data.card import find_card, load_card
from benchbed.errors import ConfigError, UnknownNameError
from benchbed.models.registry import BASELINES, baselines_of
from benchbed.sweep.lookup import find_benchmark, known_benchmarks, load_benchmark
from benchbed.sweep.preflight import all_models, preflight
from benchbed.sweep.protocol_words import protocol_words
from benchbed.workspace import Workspace

TEXT = """name: mine
dataset: bazaar
split: {kind: leave_one_out}
evaluation: {seen_items: exclude}
models: [gru4rec]
"""


@pytest.mark.parametrize("name", sorted(known_benchmarks()))
def test_every_shipped_benchmark_is_valid_and_says_its_protocol(name):
    loaded = load_benchmark(name)
    assert loaded.name == name
    words = protocol_words(loaded)
    assert all(word[0].isupper() or "@k" in word for word in words) and all(word.endswith(".") for word in words)
    assert any(loaded.evaluation.select_by in word for word in words)


def test_lookup_takes_a_path_a_folder_and_the_current_folder_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "reports" / "demo"
    folder.mkdir(parents=True)
    (folder / "benchmark.yaml").write_text(TEXT.replace("name: mine", "name: demo"))
    for name in ("demo", str(folder), folder / "benchmark.yaml"):
        assert load_benchmark(name).split.kind == "leave_one_out"
    with pytest.raises(UnknownNameError, match="demo"):
        find_benchmark("dmeo")


def test_a_benchmark_and_a_card_are_called_as_they_are_found(tmp_path):
    path = tmp_path / "reports" / "other" / "benchmark.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(TEXT)
    with pytest.raises(ConfigError, match=r"1:1: name: this is 'mine', and its folder is reports/other"):
        load_benchmark(path)
    assert load_benchmark(path.rename(path.with_name("mine.yaml"))).name == "mine"
    card = tmp_path / "datasets" / "other.yaml"
    card.parent.mkdir()
    card.write_text(find_card("bazaar").read_text())
    with pytest.raises(ConfigError, match=r"name: this is 'bazaar', and its file is datasets/other.yaml"):
        load_card(card)
    assert load_card(card.rename(tmp_path / "other.yaml")).name == "bazaar"


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("models", "search: {seed: 9223372036854775808}\nmodels", "search.seed"),
        ("models", "final: {seeds: [1, 9007199254740993]}\nmodels", "final.seeds[1]"),
        ("models", "final: {seeds: [-1]}\nmodels", "final.seeds[0]"),
        ("exclude", "exclude, seed: 9223372036854775808", "evaluation.seed"),
    ],
)
def test_seeds_that_training_and_storage_cannot_keep_are_refused(tmp_path, old, new, key):
    path = tmp_path / "b.yaml"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_benchmark(path)
    assert [problem.key for problem in caught.value.problems] == [key]


def test_names_of_models_and_datasets_are_checked_with_the_nearest(tmp_path):
    path = tmp_path / "b.yaml"
    path.write_text(TEXT.replace("gru4rec", "gru4rce").replace("bazaar", "bazar"))
    with pytest.raises(ConfigError) as caught:
        load_benchmark(path)
    assert [(p.line, p.suggestion) for p in caught.value.problems] == [(2, "bazaar"), (5, "gru4rec")]


def test_values_are_told_with_the_nearest_and_at_their_own_key(tmp_path):
    path = tmp_path / "b.yaml"
    rules = "{mode: sampled, seen_items: exclude, negatives: shiped, select_by: ndgc@20, cutoffs: [20, 2000]}"
    text = TEXT.replace("{seen_items: exclude}", rules).replace("leave_one_out", "leave_one_out, ties: fiel, seeds: [1, -2]")
    path.write_text(
        text + "resources: atuo\nsearch: {trials: true}\npublished: [{row: gru4rce, values: {ndcg@9: 1}, source: x}]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_benchmark(path)
    assert [(problem.key, problem.suggestion) for problem in caught.value.problems] == [
        ("split.ties", "file"),
        ("split.seeds[1]", None),
        ("evaluation.negatives", "shipped"),
        ("evaluation.select_by", "ndcg@20"),
        ("evaluation.cutoffs[1]", None),
        ("resources", "auto"),
        ("search.trials", None),
        ("published[0].row", "gru4rec"),
    ]


def test_a_benchmark_may_bring_search_spaces_of_its_own_and_they_win(tmp_path):
    (tmp_path / "search_spaces").mkdir()
    space = "model: ease\nmax_epochs: 1\nparameters:\n  regularisation: {choices: [10.0, 250.0], source: here}\n"
    for name in ("ease", "two_ridges"):
        (tmp_path / "search_spaces" / f"{name}.yaml").write_text(space)
    path = tmp_path / "b.yaml"
    path.write_text(TEXT.replace("[gru4rec]", "[ease, two_ridges]"))
    checked = preflight(load_benchmark(path), Workspace(tmp_path / "ws"))
    assert [checked.spaces[name].size() for name in ("ease", "two_ridges")] == [2, 2]
    path.write_text(TEXT.replace("[gru4rec]", "[two_rigdes]"))
    with pytest.raises(ConfigError, match="did you mean 'two_ridges'"):
        load_benchmark(path)


def test_baselines_are_added_once_unless_switched_off(tmp_path):
    path = tmp_path / "b.yaml"
    path.write_text(TEXT.replace("[gru4rec]", "[gru4rec, ease]"))
    models = all_models(load_benchmark(path))
    assert models[:2] == ("gru4rec", "ease") and set(models) == {"gru4rec", *BASELINES} and len(set(models)) == len(models)
    assert not any("No baseline" in word for word in protocol_words(load_benchmark(path)))
    for models, said in (("[gru4rec]", 1), ("[gru4rec, ease]", 0)):
        path.write_text(TEXT.replace("[gru4rec]", models) + "baselines: none\n")
        words = protocol_words(load_benchmark(path))
        assert words[-1 - said].startswith("No baseline is added") and sum("simple method" in word for word in words) == said
    path.write_text(TEXT + "baselines: none\n")
    assert all_models(load_benchmark(path)) == ("gru4rec",)


def test_preflight_tells_everything_that_is_wrong_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "gru4rec.yaml").write_text("model: gru4rec\nmax_epochs: 0\n")
    path = tmp_path / "b.yaml"
    path.write_text(TEXT.replace("bazaar", "ml-100k"))
    with pytest.raises(ConfigError) as caught:
        preflight(load_benchmark(path), Workspace(tmp_path / "ws"), ["ese"])
    text = str(caught.value)
    assert "not prepared" in text and "benchbed prepare ml-100k" in text
    assert "did you mean 'ease'" in text
    assert "max_epochs" in text


def test_a_simulated_dataset_needs_no_preparation_by_hand(tmp_path):
    path = tmp_path / "b.yaml"
    path.write_text(TEXT)
    checked = preflight(load_benchmark(path), Workspace(tmp_path / "ws"), ["ease"])
    assert checked.chosen == ("ease",) and set(checked.spaces) == set(checked.models)


def test_a_models_needs_are_asked_of_the_card(tmp_path, monkeypatch):
    from benchbed.models.ease import EASE

    path = tmp_path / "b.yaml"
    path.write_text(TEXT)
    workspace = Workspace(tmp_path / "ws")
    monkeypatch.setattr(EASE, "needs", frozenset({"item_features", "graph"}))
    preflight(load_benchmark(path), workspace)
    bare = tmp_path / "bare.yaml"
    bare.write_text(
        "name: bare\nsimulate: {name: bazaar, seed: 7, users: 60, items: 100, events: 1500}\n"
        "tables:\n  interactions:\n    reader: csv\n    files: [interactions.csv]\n"
        "    columns: {user: user, item: item, timestamp: timestamp}\n"
    )
    path.write_text(TEXT.replace("bazaar", str(bare)))
    with pytest.raises(ConfigError, match="ease needs graph") as caught:
        preflight(load_benchmark(path), workspace)
    assert "item features" in str(caught.value)


def test_baselines_fit_the_kind_of_split(tmp_path):
    """Sessions get their own nearest neighbours; where rows are drawn at random no model of the order runs."""
    path = tmp_path / "b.yaml"
    sessions = TEXT.replace("kind: leave_one_out", "kind: session")
    assert sessions != TEXT
    path.write_text(sessions)
    assert set(all_models(load_benchmark(path))) == {"gru4rec", *BASELINES, "session_knn"}
    assert "markov" in baselines_of("user_disjoint") and "markov" not in baselines_of("click_through")
    assert "session_knn" not in baselines_of("leave_one_out")
