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
        Baselines that the benchmark does not name and that cannot hold the catalogue, or learn from an order that the data do
        not have, with the reason.
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


def preflight(
    benchmark: Benchmark, workspace: Workspace, chosen: list[str] | None = None, *, unprepared: bool = False
) -> Checked:
    """Check data, models and search spaces of a benchmark.

    Parameters
    ----------
    benchmark, workspace
        The question, and where its data should be.
    chosen
        The rows to run now; None for all.
    unprepared
        Whether the dataset may still have to be prepared.

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
        if not prepared and not unprepared and card.simulate is None:
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
    left_out: dict[str, str] = {}
    disorder = _disorder(benchmark, card)
    for name in models:
        try:
            path = find_space(name, benchmark.folder)
            space = load_space(path)
            if disorder is not None and "sequences" in model_class(space.model).needs:
                if name not in benchmark.models and name not in (chosen or ()):
                    left_out[name] = f"It learns from the order of events, and {disorder}."
                    continue
                problems.append(Problem(f"{name} learns from the order of events, and {disorder}", key="models"))
            spaces[name] = space
            if name in MODELS and spaces[name].model != name:
                message = f"this is taken for the model '{name}', and says that it is of '{spaces[name].model}'"
                problems.append(Problem(message, str(path), key="model"))
            problems += _missing_needs(spaces[name].model, card)
            problems += unsuitable(name, spaces[name], path, benchmark.split.kind, benchmark.evaluation.mode)
            if model_class(spaces[name].model).ceiling and benchmark.evaluation.seen_items != "exclude":
                message = f"{name} is the ceiling of `seen_items: exclude` alone: it gives nothing to items of the history"
                problems.append(Problem(message, key="evaluation.seen_items"))
        except ConfigError as error:
            problems += error.problems
        except BenchbedError as error:
            problems.append(Problem(str(error).replace("\n", " "), key="models"))
    if problems or card is None:
        raise ConfigError(problems, advice=" ".join(advice) or None)
    kept = tuple(name for name in models if name not in left_out)
    return Checked(card, kept, tuple(chosen) if chosen else kept, spaces, left_out)


def _disorder(benchmark: Benchmark, card: Card | None) -> str | None:
    """Why the events of a user have no order to learn from; None where they have one."""
    split = benchmark.split
    if split.kind in UNORDERED_SPLITS:
        return f"a {split.kind} split leaves none: it divides rows at random"
    by_chance = split.test is not None and split.ties == "hash"  # any other split is refused without times
    if by_chance and card is not None and card.tables.interactions.columns.timestamp is None:
        return (
            f"the dataset '{card.name}' has no times, so that `ties: hash` leaves it to chance (where the log is in order, say "
            "`ties: file`)"
        )
    return None


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
