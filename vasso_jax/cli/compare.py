"""Compares runs over their seeds:

vasso-jax compare RUN|FOLDER... [--metric loss] [--baseline NAME] [--markdown FILE] [--png FILE]
    [--html FILE] [--json FILE] [--csv FILE]

Of a FOLDER, all run folders below it are taken. Runs that differ only in their seeds form one row:
mean +- standard deviation over them. A second table has the differences to the baseline, in pairs
of equal seeds, with their 95 % intervals. Runs that have not finished are left out, with a note.
Exit status: 0; 2 if a folder cannot be used, with one message.
"""

import argparse
import csv
import io
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vasso_jax import runs
from vasso_jax.cli.failure import fail
from vasso_jax.printable import printable
from vasso_jax.runs import page, sharpness_tables, tables
from vasso_jax.runs.sharpness import CAVEAT

# Columns that a terminal has no room for.
_ONLY_IN_FILES = 2


def main(arguments: list[str] | None = None) -> None:
    """The command; see above.

    Args:
        arguments: of the command line, without the program; None: those of this process.
    """
    try:
        show(arguments)
    except (ValueError, OSError) as error:
        fail(error)


def show(arguments: Sequence[str] | None) -> None:
    """The command, as for `main`.

    Raises:
        ValueError: the runs cannot be compared.
        OSError: a file cannot be read or written.
    """
    parser = argparse.ArgumentParser(
        prog="vasso-jax compare", description="Compares runs over their seeds."
    )
    parser.add_argument(
        "runs", nargs="+", type=pathlib.Path, metavar="RUN|FOLDER", help="run folder, or above it"
    )
    parser.add_argument(
        "--metric",
        default="top1",
        help="of the test: top1 (default), top5, loss, ...; or what vasso-jax sharpness has "
        "measured of the last checkpoint: lambda_1, trace, ...",
    )
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        help="the row that differences are taken to (default: that of method none, or the first)",
    )
    files = {
        "markdown": "write the tables there, too",
        "png": "draw test top-1 over the epochs",
        "html": "write a page with the tables and learning curves",
        "json": "write every run and the differences there",
        "csv": "write every run there",
    }
    for name, meaning in files.items():
        parser.add_argument(f"--{name}", type=pathlib.Path, metavar="FILE", help=meaning)
    _compare(parser.parse_args(arguments))


def _compare(options: argparse.Namespace) -> None:
    metric = options.metric
    loaded, notes = _read(options.runs)
    groups = runs.group_runs(loaded)
    notes = [tables.unfinished_note(run) for run in loaded if not run.finished] + notes
    notes += [f"without its sharpness: {run.unreadable}" for run in loaded if run.unreadable]
    if not groups:
        raise ValueError(f"no run has finished. {notes[0]}")
    rows = [tables.cells(group, metric) for group in groups]
    header = tables.header(metric)
    if (picking := tables.picking_note(groups)) and not runs.is_figure(metric):
        notes.insert(0, picking)
    if unequal := runs.budgets(groups):
        notes.insert(0, f"not trained equally long: {'; '.join(unequal)}")
    if runs.is_figure(metric):
        unequal = sharpness_tables.unequal_note(groups, [metric])
        notes += [CAVEAT, *([unequal] if unequal else [])]
    baseline = _baseline(groups, options.baseline)
    found = runs.differences_to(baseline, groups, lambda run: run.last(metric))
    if options.baseline is not None and not found:
        raise ValueError(
            f"--baseline={options.baseline} has no effect: no other row has two seeds in common "
            "with that one"
        )
    if options.png and metric != "top1":
        raise ValueError(f"--png draws top1, and not {metric}: leave out one of the two")
    html = page.as_html(groups, metric, baseline, found, notes) if options.html else ""
    spread = tables.spread_note(groups)
    captioned = [spread, *notes] if spread else notes
    difference_header = tables.difference_header(metric, baseline.name)
    differences = [tables.difference_cells(name, each, metric) for name, each in found.items()]

    if options.markdown:
        text = tables.markdown(header, rows, [] if differences else captioned)
        if differences:
            text += "\n" + tables.markdown(difference_header, differences, captioned)
        runs.write_text(options.markdown, text)
    if options.png:
        runs.plot_groups(groups, options.png)
    if options.html:
        runs.write_text(options.html, html)
    data = tables.as_data(groups, metric)
    if options.json:
        content = {
            "metric": metric,
            "runs": data,
            "baseline": baseline.name,
            "differences": tables.differences_as_data(found),
            "notes": notes,
        }
        runs.write_text(options.json, json.dumps(content, indent=1) + "\n")
    if options.csv:
        runs.write_text(options.csv, _csv(data))

    # Output that goes to a file is not to be folded at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(table(header[:-_ONLY_IN_FILES], [row[:-_ONLY_IN_FILES] for row in rows]))
    if differences:
        console.print(table(difference_header, differences))
    for note in captioned:
        console.print(printable(note), markup=False, soft_wrap=True)


def _read(paths: Sequence[pathlib.Path]) -> tuple[list[runs.Run], list[str]]:
    """The runs, and notes on those below a folder that have no record yet."""
    loaded: list[runs.Run] = []
    notes: list[str] = []
    for path in paths:
        for folder in runs.run_folders(path):
            if folder != path and not runs.evaluations(runs.RunFolder(folder).records()):
                notes.append(f"left out, not evaluated yet: {folder}")
            else:
                loaded.append(runs.read_run(folder))
    return loaded, notes


def _baseline(groups: Sequence[runs.Group], name: str | None) -> runs.Group:
    if name is None:
        without = [g for g in groups if g.runs[0].config.get("method.name") == "none"]
        return (without or groups)[0]
    for group in groups:
        if group.name == name:
            return group
    names = ", ".join(repr(group.name) for group in groups)
    raise ValueError(f"there is no row {name!r}: the baseline is one of {names}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """For the screen; the first column is aligned left, the others right."""
    shown = Table()
    for i, title in enumerate(map(printable, header)):
        shown.add_column(escape(title), justify="right" if i else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(escape(printable(cell)) for cell in row))
    return shown


def _csv(data: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, list(data[0]), lineterminator="\n")
    table.writeheader()
    table.writerows({**row, "seeds": " ".join(map(str, row["seeds"]))} for row in data)
    return text.getvalue()
