"""What runs are to be told, gathered so that a run costs one call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Point = tuple[str, float, int, int]
"""Name, value, timestamp in milliseconds, step."""

_MOST_POINTS, _MOST_OTHERS = 800, 90
"""MLflow takes 1000 entities in one call, 100 parameters and 100 tags among them."""


@dataclass
class _Letter:
    points: list[Point] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Batch:
    """Gathers metrics, parameters and tags by run; :meth:`flush` writes them.

    Parameters
    ----------
    client
        Of the store.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._letters: dict[str, _Letter] = {}

    def add(
        self,
        run: str,
        *,
        points: Iterable[Point] = (),
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Gather something about a run; a later tag replaces an earlier one of the same name."""
        letter = self._letters.setdefault(run, _Letter())
        letter.points.extend(points)
        letter.params.update(params or {})
        letter.tags.update(tags or {})

    def flush(self, run: str | None = None) -> None:
        """Write what was gathered, of one run or of all."""
        for each in [run] if run is not None else list(self._letters):
            letter = self._letters.get(each)
            if letter is not None:
                self._write(each, letter)
                del self._letters[each]

    def _write(self, run: str, letter: _Letter) -> None:
        from mlflow.entities import Metric, Param, RunTag

        points = [Metric(*point) for point in letter.points]
        params = [Param(name, value) for name, value in letter.params.items()]
        tags = [RunTag(name, value) for name, value in letter.tags.items()]
        while points or params or tags:
            self._client.log_batch(run, points[:_MOST_POINTS], params[:_MOST_OTHERS], tags[:_MOST_OTHERS], synchronous=True)
            points, params, tags = points[_MOST_POINTS:], params[_MOST_OTHERS:], tags[_MOST_OTHERS:]
