"""Measured sharpness as rows of tables, of runs and over seeds, and all of it as data."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vasso_jax.runs.comparison import Group
from vasso_jax.runs.settings import differences
from vasso_jax.runs.sharpness import CAVEAT, Measurement, figures_in
from vasso_jax.runs.statistics import estimate, interval
from vasso_jax.runs.tables import with_error, with_interval

# What `group_cells` and `checkpoint_cells` show.
MEANS = "Means over the runs of a row [with Student's 95 % interval]."
ERRORS = "Estimates by random vectors +- their standard deviation (the standard error)."
# What was measured of a checkpoint of each run, by the folder of the run.
Found = Mapping[pathlib.Path, Sequence[Measurement]]


def figures_of(measured: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """The names of the figures that any run has, in order of appearance."""
    return tuple(dict.fromkeys(name for names in measured for name in names))


def checkpoint_header(figures: Sequence[str]) -> tuple[str, ...]:
    """The titles of the columns of `checkpoint_cells`."""
    return ("run@step", *figures)


def checkpoint_cells(
    name: str, measurements: Sequence[Measurement], figures: Sequence[str]
) -> tuple[str, ...]:
    """The row of a checkpoint: each figure, with its standard error where there is one."""
    values = figures_in(measurements)
    errors: dict[str, float | None] = {}
    for made in measurements:
        errors |= made.details.get("standard_errors", {})

    def cell(figure: str) -> str:
        return with_error(values[figure], errors.get(figure)) if figure in values else ""

    return (f"{name}@{measurements[0].step}", *map(cell, figures))


def group_header(figures: Sequence[str]) -> tuple[str, ...]:
    """The titles of the columns of `group_cells`."""
    return ("runs", "seeds", *figures)


def group_cells(
    name: str, values: Sequence[Mapping[str, float]], figures: Sequence[str]
) -> tuple[str, ...]:
    """The row of a group: for each figure its mean over the runs with the 95 % interval.

    Args:
        name: of the group.
        values: the figures of each run; a cell is empty where a run does not have it.
        figures: the columns.
    """

    def cell(figure: str) -> str:
        if not all(figure in of_run for of_run in values):
            return ""
        return with_interval(estimate([of_run[figure] for of_run in values]))

    return (name, str(len(values)), *map(cell, figures))


def unequal_note(groups: Sequence[Group], figures: Sequence[str]) -> str | None:
    """Which figures were not measured in the same way of all runs, if any."""
    found: dict[str, list[str]] = {}
    for figure in figures:
        made = [run.measured[figure] for g in groups for run in g.runs if figure in run.measured]
        for other in made:
            if changed := differences(made[0].made_by, other.made_by):
                found.setdefault("; ".join(changed), []).append(figure)
                break
    if not found:
        return None
    ways = ". ".join(f"{', '.join(names)}: {how}" for how, names in found.items())
    return f"not measured in the same way: {ways}"


def as_data(found: Found, groups: Sequence[Group]) -> dict[str, Any]:
    """All measurements by run, and the means over the runs of each group, with 95 % intervals."""
    return {
        "runs": [
            {"run": str(folder), "measurements": [dataclasses.asdict(one) for one in made]}
            for folder, made in found.items()
        ],
        "groups": [
            {
                "name": group.name,
                "runs": [str(run.folder) for run in group.runs],
                "figures": _means([figures_in(found[run.folder]) for run in group.runs]),
            }
            for group in groups
        ],
        "note": CAVEAT,
    }


def _means(values: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Of the figures that all runs have."""
    means: dict[str, dict[str, float | None]] = {}
    for figure in figures_of(values):
        if all(figure in of_run for of_run in values):
            value = estimate([of_run[figure] for of_run in values])
            low, high = interval(value) or (None, None)
            means[figure] = {"mean": value.mean, "low": low, "high": high, "std": value.std}
    return means
