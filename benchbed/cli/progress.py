"""Progress bars on the terminal; nothing where the output is not one."""

from __future__ import annotations

from types import TracebackType


class Progress:
    """A bar that is called with what is being done and the share done.

    Parameters
    ----------
    title
        Shown before the bar.
    quiet
        Show nothing.
    """

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("[bold]{task.fields[title]}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=quiet or not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("", total=1.0, title=title)

    def __call__(self, doing: str, share: float) -> None:
        """Show what is being done, and the share of all work that is done (0 to 1)."""
        self._bar.update(self._task, description=doing, completed=share)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()
