"""Search spaces on disk: where they are found, and every mistake in one of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchbed.config import Document, Mistake, check, dotted, judged, problem_at, read_document, shown
from benchbed.errors import ConfigError, Problem, UnknownNameError, nearest
from benchbed.models.registry import MODELS, model_class
from benchbed.search.space import Joint, Range, SearchSpace, label_of
from benchbed.workspace import folders_of

if TYPE_CHECKING:
    from benchbed.models.base import ModelConfig


def known_spaces(beside: Path | None = None) -> dict[str, Path]:
    """Every search space that can be named, with its file: beside a benchmark, in the current folder, the shipped ones.

    Parameters
    ----------
    beside
        Folder of a benchmark; its own spaces lie in ``search_spaces/`` there.
    """
    found: dict[str, Path] = {}
    for folder in (*([beside / "search_spaces"] if beside else []), *folders_of("search_spaces")):
        for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else ():
            found.setdefault(path.stem, path)
    return found


def find_space(name: str, beside: Path | None = None) -> Path:
    """The file of a search space, by its name; see :func:`known_spaces`.

    Raises
    ------
    UnknownNameError
        There is none of that name.

    Examples
    --------
    >>> find_space("ease").name
    'ease.yaml'
    """
    known = known_spaces(beside)
    if name not in known:
        raise UnknownNameError("search space", name, known)
    return known[name]


def load_space(path: Path) -> SearchSpace:
    """Read one search space.

    Raises
    ------
    ConfigError
        With every mistake of the file, in the order of its lines.
    """
    space, problems = check_space(read_document(path))
    if problems or space is None:
        raise ConfigError(problems)
    return space


def check_space(document: Document) -> tuple[SearchSpace | None, list[Problem]]:
    """Validate a search space; returns it (None when it has mistakes) and every mistake."""
    return check(document, SearchSpace, names={"model": list(MODELS)}, more=_more)


def _more(document: Document, space: SearchSpace | None) -> list[Problem]:
    """Mistakes that only the model's Config can show."""
    model = document.values.get("model")
    if not isinstance(model, str) or model not in MODELS:
        return []
    config = model_class(model).Config
    problems = _unknown_fields(document, config) + _refused_defaults(document, config)
    if space is None or problems:
        return problems
    problems += _wrong_conditions(document, space)
    try:
        _ = space.order
    except ValueError as error:
        problems.append(problem_at(document, ("parameters",), str(error)))
    if problems:
        return problems
    return _refused_values(document, space) or _outside_defaults(document, space) or _refused_together(document, space)


def _unknown_fields(document: Document, config: type[ModelConfig]) -> list[Problem]:
    problems, fields = [], list(config.model_fields)
    paths: list[tuple[str | int, ...]] = []
    for block in ("defaults", "parameters"):
        if isinstance(document.values.get(block), dict):
            paths += [(block, name) for name in document.values[block]]
    joint = document.values.get("joint")
    owners: dict[str, str] = {}
    for name, dimension in joint.items() if isinstance(joint, dict) else ():
        choices = dimension.get("choices") if isinstance(dimension, dict) else None
        for label, sets in choices.items() if isinstance(choices, dict) else ():
            for field in sets if isinstance(sets, dict) else ():
                path: tuple[str | int, ...] = ("joint", name, "choices", label, field)
                paths.append(path)
                taken = field in (document.values.get("parameters") or {}) or owners.setdefault(field, name) != name
                if taken:
                    problems.append(problem_at(document, path, f"'{field}' is decided by two dimensions"))
    return problems + [_unknown_field(document, each, config) for each in paths if each[-1] not in fields]


def _unknown_field(document: Document, path: tuple[str | int, ...], config: type[ModelConfig]) -> Problem:
    """What the name is called here, or the nearest name: one that another library uses says more than one that looks alike."""
    name, fields = str(path[-1]), list(config.model_fields)
    if name in config.elsewhere:
        return problem_at(document, path, f"{name} {config.elsewhere[name]}")
    message = f"the model has no hyper-parameter '{name}'"
    near = nearest(name, [*fields, *config.elsewhere])
    if near is not None and near in config.elsewhere:
        return problem_at(document, path, f"{message}; {near} {config.elsewhere[near]}")
    return problem_at(document, path, f"{message} (it has: {', '.join(fields) or 'none'})", suggestion=near)


def _refused_defaults(document: Document, config: type[ModelConfig]) -> list[Problem]:
    """Defaults that the Config does not accept, each at its own key; unknown ones are told of otherwise."""
    given = document.values.get("defaults")
    if not isinstance(given, dict):
        return []
    known = {key: value for key, value in given.items() if key in config.model_fields}
    problems = []
    for each in judged(config, known)[1]:
        message = each.message if each.path else f"the model refuses the defaults: {each.message}"
        problems.append(problem_at(document, ("defaults", *each.path), message, suggestion=each.suggestion))
    return problems


def _wrong_conditions(document: Document, space: SearchSpace) -> list[Problem]:
    problems = []
    for name, dimension in space.dimensions.items():
        block = "joint" if isinstance(dimension, Joint) else "parameters"
        for other, wanted in dimension.when.items():
            path = (block, name, "when", other)
            if other not in space.dimensions or other == name:
                others = [d for d in space.dimensions if d != name]
                problems.append(problem_at(document, path, f"'{other}' is not another searched dimension", others))
                continue
            known = space.values(other)
            for value in wanted if isinstance(wanted, list) else [wanted]:
                label = label_of(value)
                if known is not None and label not in known:
                    line, column = document.place(path)
                    message = f"'{other}' never is {shown(value)} (it can be: {', '.join(map(str, known[:20]))})"
                    close = nearest(str(label), map(str, known))
                    problems.append(Problem(message, document.source, line, column, ".".join(path), close))
    return problems


