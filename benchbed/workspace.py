"""Where things lie on disk: one directory, made absolute at the door."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import benchbed
from benchbed.errors import BenchbedError


@dataclass(frozen=True)
class Workspace:
    """One directory that holds everything benchbed writes, reports excepted.

    Parameters
    ----------
    root
        Absolute path. Use :meth:`open` to resolve the option, the environment variable and the default.

    Examples
    --------
    >>> Workspace(Path("/srv/bench")).dataset("ml-100k")
    PosixPath('/srv/bench/data/ml-100k')
    """

    root: Path

    @classmethod
    def open(cls, option: str | os.PathLike[str] | None = None) -> Workspace:
        """The workspace named by an option, else by ``BENCHBED_HOME``, else ``./.benchbed``; created when absent.

        Raises
        ------
        BenchbedError
            It cannot be created.
        """
        found = cls.at(option)
        try:
            found.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BenchbedError(
                f"The workspace {found.root} cannot be made: {error.strerror or error}.",
                advice="Name another folder: --workspace DIR, or the variable BENCHBED_HOME.",
            ) from None
        return found

    @classmethod
    def at(cls, option: str | os.PathLike[str] | None = None) -> Workspace:
        """As :meth:`open`, and nothing is created."""
        return cls(Path(option or os.environ.get("BENCHBED_HOME") or ".benchbed").expanduser().resolve())

    @property
    def data(self) -> Path:
        """Prepared datasets."""
        return self.root / "data"

    @property
    def raw(self) -> Path:
        """Raw logs that benchbed itself made or fetched."""
        return self.root / "raw"

    @property
    def sweeps(self) -> Path:
        """Storage, checkpoints and records of sweeps."""
        return self.root / "sweeps"

    @property
    def mlflow_database(self) -> Path:
        """The default MLflow store."""
        return self.root / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """Files of runs in the default MLflow store."""
        return self.root / "mlflow-artifacts"

    def dataset(self, name: str) -> Path:
        """Folder of one prepared dataset."""
        return self.data / name

    def sweep(self, name: str) -> Path:
        """Folder of one sweep."""
        return self.sweeps / name


def folders_of(kind: str) -> tuple[Path, ...]:
    """Where files that can be named lie: in the current folder, then the shipped ones (of the wheel, else of the checkout).

    Parameters
    ----------
    kind
        ``datasets``, ``search_spaces`` or ``reports``.
    """
    package = Path(benchbed.__file__).parent
    wheel = package / "_shipped"
    # Beside an installed package lie the folders of others: there is one called datasets, for example.
    return Path(kind), (wheel if wheel.is_dir() else package.parent) / kind


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to a temporary name beside ``path``, then rename: readers see the old file or the new one, never half of one.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with replacing(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
