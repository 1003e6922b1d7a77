"""Before a sweep: everything that would stop it later, all at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from benchbed.config import dotted
from benchbed.data.card import Card, load_card
from benchbed.errors import BenchbedError, ConfigError, Problem, UnknownNameError, nearest
from benchbed.models.registry import MODELS, UNORDERED_SPLITS, baselines_of, model_class
from benchbed.search.space import SearchSpace
from benchbed.search.space_file import find_space, load_space
from benchbed.sweep.asked_of_card import unmet
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.suitability import unsuitable
from benchbed.workspace import Workspace


@dataclass(frozen=True)
class Checked:
    """What a sweep works with.

    Attributes
    ----------
    card
        Of the dataset.
    models
        All rows of the benchmark, baselines last.
    chosen
        The rows to run now.
    spaces
        Row -> search space, for all of them.
    left_out
        Baselines that the benchmark does not name and that cannot hold the catalogue, with the reason.
    """

    card: Card
    models: tuple[str, ...]
    chosen: tuple[str, ...]
    spaces: dict[str, SearchSpace]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def without(self, reasons: Mapping[str, str]) -> Checked:
        """The same without some baselines."""
        kept = tuple(name for name in self.models if name not in reasons)
        return replace(
            self,
            models=kept,
            chosen=tuple(name for name in self.chosen if name in kept),
            spaces={name: self.spaces[name] for name in kept},
            left_out={**self.left_out, **reasons},
        )


def all_models(benchmark: Benchmark) -> tuple[str, ...]:
    """The models of a benchmark and, unless it says ``baselines: none``, those that always run."""
    added = () if benchmark.baselines == "none" else baselines_of(benchmark.split.kind)
    return (*benchmark.models, *(name for name in added if name not in benchmark.models))


def preflight(benchmark: Benchmark, workspace: Workspace, chosen: list[str] | None = None) -> Checked:
    """Check data, models and search spaces of a benchmark.

    Raises
    ------
    ConfigError
        With everything that is wrong.
    """
    models = all_models(benchmark)
    problems: list[Problem] = []
    advice: list[str] = []
    card = None
    try:
        card = load_card(benchmark.dataset)
    except ConfigError as error:
        problems += error.problems
    except UnknownNameError as error:
        problems.append(Problem(error.message, key="dataset", suggestion=nearest(benchmark.dataset, error.known)))
    if card is not None:
        prepared = (workspace.dataset(card.name) / "manifest.json").is_file()
        if not prepared and card.simulate is None:
            problems.append(Problem(f"the dataset '{card.name}' is not prepared in {workspace.root}", key="dataset"))
            advice.append(f"Run: benchbed prepare {benchmark.dataset} --raw DIR")
        problems += [
            Problem(each.message, key=dotted(each.path), suggestion=each.suggestion)
            for each in unmet(benchmark.split, benchmark.evaluation, card)
        ]
    if chosen is not None and not chosen:
        problems.append(Problem(f"--models names no model (there are: {', '.join(models)})"))
    for name in chosen or ():
        if name not in models:
            listed = ", ".join(models)
            problems.append(Problem(f"'{name}' is no model of this benchmark ({listed})", suggestion=nearest(name, models)))
    spaces: dict[str, SearchSpace] = {}
    for name in models:
        try:
            path = find_space(name, benchmark.folder)
            spaces[name] = load_space(path)
            if name in MODELS and spaces[name].model != name:
                message = f"this is taken for the model '{name}', and says that it is of '{spaces[name].model}'"
                problems.append(Problem(message, str(path), key="model"))
            problems += _missing_needs(spaces[name].model, card)
            problems += unsuitable(name, spaces[name], path, benchmark.split.kind, benchmark.evaluation.mode)
            problems += _missing_order(name, spaces[name].model, benchmark.split.kind)
            if model_class(spaces[name].model).ceiling and benchmark.evaluation.seen_items != "exclude":
                message = f"{name} is the ceiling of `seen_items: exclude` alone: it gives nothing to items of the history"
                problems.append(Problem(message, key="evaluation.seen_items"))
        except ConfigError as error:
            problems += error.problems
        except BenchbedError as error:
            problems.append(Problem(str(error).replace("\n", " "), key="models"))
    if problems or card is None:
        raise ConfigError(problems, advice=" ".join(advice) or None)
    return Checked(card, models, tuple(chosen) if chosen else models, spaces)


def _missing_order(row: str, name: str, split: str) -> list[Problem]:
    """A model of the order of events, where the split has divided them at random."""
    if split not in UNORDERED_SPLITS or "sequences" not in model_class(name).needs:
        return []
    message = f"{row} learns from the order of events, and a {split} split leaves none: it divides rows at random"
    return [Problem(message, key="models")]


def _missing_needs(name: str, card: Card | None) -> list[Problem]:
    """What a model needs and the dataset card does not promise."""
    if card is None:
        return []
    tables = card.tables.present()
    items = tables.get("items")
    there = {
        "sequences": True,
        "item_features": bool(items is not None and getattr(items, "features", None)),
        "graph": "graph" in tables,
        "planted_truth": card.simulate is not None,
    }
    return [
        Problem(f"{name} needs {need.replace('_', ' ')}, and the dataset '{card.name}' has none", key="models")
        for need in sorted(model_class(name).needs)
        if not there.get(need, False)
    ]
