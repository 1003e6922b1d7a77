"""A model without mathematics, a recorder in memory, and plans made of them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import Field, model_validator

from benchbed.models import registry
from benchbed.models.base import ModelConfig
from benchbed.search.plans import SearchPlan
from benchbed.search.recorder import RunKey
from benchbed.search.space import SearchSpace

HERE = __name__


class FakeConfig(ModelConfig):
    """Fields of every kind that a search space can vary."""

    rate: float = Field(0.1, gt=0, le=1)
    depth: int = Field(2, ge=1, le=8)
    width: int = Field(8, ge=1)
    heads: int = Field(2, ge=1)
    kind: str = "plain"
    warmth: float = Field(0.5, ge=0, le=1)
    layers: tuple[int, ...] = (8, 4)
    behaviour: str = ""

    @model_validator(mode="after")
    def _fits(self) -> FakeConfig:
        if self.width % self.heads:
            raise ValueError("width must be a multiple of heads")
        return self


class FakeModel:
    """What search asks of a model class."""

    name = "fake"
    Config = FakeConfig
    trained_by = "gradient"
    ceiling = False
    user_mode = "inductive"
    reference = "None: it does not learn."
    needs: ClassVar[frozenset[str]] = frozenset()
    labelled_only: ClassVar[dict[str, Any]] = {}
    full_ranking_only: ClassVar[dict[str, Any]] = {}

    def __init__(self, config: FakeConfig, data: Any) -> None:
        """Every dataset will do."""

    @classmethod
    def variant(cls, config: FakeConfig) -> str:
        return config.kind

    @classmethod
    def check(cls, n_items: int) -> None:
        """Every catalogue fits."""


class CountingModel(FakeModel):
    trained_by = "counting"


@contextmanager
def fake_models():
    """Models named fake, other and counting, for as long as the block lasts."""
    added = {"fake": f"{HERE}:FakeModel", "other": f"{HERE}:FakeModel", "counting": f"{HERE}:CountingModel"}
    registry.MODELS.update(added)
    try:
        yield
    finally:
        for name in added:
            del registry.MODELS[name]


class MemoryRecorder:
    """Keeps what it is told; repeated calls are told apart in ``calls``."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.runs: dict[str, dict[str, Any]] = {}

    def opened(self, key: RunKey, facts: dict[str, Any]) -> None:
        self.calls.append(("opened", str(key)))
        self.runs.setdefault(str(key), {"state": "RUNNING", "value": None, "steps": [], "facts": facts})

    def epochs(self, key: RunKey, epochs: list[dict[str, Any]]) -> None:
        self.calls.append(("epochs", str(key)))
        steps = self.runs[str(key)]["steps"]
        steps += [epoch["number"] for epoch in epochs if epoch["number"] not in steps]

    def closed(self, key: RunKey, state: str, facts: dict[str, Any]) -> None:
        self.calls.append(("closed", str(key)))
        self.runs[str(key)] |= {"state": state, "value": facts.get("value"), "closing": facts}

    def known(self) -> dict[str, dict[str, Any]]:
        return {key: {name: one[name] for name in ("state", "value", "steps")} for key, one in self.runs.items()}


def space(**changes: Any) -> SearchSpace:
    made: dict[str, Any] = {
        "model": "fake",
        "max_epochs": 9,
        "parameters": {"rate": {"low": 1e-3, "high": 1.0, "log": True, "source": "test"}},
    }
    return SearchSpace.model_validate(made | changes)


def plan(made: SearchSpace | None = None, **changes: Any) -> SearchPlan:
    made = made or space()
    values: dict[str, Any] = {
        "model": made.model,
        "split_seed": 42,
        "split_id": "split",
        "protocol": "p",
        "variant": "plain",
        "max_epochs": made.max_epochs,
        "patience": None,
        "space": made,
        "trials": 6,
        "pruner": "none",
    }
    return SearchPlan(**(values | changes))


def rows(*values: float, start: int = 1) -> list[dict[str, Any]]:
    return [{"number": start + i, "value": value, "seconds": 1.0} for i, value in enumerate(values)]
