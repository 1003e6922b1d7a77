"""The errors that a user can mend.

Every error of this tree is a sentence to the user: what is wrong, where, and what to do next. The command line prints it
without a traceback and exits with :attr:`BenchbedError.exit_code`. All of them survive pickling, because a trial raises them in
another process than the one that prints them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is closest to a misspelt one, or None when nothing is close.

    Examples
    --------
    >>> nearest("gru4rce", ["gru4rec", "ease"])
    'gru4rec'
    """
    names = {str(k).lower(): str(k) for k in known}
    found = get_close_matches(str(name).lower(), list(names), n=1, cutoff=0.5)
    return names[found[0]] if found else None


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number and what it counts, which may end in a verb.

    Examples
    --------
    >>> counted(1, "row"), counted(2000, "row"), counted(0, "user has", "users have")
    ('1 row', '2,000 rows', '0 users have')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str]) -> str:
    """Names as a sentence lists them.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


class BenchbedError(Exception):
    """A mistake that the user can mend.

    Parameters
    ----------
    message
        What is wrong and where, in one or two sentences.
    advice
        What to do next.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __reduce__(self) -> Any:
        return (_rebuild, (type(self), dict(self.__dict__)))

    def __str__(self) -> str:
        return self.message if self.advice is None else f"{self.message}\n  {self.advice}"


def _rebuild(kind: type[BenchbedError], state: dict[str, Any]) -> BenchbedError:
    error = kind.__new__(kind)
    Exception.__init__(error, state.get("message", ""))
    error.__dict__.update(state)
    return error


@dataclass(frozen=True)
class Problem:
    """One mistake in a configuration file."""

    message: str
    file: str = ""
    line: int | None = None
    column: int | None = None
    key: str = ""
    suggestion: str | None = None

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}" + (f":{self.column}" if self.column is not None else "")
        parts = [p for p in (place, self.key) if p]
        text = ": ".join([*parts, self.message])
        return f"{text}; did you mean '{self.suggestion}'?" if self.suggestion else text


class ConfigError(BenchbedError):
    """One or more mistakes in YAML files, all found in one reading."""

    def __init__(self, problems: Sequence[Problem], *, advice: str | None = None) -> None:
        self.problems = list(problems)
        count = len(self.problems)
        head = f"{count} mistake{'s' if count != 1 else ''} found"
        super().__init__("\n".join([head + ":", *(f"  {p}" for p in self.problems)]), advice=advice)


class UnknownNameError(BenchbedError):
    """A name that is not in a catalogue (a model, a dataset, a metric ...)."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = nearest(name, known)
        advice = f"Did you mean '{close}'?" if close else f"Known: {', '.join(known) or 'none'}."
        super().__init__(f"There is no {kind} named '{name}'.", advice=advice)
        self.kind, self.name, self.known = kind, name, known


class DataError(BenchbedError):
    """Raw logs or prepared data that cannot be used as they are."""


class ModelError(BenchbedError):
    """A model that is asked for something it cannot do (a missing need, a wrong geometry, NaN scores)."""


class ResourceError(BenchbedError):
    """Resources that this machine or cluster does not have."""


class NotStarted(ResourceError):
    """Resources that are there, and did not come up; the same command may find them up."""

    exit_code = 3


class SweepError(BenchbedError):
    """A sweep that cannot start or go on (a held lease, a changed benchmark, a missing study)."""


class TrackingError(BenchbedError):
    """The tracking store cannot be used."""


class Interrupted(BenchbedError):
    """Stopped from outside; the same command continues."""

    exit_code = 3
