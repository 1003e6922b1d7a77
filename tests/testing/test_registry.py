"""Every model of the registry, and every variant of it, stands under the suite; and each of its keys is varied somewhere."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from benchbed.models.base import ModelConfig, Recommender
from benchbed.models.registry import MODELS, model_class
from benchbed.testing import ModelSuite

NAMES = [name for name in MODELS if not model_class(name).ceiling]
"""All models but a ceiling, which knows the truth and is none."""

FILES = sorted(Path(__file__).parent.glob("test_suite_*.py"))


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"registered_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def suites() -> list[type[ModelSuite]]:
    """The classes that pytest runs."""
    found = [value for path in FILES for name, value in vars(module(path)).items() if name.startswith("Test")]
    return [value for value in found if inspect.isclass(value) and issubclass(value, ModelSuite)]


def variants(kind: type[Recommender]) -> set[str]:
    """The presets a model offers; the empty name where there is one form only."""
    field = kind.Config.model_fields.get("variant")
    return set(get_args(field.annotation)) if field is not None else {""}


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_of_every_model_has_a_suite(name: str) -> None:
    kind = model_class(name)
    configs = [suite.model.Config.model_validate(dict(suite.parameters)) for suite in suites() if suite.model is kind]
    assert {getattr(config, "variant", "") for config in configs} == variants(kind)


@pytest.mark.parametrize("name", NAMES)
def test_no_key_is_refused_everywhere(name: str) -> None:
    kind = model_class(name)
    of_this = [suite for suite in suites() if suite.model is kind]
    nowhere = set(kind.Config.model_fields).intersection(*(suite.refused for suite in of_this))
    assert not nowhere, f"no suite varies {sorted(nowhere)}"


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_described(name: str) -> None:
    kind = model_class(name)
    pages = [each.__doc__ or "" for each in kind.Config.__mro__ if issubclass(each, ModelConfig)]
    described = set(re.findall(r"\w+", " ".join(pages)))
    assert set(kind.Config.model_fields) <= described
