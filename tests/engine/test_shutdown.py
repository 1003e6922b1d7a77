"""Leaving Ray: no handle may be freed while it goes."""

from __future__ import annotations

import gc

import pytest

from benchbed.engine import connect


class Handle:
    """In a cycle, as Tune leaves its handles: only the collector frees it."""

    freed_while: list[str] = []  # one list for all, emptied by the test
    now = "before"

    def __init__(self) -> None:
        self.own = self

    def __del__(self) -> None:
        Handle.freed_while.append(Handle.now)


def test_handles_are_freed_before_ray_goes_and_none_while_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def shutdown() -> None:
        Handle.now = "shutting down"
        Handle()
        assert not gc.isenabled()  # no thread's allocations wake the collector
        Handle.now = "after"

    monkeypatch.setattr(ray, "shutdown", shutdown)
    Handle.freed_while.clear()
    Handle.now = "before"
    Handle()
    connect._shut_down()
    assert Handle.freed_while == ["before"] and gc.isenabled()
    gc.collect()
    assert Handle.freed_while == ["before", "after"]
