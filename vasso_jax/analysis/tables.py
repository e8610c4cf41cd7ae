"""Groups of runs as the cells of a table, and such a table as Markdown."""

from collections.abc import Sequence

from vasso_jax.analysis.comparison import Estimate, Group, Run, estimate

HEADER = (
    *("runs", "seeds", "epochs", "test top-1, last epoch, %", "best epoch, %"),
    *("test loss", "seconds a run"),
)


def cells(group: Group) -> tuple[str, ...]:
    """One row under HEADER: means over the runs, +- the standard deviation where there are two."""
    runs = group.runs

    def column(values: Sequence[float], digits: int) -> str:
        return in_words(estimate(values), digits)

    return (
        group.name,
        str(len(runs)),
        str(runs[0].epochs),
        column([100 * run.last_top1 for run in runs], 2),
        column([100 * run.best_top1 for run in runs], 2),
        column([run.tests[-1]["loss"] for run in runs], 4),
        column([run.tests[-1]["seconds"] for run in runs], 1),
    )


def in_words(value: Estimate, digits: int) -> str:
    """Such as 98.61 +- 0.12 with two digits; without the latter for a single value."""
    spread = "" if value.std is None else f" +- {value.std:.{digits}f}"
    return f"{value.mean:.{digits}f}{spread}"


def unfinished_note(run: Run) -> str:
    """Why a run is not in the table."""
    return f"left out, unfinished: {run.folder} (epoch {run.tests[-1]['epoch']} of {run.epochs})"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """A table in GitHub's Markdown, the first column to the left, and a line a note below it."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [header, rule, *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return table + "".join(f"\n{note}\n" for note in notes)
