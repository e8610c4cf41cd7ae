"""Groups of runs as the rows of a table, and such a table as Markdown."""

from collections.abc import Sequence

from vasso_jax.runs.comparison import Group
from vasso_jax.runs.run import Run
from vasso_jax.runs.statistics import Estimate, estimate

HEADER = (
    *("runs", "seeds", "epochs", "test top-1, last epoch, %", "best epoch, %"),
    *("test loss", "seconds per run"),
)


def cells(group: Group) -> tuple[str, ...]:
    """The row of a group under HEADER: means over its runs, with the standard deviation."""
    runs = group.runs

    def column(values: Sequence[float], digits: int) -> str:
        return plus_minus(estimate(values), digits)

    return (
        group.name,
        str(len(runs)),
        str(runs[0].epochs),
        column([100 * run.last_top1 for run in runs], 2),
        column([100 * run.best_top1 for run in runs], 2),
        column([run.tests[-1]["loss"] for run in runs], 4),
        column([run.tests[-1]["seconds"] for run in runs], 1),
    )


def plus_minus(value: Estimate, digits: int) -> str:
    """Such as 98.61 +- 0.12 with two digits; without the deviation for a single value."""
    spread = "" if value.std is None else f" +- {value.std:.{digits}f}"
    return f"{value.mean:.{digits}f}{spread}"


def unfinished_note(run: Run) -> str:
    """Why a run is not in the table."""
    return f"left out, unfinished: {run.folder} (epoch {run.tests[-1]['epoch']} of {run.epochs})"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """A table in GitHub's Markdown, with one paragraph per note below it.

    Args:
        header: titles of the columns; the first is aligned left, the others right.
        rows: each as long as the header.
        notes: may be empty.
    """
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [header, rule, *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return table + "".join(f"\n{note}\n" for note in notes)
