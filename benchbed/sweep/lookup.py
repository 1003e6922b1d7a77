"""Benchmark files: where they are found, and every mistake in one of them."""

from __future__ import annotations

from pathlib import Path

from benchbed.config import Document, check, judged, problem_at, read_document
from benchbed.data.card import Card, known_cards, load_card
from benchbed.data.split.spec import SplitSpec
from benchbed.errors import BenchbedError, ConfigError, Problem, UnknownNameError
from benchbed.evaluation.protocol import Protocol
from benchbed.search.space_file import known_spaces
from benchbed.sweep.asked_of_card import unmet
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.idle_keys import idle_keys
from benchbed.workspace import folders_of


def known_benchmarks() -> dict[str, Path]:
    """Every benchmark that can be named, with its file: those of the current folder, then the shipped ones.

    Examples
    --------
    >>> "demo" in known_benchmarks()
    True
    """
    found: dict[str, Path] = {}
    for folder in folders_of("reports"):
        for path in sorted(folder.glob("*/benchmark.yaml")) if folder.is_dir() else ():
            found.setdefault(path.parent.name, path)
    return dict(sorted(found.items()))


def find_benchmark(name_or_path: str | Path) -> Path:
    """The file of a benchmark: a path, a folder with a ``benchmark.yaml``, a name in ``./reports``, or a shipped name.

    Raises
    ------
    UnknownNameError
        There is no such file and no benchmark of that name.
    """
    text = str(name_or_path)
    path = Path(text).expanduser()
    if path.is_file():
        return path
    if "/" in text and (path / "benchmark.yaml").is_file():
        return path / "benchmark.yaml"
    known = known_benchmarks()
    if text not in known:
        raise UnknownNameError("benchmark", text, known)
    return known[text]


def check_benchmark(document: Document) -> tuple[Benchmark | None, list[Problem]]:
    """Validate a benchmark file; returns it (None when it has mistakes) and every mistake."""
    datasets = known_cards()
    names: dict[str, list[str]] = {"models.*": list(known_spaces(_folder_of(document)))}
    named = document.values.get("dataset")
    if not (isinstance(named, str) and Path(named).expanduser().is_file()):
        names["dataset"] = list(datasets)
    benchmark, problems = check(document, Benchmark, names=names, more=_more)
    folder = _folder_of(document)
    return (benchmark.at(folder) if benchmark is not None and folder is not None else benchmark), problems


def _more(document: Document, _benchmark: Benchmark | None) -> list[Problem]:
    """A name that is not the folder's, keys that change nothing in this file, and what the dataset does not have."""
    problems = [*_misnamed(document), *idle_keys(document)]
    card = _card_of(document)
    if card is not None:
        # Block by block: mistakes in one do not hide those in another.
        split = judged(SplitSpec, document.values.get("split"))[0]
        evaluation = judged(Protocol, document.values.get("evaluation"))[0]
        for each in unmet(split, evaluation, card):
            problems.append(problem_at(document, each.path, each.message, suggestion=each.suggestion))
    return problems


def _misnamed(document: Document) -> list[Problem]:
    """In ``reports/`` a benchmark is found by its folder, and its leaderboard goes to the folder of its name."""
    path, name = Path(document.source).absolute(), document.values.get("name")
    folder = path.parent.name
    if path.name != "benchmark.yaml" or path.parent.parent.name != "reports" or not isinstance(name, str) or name == folder:
        return []
    message = (
        f"this is '{name}', and its folder is reports/{folder}: the folder finds the benchmark, its results lie "
        "under its name. Call both the same: rename the folder to keep results, or the name to ask anew"
    )
    return [problem_at(document, ("name",), message)]


def _card_of(document: Document) -> Card | None:
    """The card of the dataset, where there is one without mistakes: mistakes of a card are told of the card."""
    named = document.values.get("dataset")
    if not isinstance(named, str):
        return None
    try:
        return load_card(named)
    except BenchbedError:
        return None


def _folder_of(document: Document) -> Path | None:
    return Path(document.source).absolute().parent if document.source else None


def load_benchmark(name_or_path: str | Path) -> Benchmark:
    """Find and read a benchmark file.

    Raises
    ------
    UnknownNameError
        There is no such benchmark.
    ConfigError
        The file has mistakes; all of them are named.
    """
    benchmark, problems = check_benchmark(read_document(find_benchmark(name_or_path)))
    if problems or benchmark is None:
        raise ConfigError(problems)
    return benchmark
