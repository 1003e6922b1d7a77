"""The MLflow store: where it is, how it is reached without noise, and how names are written in it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import sqlite3
from typing import TYPE_CHECKING, Any

from benchbed.errors import TrackingError
from benchbed.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_LIMITS = {
    # MLflow's own retries take about four minutes before a call gives up. Here the outbox is what retries.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # Nothing is printed between the lines of a sweep, and nobody outside is told that it runs.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_AGENT_HINT": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}
_LARGEST = 1.79e308
"""MLflow writes an infinite value as the largest float."""


def store_uri(workspace: Workspace, uri: str | None = None) -> str:
    """Where results are kept: the given store, else ``MLFLOW_TRACKING_URI``, else SQLite in the workspace.

    Examples
    --------
    >>> from pathlib import Path
    >>> store_uri(Workspace(Path("/srv/bench")), "http://tracking:5000")
    'http://tracking:5000'
    """
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace.mlflow_database}"


def artifact_location(workspace: Workspace, uri: str, experiment: str) -> str | None:
    """Where a new experiment keeps its files: a folder of the workspace, or None where a server decides."""
    if "://" in uri and uri.split(":", 1)[0].split("+", 1)[0] in _DATABASES:
        return (workspace.mlflow_artifacts / experiment).as_uri()
    return None


def connect(uri: str) -> MlflowClient:
    """A client of the store. The first use of a new SQLite file takes about two seconds.

    Raises
    ------
    TrackingError
        MLflow does not understand the address.
    """
    for name, value in _LIMITS.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    try:
        return MlflowClient(tracking_uri=uri)
    except MlflowException as error:
        raise TrackingError(
            f"MLflow does not understand the store '{uri}': {first_line(error)}",
            advice="Set MLFLOW_TRACKING_URI to http://HOST:PORT or sqlite:///FILE, or leave it out.",
        ) from error


def check_store(uri: str) -> None:
    """Refuse an address that can never work. A server or a database that is only away is no mistake: it is told later.

    Raises
    ------
    TrackingError
        MLflow does not understand the address.
    """
    if uri.partition(":")[0].partition("+")[0] in {"http", "https", "databricks", *_DATABASES}:
        return
    with contextlib.suppress(OSError):
        connect(uri)


def tend(workspace: Workspace, uri: str) -> None:
    """Keep the workspace's own SQLite file quick: a write-ahead log costs one flush a commit instead of three, and lets the
    MLflow UI read while a sweep writes. Called again, it brings the log back into the file. Other stores are left alone.
    """
    if uri != f"sqlite:///{workspace.mlflow_database}":
        return
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(workspace.mlflow_database, timeout=5)) as store:
        store.execute("PRAGMA journal_mode=WAL")
        store.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 300 characters."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def why(error: BaseException, uri: str) -> str:
    """Why a store could not be told or read, in one line.

    Examples
    --------
    >>> why(Exception("API request failed: Max retries exceeded with url: /api (Connection refused)"), "http://tracking:5000")
    'http://tracking:5000 does not answer'
    """
    text = str(error)
    if "Max retries exceeded" in text or "timeout exception" in text:
        return f"{uri} does not answer"
    return first_line(error)


def metric_name(column: str) -> str:
    """``ndcg@20`` as MLflow can hold it.

    Examples
    --------
    >>> metric_name("ndcg@20")
    'ndcg_at_20'
    """
    return re.sub(r"[^\w\-./ :]", "_", column.replace("@", "_at_"))


def number_from(value: Any) -> float:
    """A metric as MLflow stored it, back as a float with its infinities."""
    number = float(value)
    if abs(number) >= _LARGEST and math.isfinite(number):
        return math.copysign(math.inf, number)
    return number
