"""The progress bar of a run, in a terminal and in a notebook."""

from typing import Any, Protocol

from rich.console import Console
from rich.constrain import Constrain
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# The terminal writes ^C there. In the last column it would go to the next line, and push the bar up
# to where nothing takes it away again.
_ROOM_FOR_CTRL_C = 3


class Bar(Protocol):
    """A bar that is on the screen."""

    def show(self, step: int, text: str) -> None:
        """Moves the bar, and says something beside it."""
        ...

    def close(self) -> None:
        """Takes the bar away."""
        ...


def open_bar(console: Console, in_notebook: bool, total: int, step: int, text: str) -> Bar | None:
    """Shows a bar; None where there can be none.

    Args:
        console: which other lines go to.
        in_notebook: whether that is a cell of a notebook.
        total, step: how long the bar is, and where it begins.
        text: beside it.
    """
    if console.quiet:
        return None
    if in_notebook:
        return _NotebookBar(total, step, text)
    return _TerminalBar(console, total, step, text) if console.is_terminal else None


class _TerminalBar:
    def __init__(self, console: Console, total: int, step: int, text: str):
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._task = self._progress.add_task(text, total=total, completed=step)
        narrow = Constrain(self._progress, max(1, console.width - _ROOM_FOR_CTRL_C))
        self._live = Live(narrow, console=console, transient=True)
        self._live.start(refresh=True)

    def show(self, step: int, text: str) -> None:
        self._progress.update(self._task, completed=step, description=text)

    def close(self) -> None:
        self._live.stop()


class _NotebookBar:
    """An output of the cell that is replaced in place; that of rich needs ipywidgets."""

    def __init__(self, total: int, step: int, text: str):
        from IPython.display import display  # pyright: ignore[reportMissingImports]

        self._total = total
        self._handle: Any = display(self._content(step, text), raw=True, display_id=True)

    def show(self, step: int, text: str) -> None:
        self._handle.update(self._content(step, text), raw=True)

    def close(self) -> None:
        self._handle.update({"text/plain": ""}, raw=True)

    def _content(self, step: int, text: str) -> dict[str, str]:
        count = f"{step}/{self._total}"
        bar = f'<progress value="{step}" max="{self._total}"></progress>'
        return {"text/plain": f"{count}  {text}", "text/html": f"<pre>{bar} {count}  {text}</pre>"}
