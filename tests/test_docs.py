"""The documentation: its files are valid, its example runs, it names every key and no command that does not exist."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

import benchbed.models
from benchbed.cli.app import app
from benchbed.cli.validate import validate
from benchbed.data import card, fields
from benchbed.data.dataset import TrainingData
from benchbed.data.simulate import SimulateSpec
from benchbed.data.split.spec import SplitSpec
from benchbed.errors import ConfigError
from benchbed.evaluation.protocol import Diversity, Protocol
from benchbed.models.registry import MODELS
from benchbed.search import space
from benchbed.sweep import benchmark
from benchbed.testing import ModelSuite

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

WHOLE = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
"""A block that is a whole file, with the path it is meant for."""


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def write_files(name: str, folder: Path) -> list[Path]:
    """Every whole file of a page, under a folder."""
    made = []
    for path, body in WHOLE.findall(text_of(name)):
        made.append(folder / path)
        made[-1].parent.mkdir(parents=True, exist_ok=True)
        made[-1].write_text(body, encoding="utf-8")
    return made


@pytest.fixture
def history_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model of the example, as if it had been added; returns the folder of the page's files."""
    write_files("docs/add-a-model.md", tmp_path)
    line = re.search(
        r"<!-- line of: benchbed/models/registry.py -->\n```python\n(.*?)```", text_of("docs/add-a-model.md"), re.S
    )
    assert line is not None
    folders = [*benchbed.models.__path__, str(tmp_path / "benchbed/models")]
    monkeypatch.setattr(benchbed.models, "__path__", folders)
    for name, reference in yaml.safe_load("{" + line[1] + "}").items():
        monkeypatch.setitem(MODELS, name, reference)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_yaml_files_are_valid(name: str, history_mean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(history_mean)  # names of cards and models in these files are found from here
    validate([path for path in write_files(name, history_mean) if path.suffix == ".yaml"])


@pytest.mark.parametrize("page", ["dataset-card", "benchmark-file", "search-space", "add-a-model", "../README"])
def test_pages_show_whole_files(page: str) -> None:
    assert any(path.endswith(".yaml") for path, _ in WHOLE.findall(text_of(f"docs/{page}.md")))


@pytest.mark.parametrize("name", NAMES)
def test_all_other_yaml_is_yaml(name: str) -> None:
    for block in re.findall(r"^```yaml\n(.*?)^```$", text_of(name), flags=re.DOTALL | re.MULTILINE):
        assert isinstance(yaml.safe_load(block), dict)


def load(path: Path) -> dict[str, Any]:
    """The names of a file of tests."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)


def test_the_example_model_passes_its_own_tests(history_mean: Path, ring: TrainingData) -> None:
    names = load(history_mean / "tests/models/test_history_mean.py")
    tests = {name: test for name, test in names.items() if name.startswith("test_")}
    assert len(tests) == 2
    fixtures: dict[str, Any] = {"ring": ring, "tmp_path": history_mean / "run"}
    for test in tests.values():
        test(**{name: fixtures[name] for name in inspect.signature(test).parameters})


def run_suite(suite: type[ModelSuite], folder: Path) -> None:
    """What pytest would run, here: the example's model exists in this process only."""
    for name in (name for name in dir(suite) if name.startswith("test_")):
        check = getattr(suite(), name)
        keys = list(suite.model.Config.model_fields) if "hyper_parameter" in inspect.signature(check).parameters else [None]
        for key in keys:
            given = {"hyper_parameter": key, "tmp_path": folder / suite.__name__ / name}
            check(**{argument: given[argument] for argument in inspect.signature(check).parameters})


def test_the_example_model_passes_the_suite(history_mean: Path, tmp_path: Path) -> None:
    run_suite(load(history_mean / "tests/testing/test_suite_history_mean.py")["TestHistoryMean"], tmp_path / "runs")


def test_the_example_of_the_suite_runs(tmp_path: Path) -> None:
    (path,) = write_files("docs/model-suite.md", tmp_path)
    names = load(path)
    assert issubclass(names["TestSASRec"], ModelSuite) and names["TestSASRec"].model.name == "sasrec"
    run_suite(names["TestSASRec"], tmp_path / "runs")
    names["TestMarkov"]().test_every_hyper_parameter_matters("decay")


def schemas(module: Any) -> list[type[BaseModel]]:
    """The schemas that a module defines."""
    found = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, BaseModel)]
    return [one for one in found if one.__module__ == module.__name__]


