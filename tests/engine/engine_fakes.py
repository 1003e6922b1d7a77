"""A training run without mathematics, with the interface of ``benchbed.training.fit``, that misbehaves on request."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchbed.workspace import replacing


@dataclass(frozen=True)
class FitSpec:
    model: str
    parameters: dict[str, Any]
    seed: int
    max_epochs: int
    patience: int | None
    seconds: float | None
    protocol: dict[str, Any]


@dataclass(frozen=True)
class Epoch:
    number: int
    value: float
    metrics: dict[str, float]
    loss: float
    seconds: float
    train_seconds: float
    validate_seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class FakeResult:
    metrics: ClassVar[dict[str, float]] = {"ndcg@20": 0.5}
    facts: ClassVar[dict[str, float]] = {"cases": 3.0}
    variety: ClassVar[dict[str, Any]] = {"curve": [{"lambda": 0.0, "diversity@20": 0.5}]}

    def write(self, path: Path) -> None:
        with replacing(path) as temporary:
            temporary.write_text("cases")


def can_continue(folder: Path) -> bool:
    try:
        return "history" in json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return False


class FakeFit:
    """The value of epoch k is rate * k / 100. ``behaviour`` is a word, sometimes with an epoch: ``die:2``."""

    def __init__(self, spec: FitSpec, data: Any, *, device: str, folder: Path) -> None:
        assert device == "cpu" and data is not None
        self.spec, self.folder, self.history, self.finished = spec, folder, [], None
        self.word, _, at = str(spec.parameters.get("behaviour", "")).partition(":")
        self.at = int(at or 1)
        if self.word == "refuse":
            raise ValueError("this configuration cannot be built")
        state = folder / "state.json"
        if can_continue(folder):
            kept = json.loads(state.read_text())
            self.history = [Epoch(**row) for row in kept["history"]]
            self.finished = kept["finished"]
        with (folder.parent / "processes.txt").open("a") as log:
            log.write(f"{os.getpid()} {len(self.history)}\n")

    @property
    def facts(self) -> dict[str, Any]:
        return {"parameters": 7, "peak_memory_mb": 1.0}

    def step(self) -> Epoch:
        time.sleep(float(self.spec.parameters.get("warmth", 0.0)) * 0.1)
        number = len(self.history) + 1
        value = self.spec.parameters.get("rate", 0.1) * number / 100
        now = number == self.at
        if self.word == "error" and now:
            raise ValueError("the model is wrong")
        if self.word == "memory" and now and "attempt-1" in str(self.folder):
            raise MemoryError
        if self.word == "hang" and now:
            time.sleep(1000)
        if self.word == "nan" and now:
            value = math.nan
        epoch = Epoch(number, value, {"ndcg@20": value}, 1.0, 0.01, 0.01, 0.0)
        self.history.append(epoch)
        if math.isnan(value):
            self.finished = "nan"
        elif number >= self.spec.max_epochs:
            self.finished = "max_epochs"
        with replacing(self.folder / "state.json") as temporary:
            temporary.write_text(json.dumps({"history": [e.to_json() for e in self.history], "finished": self.finished}))
        if self.word == "die" and now and "attempt-1" in str(self.folder):
            os._exit(1)
        if self.word == "always_die" and now:
            os._exit(1)
        return epoch

    def test(self, cases: Any) -> FakeResult:
        assert cases == "the cases"
        return FakeResult()


def open_fake_vault(
    split_folder: Path, protocol: Any, *, model: str, seed: int, by: dict[str, Any], sweep: str, fingerprint: str
) -> str:
    assert fingerprint  # of the training data, whatever they are
    with (Path(split_folder) / "openings.txt").open("a") as log:
        log.write(f"{model} {seed} {sweep}\n")
    return "the cases"
