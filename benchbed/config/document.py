"""A YAML document that remembers where each key stands."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchbed.errors import ConfigError, Problem

Path_ = tuple[str | int, ...]


@dataclass
class Document:
    """The values of a YAML file, and the position of every key.

    Attributes
    ----------
    values
        The parsed value of the whole file.
    source
        The file as the user named it.
    positions
        (line, column), counted from 1, of every key path: of the key itself in a mapping, of the element in a list.
    problems
        Keys that stand twice; the later one is in the values.
    """

    values: Any
    source: str
    positions: dict[Path_, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path_) -> tuple[int | None, int | None]:
        """Line and column of a key path, or of its nearest parent that exists in the file."""
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, (None, None))


class _Loader(yaml.SafeLoader):
    """SafeLoader whose numbers follow YAML 1.2 where 1.1 surprises: ``1e-3`` is a number; dates and yes/no stay text."""


_KEPT = {"tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag in _KEPT]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def read_document(path: Path, text: str | None = None) -> Document:
    """Parse one YAML file.

    Raises
    ------
    ConfigError
        The file is absent, is no YAML, or is not a mapping at the top.
    """
    source = str(path)
    if text is None:
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError([Problem("this file does not exist", file=source)]) from None
        except IsADirectoryError:
            raise ConfigError([Problem("this is a folder, not a YAML file", file=source)]) from None
        except OSError as error:
            raise ConfigError([Problem(f"this file cannot be read: {error.strerror or error}", file=source)]) from None
        except UnicodeDecodeError as error:
            raise ConfigError([Problem(f"this file is not UTF-8 text (byte {error.start})", file=source)]) from None
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        first = text.count("\n", 0, error.position) + 1
        raise ConfigError([Problem("this is not valid YAML: it holds a control character", source, first)]) from None
    try:
        node = loader.get_single_node()
        document = Document({}, source, {(): (1, 1)})
        if node is not None:
            _walk(node, (), document, document.problems)
        document.values = {} if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        raise ConfigError([Problem(f"this is not valid YAML: {error.problem}", source, line, column)]) from None
    except RecursionError:
        raise ConfigError([Problem("this is not usable YAML: a value holds itself, or stands too deep", source)]) from None
    except ValueError as error:  # a tag such as !!int before what is none
        raise ConfigError([Problem(f"this is not valid YAML: {error}", source)]) from None
    except yaml.YAMLError as error:
        raise ConfigError([Problem(f"this is not valid YAML: {error}", source)]) from None
    finally:
        loader.dispose()
    if not isinstance(document.values, dict):
        raise ConfigError([Problem("expected a mapping of keys to values at the top of the file", source, 1, 1)])
    return document


def _walk(node: yaml.Node, path: Path_, document: Document, problems: list[Problem]) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            # A key such as 5 is a number in the values, and so it is in the path.
            here = (*path, int(name) if key.tag == "tag:yaml.org,2002:int" else name)
            line, column = key.start_mark.line + 1, key.start_mark.column + 1
            if name in seen and key.tag != "tag:yaml.org,2002:merge":
                problems.append(
                    Problem("this key stands twice in the same mapping", document.source, line, column, dotted(here))
                )
            seen.add(name)
            document.positions[here] = (line, column)
            _walk(value, here, document, problems)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            here = (*path, index)
            document.positions[here] = (value.start_mark.line + 1, value.start_mark.column + 1)
            _walk(value, here, document, problems)


def dotted(path: Path_) -> str:
    """A key path as people write it.

    Examples
    --------
    >>> dotted(("models", 2, "name"))
    'models[2].name'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text
