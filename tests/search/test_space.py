from __future__ import annotations

import itertools
from pathlib import Path

import optuna
import pytest
from search_fakes import fake_models, space

from benchbed.errors import ConfigError, UnknownNameError
from benchbed.models.registry import MODELS
from benchbed.search.space import Range
from benchbed.search.space_file import find_space, load_space


@pytest.fixture(autouse=True)
def _models():
    with fake_models():
        yield


def write(folder: Path, text: str) -> Path:
    path = folder / "space.yaml"
    path.write_text(text)
    return path


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_space(write(folder, text))
    return [str(problem) for problem in caught.value.problems]


def draw(made, **fixed):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    if fixed:
        study.enqueue_trial(fixed)
    return made.suggest(study.ask())


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_has_a_shipped_space_that_is_valid_and_holds_its_defaults(name):
    if name in ("fake", "other", "counting"):
        pytest.skip("a model of these tests")
    made = load_space(find_space(name))
    assert made.model == name
    assert made.default_labels().keys() <= made.dimensions.keys()
    assert all(dimension.source for dimension in made.dimensions.values())


def test_the_current_folder_wins_over_the_shipped_spaces(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    own = tmp_path / "search_spaces" / "ease.yaml"
    own.write_text("model: ease\nmax_epochs: 1\n")
    assert find_space("ease").resolve() == own
    assert find_space("markov") != own


def test_an_unknown_space_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="ease"):
        find_space("eease")


def test_every_mistake_of_a_file_is_told_at_once_with_its_line(tmp_path):
    found = mistakes(
        tmp_path,
        "model: fake\nmax_epochs: 3\nparameters:\n"
        "  rat: {low: 0.1, high: 1.0, source: x}\n"
        "  depth: {low: 4, high: 2, source: x}\n"
        "  width: {choices: [8], source: x}\n"
        "  warmth: {low: 0, high: 1, log: true, source: x}\n"
        "  heads: {low: 1, high: 2}\n",
    )
    text = "\n".join(found)
    assert ":4:" in text and "did you mean 'rate'" in text
    assert ":5:" in text and "smaller than high" in text
    assert ":6:" in text and "single choice" in text
    assert ":7:" in text and "above 0" in text
    assert ":8:" in text and "source" in text


def test_values_that_the_config_refuses_are_named(tmp_path):
    found = mistakes(
        tmp_path,
        "model: fake\nmax_epochs: 3\nparameters:\n  rate: {low: 0.01, high: 2.0, source: x}\n"
        "  depth: {choices: [1, 2, 9], source: x}\n",
    )
    assert any("parameters.rate.high" in one and "2.0" in one for one in found)
    assert any("parameters.depth.choices[2]" in one for one in found)
    assert len(found) == 2


def test_wrong_values_are_told_at_their_own_key_in_the_words_of_the_file_with_the_nearest(tmp_path):
    found = mistakes(
        tmp_path,
        "model: convncf\nmax_epochs: true\n"
        "defaults: {geometry: atuo, penalty: norms, dns: many, dropout: 1.5, batch_size: true, kernels: [4], lr_embed: 1}\n",
    )
    assert [each.partition("space.yaml:")[2] for each in found] == [
        "2:1: max_epochs: expected a whole number (it is true)",
        "3:12: defaults.geometry: expected auto or a list (it is 'atuo'); did you mean 'auto'?",
        "3:28: defaults.penalty: 'norms' is not one of squared, norm; did you mean 'norm'?",
        "3:44: defaults.dns: expected a whole number (it is 'many')",
        "3:55: defaults.dropout: expected a number below 1 (it is 1.5)",
        "3:69: defaults.batch_size: expected a whole number (it is true)",
        # not 'channels', which looks alike: what another library calls so has another name here
        "3:87: defaults.kernels: the model has no hyper-parameter 'kernels'; cnn_kernels is called geometry here",
        "3:101: defaults.lr_embed: lr_embed is called learning_rate here",
    ]
    found = mistakes(
        tmp_path,
        "model: convncf\nmax_epochs: 3\nparameters:\n"
        "  geometry: {choices: [auto, [2, two], 8], source: x}\n  optimizer: {choices: [adagrad, adm], source: x}\n"
        "joint:\n  both: {choices: {a: {dropout: 0.0, dns: 1}, b: {dropout: 0.1, dns: 0}}, source: x}\n",
    )
    assert [each.partition("space.yaml:")[2] for each in found] == [
        "4:34: parameters.geometry.choices[1][1]: expected a whole number (it is 'two')",
        "4:40: parameters.geometry.choices[2]: expected auto or a list (it is 8)",
        "5:34: parameters.optimizer.choices[1]: 'adm' is not one of adagrad, adam; did you mean 'adam'?",
        "7:65: joint.both.choices.b.dns: expected 1 or more (it is 0)",
    ]


def test_values_that_the_config_refuses_together_are_named_unless_a_condition_keeps_them_apart(tmp_path):
    text = """model: gru4rec
max_epochs: 2
parameters:
  burn_in: {low: 0, high: 50, source: here%s}
  batching: {choices: [windows, prefixes], source: here}
"""
    (said,) = mistakes(tmp_path, text % "")
    assert "5:3: parameters.batching: the model refuses 'prefixes' together with burn_in: 50: burn_in has no effect" in said
    assert load_space(write(tmp_path, text % ", when: {batching: windows}")).size() == 52


