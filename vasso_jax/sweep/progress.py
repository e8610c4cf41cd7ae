"""The progress of many runs: a line for each that ends, and on a terminal those under way."""

import contextlib
import pathlib
import time

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from vasso_jax.printable import printable
from vasso_jax.runs import RunFolder, evaluations
from vasso_jax.sweep.jobs import PlannedRun
from vasso_jax.sweep.worker import Outcome
from vasso_jax.train.reporting.console import percent


class ConsoleProgress:
    """Writes to standard output; a context manager, which takes the table away at its end.

    For the methods see `jobs.Progress`.
    """

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._total = self._done = 0
        self._started: dict[pathlib.Path, float] = {}

    def __enter__(self) -> "ConsoleProgress":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def begin(self, total: int, finished: int) -> None:
        self._total, self._done = total, finished
        self._note(f"{total} runs, {finished} of them finished before")

    def started(self, run: PlannedRun) -> None:
        self._started[run.folder] = time.monotonic()
        self.refresh()

    def ended(self, run: PlannedRun, outcome: Outcome) -> None:
        self._done += 1
        del self._started[run.folder]
        result = f"failed: {outcome.error}"
        if outcome.result is not None:
            top1 = percent(outcome.result["test_top1"])
            result = f"test top-1 {top1}, {outcome.seconds:.0f} s"
        self._note(f"[{self._done}/{self._total}] {run.folder.name}: {result}")
        for warning in (outcome.result or {}).get("warnings", ()):
            self._note(f"  warning: {warning}")

    def refresh(self) -> None:
        if self._live.is_started:
            self._live.update(self._table(), refresh=True)

    def _note(self, text: str) -> None:
        self._console.print(printable(text), markup=False)

    def _table(self) -> Table:
        table = Table("run", "epoch", "top-1", "s", box=None, pad_edge=False)
        for folder, start in self._started.items():
            seconds = f"{time.monotonic() - start:.0f}"
            table.add_row(escape(printable(folder.name)), *_latest(RunFolder(folder)), seconds)
        return table


def _latest(folder: RunFolder) -> tuple[str, str]:
    """The last epoch of a run, and its latest accuracy; empty before there are any."""
    with contextlib.suppress(ValueError, OSError):  # it is being written
        records, epochs = folder.records(), folder.settings()["epochs"]
        accuracies = [percent(record["top1"]) for record in evaluations(records)]
        if records:
            return f"{records[-1]['epoch']}/{epochs}", (accuracies or [""])[-1]
    return "", ""