def _refused_values(document: Document, space: SearchSpace) -> list[Problem]:
    """Bounds and choices that the model's Config does not accept."""
    problems = []
    for name, dimension in space.parameters.items():
        for key, value in _corners(name, dimension, space):
            for each in _refusals(space, {**_context(space, name), name: value}):
                own = each.path[:1] == (name,)
                message = each.message if own else f"the model refuses {shown(value)}: {_words(each)}"
                path = ("parameters", name, *key, *(each.path[1:] if own else ()))
                problems.append(problem_at(document, path, message, suggestion=each.suggestion))
    for name, joint in space.joint.items():
        for label, sets in joint.choices.items():
            for each in _refusals(space, {**_context(space, name), **sets}):
                own = each.path[:1] != () and each.path[0] in sets
                message = each.message if own else f"the model refuses this: {_words(each)}"
                path = ("joint", name, "choices", label, *(each.path if own else ()))
                problems.append(problem_at(document, path, message, suggestion=each.suggestion))
    return problems


def _corners(name: str, dimension: Range, space: SearchSpace) -> list[tuple[tuple[str | int, ...], Any]]:
    if dimension.choices is not None:
        return [(("choices", position), choice) for position, choice in enumerate(dimension.choices)]
    return [
        (("low",), dimension.low),
        (("high",), dimension.high),
        *(
            [(("step",), dimension.low + dimension.step)]
            if dimension.step is not None and dimension.low is not None and space.is_integer(name)
            else []
        ),
    ]


def _context(space: SearchSpace, name: str) -> dict[str, Any]:
    """Hyper-parameters under which a dimension is searched: its condition, and the conditions of that."""
    labels: dict[str, Any] = {}
    for other, wanted in space.dimensions[name].when.items():
        labels[other] = label_of(wanted[0] if isinstance(wanted, list) else wanted)
    deeper = [_context(space, other) for other in labels]
    return {key: value for made in (*deeper, space.to_parameters(labels)) for key, value in made.items()}


def _refusals(space: SearchSpace, changes: dict[str, Any]) -> list[Mistake]:
    """Why the Config refuses these hyper-parameters, empty when it accepts them."""
    return judged(model_class(space.model).Config, {**space.defaults, **changes})[1]


def _words(found: Mistake) -> str:
    return f"{dotted(found.path)}: {found.message}" if found.path else found.message


def _outside_defaults(document: Document, space: SearchSpace) -> list[Problem]:
    """Trial 0 is the default configuration, so that every default must lie in what is searched."""
    try:
        labels = space.default_labels()
    except ValueError as error:
        return [problem_at(document, ("joint",), str(error))]
    problems = []
    if space.variant is not None and space.default_variant != space.variant:
        message = f"the default configuration is the variant '{space.default_variant}', not '{space.variant}'"
        close = nearest(space.variant, [space.default_variant])
        problems.append(problem_at(document, ("variant",), message, suggestion=close))
    if space.max_epochs > 1 and model_class(space.model).trained_by == "counting":
        problems.append(problem_at(document, ("max_epochs",), f"{space.model} is fitted in one pass: this must be 1"))
    if space.final_max_epochs is not None and model_class(space.model).trained_by == "counting":
        problems.append(problem_at(document, ("final_max_epochs",), f"{space.model} is fitted in one pass: leave this out"))
    for name, label in labels.items():
        dimension = space.dimensions[name]
        known = space.values(name)
        if known is not None:
            inside = any(label == value or _close(label, value) for value in known)
        else:
            assert isinstance(dimension, Range) and dimension.low is not None and dimension.high is not None
            inside = dimension.low <= label <= dimension.high
        if not inside:
            message = f"the default {shown(label)} lies outside of what is searched; trial 0 is the default configuration"
            problems.append(problem_at(document, ("parameters", name), message))
    return problems


def _refused_together(document: Document, space: SearchSpace) -> list[Problem]:
    """Pairs of dimensions whose bounds or choices the model's Config accepts one by one, and not together."""
    default = space.default_labels()
    corners = {
        name: list(each.choices)
        if isinstance(each, Joint)
        else list(dict.fromkeys(label_of(value) for _, value in _corners(name, each, space)))
        for name, each in space.dimensions.items()
    }

    def refusal(chosen: dict[str, Any]) -> str:
        labels: dict[str, Any] = {}
        for name in space.order:
            if space.active(name, labels):
                labels[name] = chosen.get(name, default.get(name, corners[name][0]))
        return "; ".join(map(_words, _refusals(space, space.to_parameters(labels)))) if chosen.keys() <= labels.keys() else ""

    problems = []
    for one, other in itertools.combinations(space.order, 2):
        for first, second in itertools.product(corners[one], corners[other]):
            if said := refusal({one: first, other: second}):
                block = "joint" if isinstance(space.dimensions[other], Joint) else "parameters"
                message = (
                    f"the model refuses {shown(second)} together with {one}: {shown(first)}: {said}; a `when` keeps them apart"
                )
                problems.append(problem_at(document, (block, other), message))
                break
    return problems


def _close(label: Any, value: Any) -> bool:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (label, value))
    return numbers and abs(label - value) <= 1e-9 * max(1.0, abs(value))
