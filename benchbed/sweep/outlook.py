"""What a sweep would refuse, told without one: for ``benchbed validate``."""

from __future__ import annotations

from benchbed.config import Document, problem_at
from benchbed.data.card import Card
from benchbed.data.case_rules import rules_key
from benchbed.data.prepare import Prepared, is_as_asked
from benchbed.errors import BenchbedError, ConfigError, ModelError, Problem, counted
from benchbed.evaluation.significance import LEAST_USERS, tested_users
from benchbed.sweep.benchmark import Benchmark
from benchbed.sweep.planning import Material
from benchbed.sweep.preflight import Checked, preflight
from benchbed.sweep.rehearsal import gather, refusals
from benchbed.workspace import Workspace


def outlook(document: Document, benchmark: Benchmark, workspace: Workspace) -> tuple[list[Problem], list[str]]:
    """Everything that would stop a sweep of a benchmark before its first trial, as far as the workspace can tell.

    Where the dataset is prepared, it is split, if that was not done before, and the default model of every row is made once, as
    a sweep does. Nothing is prepared, and nothing is recorded.

    Parameters
    ----------
    document, benchmark
        A file without mistakes of its own, and what it says.
    workspace
        Where its data may lie; it need not exist.

    Returns
    -------
    list of Problem
        At their places in the file.
    list of str
        What is worth knowing beside: what was looked at, or why it was not.
    """
    try:
        checked = preflight(benchmark, workspace, unprepared=True)
    except ConfigError as error:
        return [_placed(document, problem) for problem in error.problems], []
    try:
        prepared = _prepared(benchmark.dataset, checked.card, workspace)
        if isinstance(prepared, str):
            return [], [*_left_out(checked), prepared]
        material = gather(benchmark, checked, prepared)
        found: list[BenchbedError] = list(refusals(material, material.checked.chosen))
        checked = material.checked
    except BenchbedError as error:
        found = [error]
    problems = [problem_at(document, (_subject(error),), _in_one_line(error)) for error in found]
    looked = f"The default model of every row was made once on the data of '{checked.card.name}'; nothing is missing."
    return problems, [] if problems else [*_left_out(checked), looked, *_few(material)]


def _prepared(called: str, card: Card, workspace: Workspace) -> Prepared | str:
    """The prepared dataset of a card, or why it cannot be looked at; ``called`` is its name or path in the benchmark."""
    folder, raw = workspace.dataset(card.name), "" if card.simulate is not None else " --raw DIR"
    waits = f"what only data can tell waits for `benchbed prepare {called}{raw}`."
    if not (folder / "manifest.json").is_file():
        return f"The dataset '{card.name}' is not prepared in {workspace.root}; {waits}"
    found = Prepared.open(folder)
    if is_as_asked(found, card):
        return found
    return f"The dataset '{card.name}' in {folder} is incomplete, or of another form of its card; {waits}"


def _few(material: Material) -> list[str]:
    """That a test part is too small for evidence, as its leaderboard would say."""
    rules = rules_key(material.benchmark.evaluation)
    numbers = {seed: tested_users(split.audit, rules) for seed, split in material.splits.items()}
    return [
        f"The test part{f' of split seed {seed}' if len(numbers) > 1 else ''} has {counted(number, 'user')}: with fewer than "
        f"{LEAST_USERS} no difference between models is evidence. Take a larger log, or a split that tests more of it."
        for seed, number in numbers.items()
        if number is not None and number < LEAST_USERS
    ]


def _left_out(checked: Checked) -> list[str]:
    return [f"{name} will not run. {reason}" for name, reason in checked.left_out.items()]


def _in_one_line(error: BenchbedError) -> str:
    return " ".join(str(error).split())


def _subject(error: BenchbedError) -> str:
    """The key that an error is about."""
    return "models" if isinstance(error, ModelError) else "split"


def _placed(document: Document, problem: Problem) -> Problem:
    """A problem of the benchmark at its place in the file; those of other files know theirs."""
    if problem.file or not problem.key:
        return problem
    return problem_at(document, tuple(problem.key.split(".")), problem.message, suggestion=problem.suggestion)