def test_joint_choices_are_checked_together_and_own_their_parameters(tmp_path):
    head = "model: fake\nmax_epochs: 3\n"
    joint = "joint:\n  size:\n    source: x\n    choices:\n      a: {{width: 8, heads: 2}}\n      b: {{width: {0}, heads: 3}}\n"
    assert load_space(write(tmp_path, head + joint.format(9))).size() == 2
    (refused,) = mistakes(tmp_path, head + joint.format(8))
    assert "joint.size.choices.b" in refused and "multiple of heads" in refused
    both = mistakes(tmp_path, head + "parameters:\n  width: {low: 1, high: 9, source: x}\n" + joint.format(9))
    assert all("two dimensions" in one for one in both)


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("{dept: 2}", "did you mean 'depth'"),
        ("{depth: 7}", "never is 7"),
        ("{rate: 0.1}", "not another searched dimension"),
    ],
)
def test_conditions_must_name_another_dimension_and_a_value_it_has(tmp_path, condition, said):
    text = (
        "model: fake\nmax_epochs: 3\nparameters:\n  depth: {choices: [2, 3], source: x}\n"
        f"  rate: {{low: 0.01, high: 1.0, source: x, when: {condition}}}\n"
    )
    assert said in "\n".join(mistakes(tmp_path, text))


def test_conditions_that_wait_for_each_other_are_refused(tmp_path):
    text = (
        "model: fake\nmax_epochs: 3\nparameters:\n"
        "  depth: {choices: [2, 3], source: x, when: {heads: 2}}\n  heads: {choices: [2, 4], source: x, when: {depth: 2}}\n"
    )
    assert "wait for each other" in "\n".join(mistakes(tmp_path, text))


def test_defaults_must_lie_in_what_is_searched(tmp_path):
    text = "model: fake\nmax_epochs: 3\nparameters:\n  rate: {low: 0.2, high: 1.0, source: x}\n"
    assert "outside of what is searched" in "\n".join(mistakes(tmp_path, text))
    assert load_space(write(tmp_path, text + "defaults: {rate: 0.5}\n")).default_labels() == {"rate": 0.5}


def test_a_wrong_variant_and_epochs_of_a_closed_form_are_refused(tmp_path):
    assert "not 'fancy'" in mistakes(tmp_path, "model: fake\nmax_epochs: 3\nvariant: fancy\n")[0]
    assert "one pass" in mistakes(tmp_path, "model: counting\nmax_epochs: 3\n")[0]


CONDITIONAL = {
    "depth": {"choices": [2, 3, 4], "source": "x"},
    "heads": {"choices": [1, 2], "source": "x", "when": {"depth": [3, 4]}},
    "warmth": {"low": 0.0, "high": 0.5, "step": 0.25, "source": "x", "when": {"heads": 2}},
}


def test_size_counts_what_conditions_leave_and_configurations_lists_it():
    made = space(parameters=CONDITIONAL)
    by_hand = [{"depth": 2}]
    for depth in (3, 4):
        by_hand.append({"depth": depth, "heads": 1})
        by_hand += [{"depth": depth, "heads": 2, "warmth": value} for value in (0.0, 0.25, 0.5)]
    assert made.size() == len(by_hand) == 9
    assert list(made.configurations()) == by_hand


def test_size_is_none_only_where_there_is_no_end():
    assert space().size() is None
    assert space(parameters={}).size() == 1
    assert space(parameters={"depth": {"low": 1, "high": 8, "source": "x"}}).size() == 8
    assert space(parameters={"rate": {"low": 0.1, "high": 1.0, "step": 0.1, "source": "x"}}).size() == 10


def test_every_drawn_configuration_is_one_of_the_listed_ones():
    made = space(parameters=CONDITIONAL)
    listed = [tuple(sorted(labels.items())) for labels in made.configurations()]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = {tuple(sorted(made.suggest(study.ask()).items())) for _ in range(200)}
    assert drawn == set(listed)


def test_labels_become_parameters_joint_choices_and_lists_included():
    made = space(
        parameters={"layers": {"choices": [[8, 4], [16]], "source": "x"}},
        joint={"size": {"choices": {"a": {"width": 8, "heads": 2}, "b": {"width": 9, "heads": 3}}, "source": "x"}},
        defaults={"kind": "plain"},
    )
    assert made.default_labels() == {"layers": "[8,4]", "size": "a"}
    assert made.to_parameters({"layers": "[16]", "size": "b"}) == {"kind": "plain", "layers": [16], "width": 9, "heads": 3}
    assert set(draw(made)) == {"layers", "size"}


def test_whole_numbers_stay_whole_and_a_number_may_be_written_without_a_point():
    made = space(
        parameters={"depth": {"low": 1, "high": 8, "source": "x"}, "warmth": {"low": 0, "high": 1, "source": "x"}},
        defaults={"depth": 2},
    )
    labels = draw(made)
    assert isinstance(labels["depth"], int) and isinstance(labels["warmth"], float)


def test_the_fingerprint_follows_what_is_searched_and_not_what_is_said():
    base = space()
    reworded = space(parameters={"rate": {"low": 1e-3, "high": 1.0, "log": True, "source": "other words"}})
    wider = space(parameters={"rate": {"low": 1e-4, "high": 1.0, "log": True, "source": "test"}})
    prints = [made.fingerprint for made in (base, reworded, wider, space(defaults={"depth": 3}), space(patience=3))]
    assert prints[0] == prints[1]
    assert all(a != b for a, b in itertools.combinations(prints[1:], 2))


def test_a_high_end_that_the_steps_never_reach_is_refused():
    for low, high, step in ((0.0, 0.5, 0.1), (0.1, 1.0, 0.1), (5, 25, 10)):
        Range(low=low, high=high, step=step, source="x")
    with pytest.raises(ValueError, match=r"high \(0.95\) is never reached: steps of 0.1 end at 0.9"):
        Range(low=0, high=0.95, step=0.1, source="x")
