"""The page: one HTML file that holds everything and works offline."""

from __future__ import annotations

from benchbed.reporting.leaderboard import Leaderboard


def render_page(board: Leaderboard) -> str:
    """The leaderboard as one self-contained HTML document."""
    return f"<!doctype html><title>{board.record.sweep}</title>"
