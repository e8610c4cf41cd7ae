"""The progress of measuring runs: a line for each that ends, and bars with the time left."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vasso_jax.measurement.measures import Measure
from vasso_jax.printable import printable
from vasso_jax.runs import Measurement


class ConsoleProgress:
    """Writes to standard output; a context manager, which takes the bars away at its end.

    It is a `Report`.
    """

    def __init__(self, total: int):
        """Says how many measurements there will be in all."""
        self._console = Console(highlight=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f} %, left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._total, self._done, self._run = total, 0, ""
        self._measure: Measure | None = None
        self._one = self._bars.add_task("", total=None, visible=False)
        self._all = self._bars.add_task("all", total=total)

    def __enter__(self) -> "ConsoleProgress":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def start(self, run: str) -> None:
        """Begins with a run."""
        self._run, self._measure = printable(run), None

    def passes(self, measure: Measure, done: int, expected: int) -> None:
        """See `Report`."""
        if measure is not self._measure:
            self._measure = measure
            self._bars.reset(self._one, description=f"{self._run} {measure.kind}", visible=True)
        self._bars.update(self._one, completed=done, total=expected)
        self._bars.update(self._all, completed=self._done + done / max(expected, 1))

    def ended(self, made: Measurement) -> None:
        """See `Report`."""
        self._done += 1
        self._bars.update(self._all, completed=self._done)
        figures = "".join(f" {name} {value:.4g}," for name, value in made.figures.items())
        line = f"[{self._done}/{self._total}] {self._run} {made.kind}:{figures}"
        self._console.print(f"{line} {made.seconds:.1f} s", markup=False)