@pytest.mark.parametrize(
    ("name", "described"),
    [
        ("docs/dataset-card.md", [*schemas(card), *schemas(fields), SimulateSpec]),
        ("docs/search-space.md", schemas(space)),
        ("docs/benchmark-file.md", [*schemas(benchmark), SplitSpec, Protocol, Diversity]),
    ],
)
def test_every_key_is_described(name: str, described: list[type[BaseModel]]) -> None:
    text = re.sub(r"^```.*?^```$", "", text_of(name), flags=re.DOTALL | re.MULTILINE)
    keys = {word for span in re.findall(r"`([^`]+)`", text) for word in re.findall(r"\w+", span)}
    missing = {f"{schema.__name__}.{key}" for schema in described for key in schema.model_fields if key not in keys}
    assert len(described) > 2 and not missing


def test_the_benchmark_with_every_key_shows_the_defaults() -> None:
    files = dict(WHOLE.findall(text_of("docs/benchmark-file.md")))
    written = yaml.safe_load(files["reports/long/benchmark.yaml"])
    blocks = {"split": SplitSpec, "evaluation": Protocol, "search": benchmark.SearchBudget, "final": benchmark.FinalStage}
    assert list(written) == list(benchmark.Benchmark.model_fields)
    idle = {"evaluation": {"average": "users", "flawed_negatives": "drop"}}  # refused where they stand in the file
    for key, values in idle.items():
        assert all(
            re.search(rf"^  # {name}: {value} ", files["reports/long/benchmark.yaml"], re.M) for name, value in values.items()
        )
        written[key] |= values
    for key, schema in blocks.items():
        assert set(written[key]) == set(schema.model_fields), key
    long = benchmark.Benchmark.model_validate(written)
    shortest = {"name": "long", "dataset": "bazaar", "models": ["gru4rec"]}
    bare = benchmark.Benchmark.model_validate(
        shortest | {"split": {"kind": "user_disjoint"}, "evaluation": {"seen_items": "exclude"}}
    )
    assert long.split.identity(42) == bare.split.identity(42)
    assert long.model_copy(update={"split": bare.split}) == bare


def test_the_mistakes_in_the_readme_are_told_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_files("README.md", tmp_path)
    path = Path("shop-benchmark.yaml")
    broken = path.read_text().replace("user_disjoint", "user_disjont").replace(", seen_items: exclude", "")
    path.write_text(broken.replace("gru4rec", "gru4rce"))
    with pytest.raises(ConfigError) as caught:
        validate([path])
    shown = re.search(r"```text\nerror: (.*?)^```$", text_of("README.md"), flags=re.DOTALL | re.MULTILINE)
    assert shown is not None
    pattern = re.escape(shown[1].strip()).replace(re.escape("..."), ".*")
    assert re.fullmatch(pattern, str(caught.value)), caught.value


@pytest.mark.parametrize("name", NAMES)
def test_commands_exist(name: str) -> None:
    verbs = {command.name for command in app.registered_commands}
    text = text_of(name)
    shown = re.findall(r"^\$ benchbed ([a-z]+)|&& benchbed ([a-z]+)|`benchbed ([a-z]+)", text, flags=re.MULTILINE)
    assert {verb for found in shown for verb in found if verb} <= verbs


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"(?<!!)\[[^\]]+\]\(([^)]+)\)", text_of(name)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        page = (ROOT / name).parent / path if path else ROOT / name
        assert page.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles], target
