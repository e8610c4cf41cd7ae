"""Console output: opening block, progress, one line per epoch, closing table."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

# Without a terminal there is no progress bar; long epochs print a plain line this often instead.
_PLAIN_INTERVAL_SECONDS = 60.0
_COMPILING = "compiling the step"


class Display:
    """Writes to standard output; silent if `enabled` is false (on all hosts but the first)."""

    def __init__(self, enabled: bool):
        self.console = Console(quiet=not enabled, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._last_plain_line = 0.0

    def note(self, text: str) -> None:
        """One plain line."""
        self.console.print(text, markup=False)

    def opening(self, facts: Mapping[str, str]) -> None:
        """The block at the start: one line per fact."""
        for name, fact in facts.items():
            self.console.print(f"[bold]{name:<10}[/bold]", end=" ")
            self.note(fact)

    def start(self, total_steps: int, step: int) -> None:
        """Starts the progress bar at `step`."""
        self._last_plain_line = time.monotonic()
        if self.console.is_terminal and not self.console.quiet:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._progress.add_task(_COMPILING, total=total_steps, completed=step)
            self._progress.start()
        else:
            self.note(f"{_COMPILING} ...")

    def advance(
        self,
        step: int,
        total_steps: int,
        metrics: Mapping[str, float],
        images_per_second: float | None,
    ) -> None:
        """Shows the run's progress and the epoch's metrics so far, once there is a loss."""
        if "loss" not in metrics:
            return
        text = f"loss {metrics['loss']:.3f}  top-1 {metrics['top1']:.3f}{_speed(images_per_second)}"
        if self._progress:
            self._progress.update(self._progress.task_ids[0], completed=step, description=text)
        elif time.monotonic() - self._last_plain_line > _PLAIN_INTERVAL_SECONDS:
            self._last_plain_line = time.monotonic()
            self.note(f"step {step}/{total_steps}  {text}")

    def epoch(self, epochs: int, train: Mapping[str, Any], test: Mapping[str, Any] | None) -> None:
        """One line for a finished epoch."""
        self._last_plain_line = time.monotonic()
        line = f"epoch {train['epoch']:g}/{epochs}"
        if "loss" in train:  # an epoch in which every direction was reused has no clean pass
            line += f"  train loss {train['loss']:.4f} top-1 {train['top1']:.4f}"
        if test:
            line += f"  test loss {test['loss']:.4f} top-1 {test['top1']:.4f}"
        if "lr" in train:
            line += f"  lr {train['lr']:.2g}"
        self.note(f"{line}{_speed(train['images_per_second'])}")

    def stop(self) -> None:
        """Ends the progress bar; harmless when there is none."""
        if self._progress:
            self._progress.stop()
            self._progress = None

    def closing(self, rows: Mapping[str, str]) -> None:
        """The table at the end."""
        table = Table(show_header=False)
        for row in rows.items():
            table.add_row(*row)
        self.console.print(table)


def _speed(images_per_second: float | None) -> str:
    return "" if images_per_second is None else f"  {images_per_second:,.0f} images/s"
