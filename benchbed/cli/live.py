"""The trials of a running sweep: a live table on a terminal, one line a trial elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from benchbed.search.ledger import Counts
    from benchbed.search.plans import Assignment
    from benchbed.search.recorder import RunKey


class LiveTrials:
    """An observer of the ledger that shows what runs.

    Parameters
    ----------
    title
        Name of the benchmark.
    select_by
        The metric that decides.
    """

    def __init__(self, title: str, select_by: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self.title, self.select_by = title, select_by
        self.console = Console(stderr=True, highlight=False)
        self.counts: dict[str, Counts] = {}
        self.running: dict[str, tuple[str, int, float | None]] = {}
        self.began = time.monotonic()
        self._live = Live(get_renderable=self._table, console=self.console, refresh_per_second=4, transient=True)
        self._animated = self.console.is_terminal

    def __enter__(self) -> LiveTrials:
        if self._animated:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._animated:
            self._live.stop()
            if self.counts:
                self.console.print(self._table())

    def started(self, assignment: Assignment, counts: Counts) -> None:
        """An attempt at a trial begins."""
        self.counts[counts.study] = counts
        self.running[str(assignment.key)] = (f"{counts.model} #{assignment.key.number}", 0, None)

    def epoch(self, key: RunKey, epoch: dict[str, Any]) -> None:
        """A trial has finished an epoch."""
        label, _, best = self.running.get(str(key), (str(key), 0, None))
        value = epoch["value"]
        better = value if best is None or value > best else best
        self.running[str(key)] = (label, epoch["number"], better)

    def closed(self, key: RunKey, state: str, facts: dict[str, Any], counts: Counts) -> None:
        """A trial is over."""
        self.counts[counts.study] = counts
        label, epochs, best = self.running.pop(str(key), (f"{counts.model} #{key.number}", 0, None))
        if self._animated:
            return
        value = "" if best is None else f"  validation {self.select_by} {best:.4f}"
        told = facts.get("reason") and (state != "COMPLETE" or facts["reason"] == "seconds")
        why = "cut by seconds_per_trial" if facts.get("reason") == "seconds" else facts.get("reason")
        reason = f"  ({why})" if told else ""
        done = f"{counts.spent}/{counts.budget}"
        split = f" (split {counts.split_seed})" if len({other.split_seed for other in self.counts.values()}) > 1 else ""
        ended = f"{state:8} {epochs:3} {'epoch' if epochs == 1 else 'epochs'}"
        line = f"{self._clock()}  {counts.stage:6} {label + split:16} {ended}{value}  [{done}]{reason}"
        self.console.print(line, markup=False, soft_wrap=True)

    def notice(self, text: str) -> None:
        """Something the user should read."""
        self.console.print(text, markup=False, soft_wrap=True)

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        return f"{minutes:d}:{seconds:02d}"

    def _table(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        if not self.counts:
            return Table(title=f"{self.title}  {self._clock()}  reading the data, starting Ray", title_justify="left", box=None)
        table = Table(
            title=f"{self.title}  {self._clock()}", title_justify="left", box=None, pad_edge=False, header_style="bold"
        )
        numbers = ("trials", "pruned", "failed", f"best {self.select_by}")
        for column in ("stage", "model", "", *numbers, "running"):
            table.add_column(column, justify="right" if column in numbers else "left")
        for counts in self.counts.values():
            busy = [
                f"{label.split()[-1]} " + ("starts" if best is None else f"epoch {epoch} {best:.4f}")
                for key, (label, epoch, best) in self.running.items()
                if key.rpartition("/")[0] == counts.study
            ]
            table.add_row(
                counts.stage,
                counts.model,
                ProgressBar(total=counts.budget, completed=counts.spent, width=16),
                f"{counts.spent}/{counts.budget}",
                str(counts.pruned or ""),
                f"[red]{counts.failed}[/red]" if counts.failed else "",
                "" if counts.best_value is None else f"{counts.best_value:.4f}",
                ", ".join(busy),
            )
        return table
