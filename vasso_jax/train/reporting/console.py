"""Console output: opening block, progress, one line per epoch, closing table."""

import re
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vasso_jax.printable import printable
from vasso_jax.train.reporting.bars import Bar, open_bar

# Where there can be no progress bar, long epochs print a plain line this often instead.
_PLAIN_INTERVAL_SECONDS = 60.0
_COMPILING = "compiling the step"
# Of the columns of an epoch's row.
_WIDTHS = (9, 12, 7, 11, 7, 9, 11)


class Display:
    """Writes to standard output; silent if `enabled` is false (on all hosts but the first)."""

    def __init__(self, enabled: bool):
        self._in_notebook = Console().is_jupyter
        self.console = Console(
            quiet=not enabled,
            highlight=False,
            soft_wrap=True,
            force_terminal=False if self._in_notebook else None,
            force_jupyter=False,  # it makes an HTML block of each line
        )
        self._bar: Bar | None = None
        self._last_plain_line = 0.0
        self._has_head = False
        self._evaluated = ""
        self._warned: set[str] = set()

    def note(self, text: str) -> None:
        """One plain line."""
        self.console.print(printable(text), markup=False)

    def warn(self, text: str) -> None:
        """One line, unless the same has been said."""
        # Figures in it may have changed.
        kind = re.sub(r"[\d.,-]+", "", text)
        if kind not in self._warned:
            self._warned.add(kind)
            self.console.print(printable(f"warning: {text}"), markup=False, style="yellow")

    def opening(self, facts: Mapping[str, str]) -> None:
        """The block at the start: one line per fact."""
        for name, fact in facts.items():
            self.console.print(f"[bold]{name:<10}[/bold]", end=" ")
            self.note(fact)

    def start(self, total_steps: int, step: int, split: str = "test") -> None:
        """Starts the progress bar at `step`; epochs are evaluated on `split`."""
        self._evaluated = {"test": "test loss", "validation": "val. loss"}[split]
        self._last_plain_line = time.monotonic()
        self._bar = open_bar(self.console, self._in_notebook, total_steps, step, _COMPILING)
        if not self._bar:
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
        figures = f"loss {metrics['loss']:.3f}  top-1 {percent(metrics['top1'])}"
        text = figures + _speed(images_per_second)
        if self._bar:
            self._bar.show(step, text)
        elif time.monotonic() - self._last_plain_line > _PLAIN_INTERVAL_SECONDS:
            self._last_plain_line = time.monotonic()
            self.note(f"step {step}/{total_steps}  {text}")

    def epoch(
        self, epochs: int, train: Mapping[str, Any], evaluated: Mapping[str, Any] | None
    ) -> None:
        """One row for a finished epoch, below a head at the first time."""
        self._last_plain_line = time.monotonic()
        if not self._has_head:
            self._has_head = True
            self.note(
                _row("epoch", "train loss", "top-1 %", self._evaluated, "top-1 %", "lr", "images/s")
            )
        # An epoch in which every direction was reused has no clean pass.
        figures = [
            shown(split[name]) if name in split else ""
            for split in (train, evaluated or {})
            for name, shown in (("loss", _four_digits), ("top1", _in_percent))
        ]
        rate, speed = train.get("lr"), train["images_per_second"]
        figures.append("" if rate is None else f"{rate:.2g}")
        figures.append("" if speed is None else f"{speed:,.0f}")
        self.note(_row(f"{train['epoch']:g}/{epochs}", *figures))

    def stop(self) -> None:
        """Ends the progress bar; harmless when there is none."""
        if self._bar:
            self._bar.close()
            self._bar = None

    def closing(self, rows: Mapping[str, str]) -> None:
        """The table at the end."""
        table = Table(show_header=False)
        for row in rows.items():
            table.add_row(*(escape(printable(cell)) for cell in row))
        self.console.print(table)


def _row(*cells: str) -> str:
    """A row about an epoch, no longer than 80 characters."""
    return " ".join(cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True))


def percent(share: float) -> str:
    """A share of 1, such as an accuracy, in percent."""
    return f"{_in_percent(share)} %"


def _in_percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _four_digits(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1e5 else f"{value:.3g}"


def _speed(images_per_second: float | None) -> str:
    return "" if images_per_second is None else f"  {images_per_second:,.0f} images/s"
