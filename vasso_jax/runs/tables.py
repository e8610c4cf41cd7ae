"""Groups of runs as the rows of a table, such a table as Markdown, and all of it as data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vasso_jax.runs.choice import Choice
from vasso_jax.runs.comparison import Group, range_of
from vasso_jax.runs.run import Run
from vasso_jax.runs.sharpness import is_figure
from vasso_jax.runs.statistics import (
    Estimate,
    PairedDifference,
    estimate,
    interval,
    seeds_needed,
)

# What `cells` and `choice_cells` show. In all tables +- is one standard deviation; an interval is
# written with its ends.
SPREAD = "Means over the runs of a row +- one standard deviation (n - 1 in the denominator)."
# Shares between 0 and 1, shown in percent.
_SHARES = ("top1", "top5", "ema_top1", "ema_top5")


def shown(metric: str) -> str:
    """The name of a metric, with the unit in which the tables show it."""
    return f"{metric}, %" if metric in _SHARES else metric


def header(metric: str) -> tuple[str, ...]:
    """The titles of the columns of `cells`."""
    last, other = (f"last {shown(metric)}", f"best {shown(metric)}")
    if is_figure(metric):  # of the last checkpoint; the best one need not have been measured
        last, other = metric, f"last {shown('top1')}"
    return ("runs", "seeds", "epochs", last, other, "test loss", "s per run")


def cells(group: Group, metric: str = "top1") -> tuple[str, ...]:
    """The row of a group under `header`: means over its runs, with the standard deviation.

    Args:
        group: finished runs.
        metric: of the test, or a figure that was measured; see `Run.last`.

    Raises:
        ValueError: a run has no such metric.
    """
    runs = group.runs

    def column(values: Sequence[float], digits: int) -> str:
        return plus_minus(estimate(values), digits)

    def columns(metric: str) -> Iterator[str]:
        scale, digits = scale_of(metric)
        for value in (Run.last, Run.best):
            yield column([scale * value(run, metric) for run in runs], digits)

    if is_figure(metric):
        value = estimate([run.last(metric) for run in runs])
        two = (with_error(value.mean, value.std), next(columns("top1")))
    else:
        two = tuple(columns(metric))

    return (
        group.name,
        str(len(runs)),
        range_of([run.tests[-1]["epoch"] for run in runs]),
        *two,
        column([run.last("loss") for run in runs], 4),
        column([run.tests[-1]["seconds"] for run in runs], 1),
    )


def choice_header(metric: str) -> tuple[str, ...]:
    """The titles of the columns of `choice_cells`."""
    title = shown(metric)
    tests = (f"test {title}: best checkpoint", "last epoch")
    return ("method", "chosen", f"validation {title}", *tests, "seeds")


def choice_cells(choice: Choice) -> tuple[str, ...]:
    """A choice under `choice_header`: means over its runs, with the standard deviation.

    The figures are those that rank the checkpoints: of the average of the weights, if there is one.
    """
    runs = choice.group.runs
    metric = runs[0].ranked_by
    scale, digits = scale_of(metric)
    columns = (
        [run.best_validation(metric) for run in runs],
        [run.best(metric) for run in runs],
        [run.last(metric) for run in runs],
    )
    return (
        choice.method,
        " ".join(f"{field}={value}" for field, value in choice.fields.items()) or "-",
        *(plus_minus(estimate([scale * v for v in values]), digits) for values in columns),
        str(len(runs)),
    )


def difference_header(metric: str, baseline: str) -> tuple[str, ...]:
    """The titles of the columns of `difference_cells`."""
    name = f"{metric}, points" if metric in _SHARES else metric
    resolved = f"seeds to resolve {_resolved(metric):g}"
    return (f"minus {baseline}", f"last {name}", "95 % interval", "pairs", resolved)


def difference_cells(name: str, found: PairedDifference, metric: str) -> tuple[str, ...]:
    """A difference under `difference_header`."""
    scale, digits = scale_of(metric)
    needed = seeds_needed(scale * found.std, _resolved(metric))
    return (
        name,
        f"{scale * found.mean:+.{digits}f}",
        f"{scale * found.low:+.{digits}f} to {scale * found.high:+.{digits}f}",
        str(found.n),
        "many" if needed is None else str(needed),
    )


def scale_of(metric: str) -> tuple[float, int]:
    """What a metric is multiplied with to be shown, and with how many digits."""
    return (100, 2) if metric in _SHARES else (1, 4)


def _resolved(metric: str) -> float:
    """The difference, as it is shown, for which the seeds that it needs are told."""
    return 0.5 if metric in _SHARES else 0.01


def plus_minus(value: Estimate, digits: int) -> str:
    """Such as 98.61 +- 0.12 with two digits; without the deviation for a single value."""
    spread = "" if value.std is None else f" +- {value.std:.{digits}f}"
    return f"{value.mean:.{digits}f}{spread}"


def with_error(value: float, error: float | None) -> str:
    """Such as 98.61 +- 0.12, with four digits of the value, which may be of any size."""
    return _rounded(value, 4) + ("" if error is None else f" +- {_rounded(error, 2)}")


def with_interval(value: Estimate) -> str:
    """Such as 98.61 [98.31, 98.91], with the 95 % interval and digits as `with_error`."""
    ends = interval(value)
    mean, *shown = (_rounded(number, 4) for number in (value.mean, *(ends or ())))
    return f"{mean} [{', '.join(shown)}]" if ends else mean


def spread_note(groups: Sequence[Group]) -> str | None:
    """What +- means, where there are several runs in a row."""
    return SPREAD if any(len(group.runs) > 1 for group in groups) else None


def _rounded(value: float, digits: int) -> str:
    """With so many digits that count, and no exponent where there is room for zeros."""
    return f"{float(f'{value:.{digits}g}'):.10g}"


def in_width(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> list[tuple[list[str], list[list[str]]]]:
    """A table as several of no more than `width` characters, each with the first column.

    A column that does not fit beside the first has a table of its own, which is wider.
    """
    sizes = [max(map(len, column)) + 3 for column in zip(header, *rows, strict=True)]
    parts: list[list[int]] = []
    room = 0
    for i, size in enumerate(sizes[1:], start=1):
        if not parts or size > room:
            parts.append([0])
            room = width - 1 - sizes[0]
        parts[-1].append(i)
        room -= size
    return [([header[i] for i in part], [[row[i] for i in part] for row in rows]) for part in parts]


def picking_note(groups: Sequence[Group]) -> str | None:
    """What the best checkpoints were picked by, where that was the test itself."""
    tested = [group.name for group in groups if not all(run.validations for run in group.runs)]
    if not tested:
        return None
    of = "" if len(tested) == len(groups) else f" of {', '.join(tested)}"
    return f"best{of}: the best epoch, picked on the test set, as there was no validation split"


def unfinished_note(run: Run) -> str:
    """Why a run is not in the table."""
    return (
        f"left out, unfinished: {run.folder} (epoch {run.evaluations[-1]['epoch']} of {run.epochs})"
    )


def as_data(groups: Sequence[Group], metric: str) -> list[dict[str, Any]]:
    """One entry for each run, in the order of the groups.

    Returns:
        `group`, `run` (its folder), `seeds`, `epochs`, `last` and `best` (of `metric`, not in
        percent; None for what was measured of the last checkpoint), `loss` and `seconds`; and the
        figures that were measured, if any were.
    """
    figures = dict.fromkeys(name for g in groups for run in g.runs for name in run.figures)
    return [
        {
            "group": group.name,
            "run": str(run.folder),
            "seeds": list(run.seeds),
            "epochs": run.tests[-1]["epoch"],
            "last": run.last(metric),
            "best": None if is_figure(metric) else run.best(metric),
            "loss": run.last("loss"),
            "seconds": run.tests[-1]["seconds"],
            **{name: run.figures.get(name) for name in figures},
        }
        for group in groups
        for run in group.runs
    ]


def differences_as_data(found: Mapping[str, PairedDifference]) -> dict[str, Any]:
    """{group: mean, low, high, pairs, std}, not in percent."""
    return {
        name: {"mean": d.mean, "low": d.low, "high": d.high, "pairs": d.n, "std": d.std}
        for name, d in found.items()
    }


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
