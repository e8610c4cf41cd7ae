"""Compares runs over their seeds:

vasso-jax compare RUN... [--markdown FILE] [--png FILE]

RUN is a run folder. Runs that differ only in `seed` and `label_noise.seed` form one row: mean +-
standard deviation over them. Runs that have not finished are left out, with a note. Exit status: 0;
2 if a folder cannot be used, with one message.
"""

import argparse
import pathlib
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vasso_jax import runs
from vasso_jax.runs import tables


def main(arguments: list[str] | None = None) -> None:
    """The command; see above.

    Args:
        arguments: of the command line, without the program; None: those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="vasso-jax compare", description="Compares runs over their seeds."
    )
    parser.add_argument("runs", nargs="+", type=pathlib.Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--markdown", type=pathlib.Path, metavar="FILE", help="write the table there, too"
    )
    parser.add_argument(
        "--png", type=pathlib.Path, metavar="FILE", help="draw test top-1 over the epochs"
    )
    options = parser.parse_args(arguments)
    try:
        _compare(options.runs, options.markdown, options.png)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _compare(
    folders: list[pathlib.Path], markdown: pathlib.Path | None, png: pathlib.Path | None
) -> None:
    loaded = [runs.read_run(folder) for folder in folders]
    groups = runs.group_runs(loaded)
    notes = [tables.unfinished_note(run) for run in loaded if not run.finished]
    if not groups:
        raise ValueError(f"no run has finished. {notes[0]}")
    rows = [tables.cells(group) for group in groups]

    table = Table()
    for i, title in enumerate(tables.HEADER):
        table.add_column(title, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    # Output that goes to a file is not to be folded at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(table)
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    if markdown:
        markdown.write_text(tables.markdown(tables.HEADER, rows, notes))
    if png:
        runs.plot_groups(groups, png)
