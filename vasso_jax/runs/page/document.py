"""The page itself, from the template `page.html`."""

import importlib.resources
import string
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from vasso_jax.runs import sharpness_tables, tables
from vasso_jax.runs.comparison import Group
from vasso_jax.runs.page.grids import find_grids
from vasso_jax.runs.page.legend import legend
from vasso_jax.runs.series import band_note, title
from vasso_jax.runs.sharpness import CAVEAT, is_figure
from vasso_jax.runs.statistics import PairedDifference

if TYPE_CHECKING:
    from vasso_jax.runs.page.figures import Panel

_PAIRS = (
    "Means of differences between runs of equal seeds, with Student's 95 % interval, and how many "
    "seeds it would take to make the interval that short."
)
_MEASURED = f"Of the last checkpoint. {sharpness_tables.MEANS}"
_PICKED = "best: the test of the checkpoint with the best validation accuracy"
_ONE_EACH = "One line per run."


def as_html(
    groups: Sequence[Group],
    metric: str,
    baseline: Group,
    found: Mapping[str, PairedDifference],
    notes: Sequence[str],
) -> str:
    """Tables, notes, learning curves and heat maps of a comparison, with all that shows them.

    The page has about 5 MB, nearly all of it plotly.js.

    Args:
        groups: finished runs.
        metric: of the test, or a figure that was measured; see `Run.last`.
        baseline: the group that differences are taken to.
        found: these differences; see `differences_to`.
        notes: below the tables, such as what the best checkpoints were picked by if not by a
            validation split.

    Raises:
        ValueError: plotly is not installed, or a run has no such metric.
    """
    try:
        # Local: plotly is not needed for anything else.
        from plotly.io import to_json
        from plotly.offline import get_plotlyjs

        from vasso_jax.runs.page import figures
    except ModuleNotFoundError as error:
        raise ValueError("an HTML page needs plotly: pip install plotly") from error

    rows = [tables.cells(group, metric) for group in groups]
    shown = _table("means", tables.SPREAD, tables.header(metric), rows)
    if found:
        rows = [tables.difference_cells(name, each, metric) for name, each in found.items()]
        header = tables.difference_header(metric, baseline.name)
        shown += _table("differences", _PAIRS, header, rows)
    measured = sharpness_tables.figures_of(run.figures for g in groups for run in g.runs)
    if measured:
        rows = [
            sharpness_tables.group_cells(g.name, [run.figures for run in g.runs], measured)
            for g in groups
        ]
        shown += _table("sharpness", _MEASURED, sharpness_tables.group_header(measured), rows)
        unequal = sharpness_tables.unequal_note(groups, measured)
        notes = [*notes, CAVEAT, *([unequal] if unequal else [])]
    curves = figures.curves(groups, metric)
    maps = figures.heat_maps(find_grids(groups), metric)
    if any(run.validations for group in groups for run in group.runs):
        notes = [*notes, _PICKED]
    band = band_note(groups)
    what = title(metric) if is_figure(metric) else f"test {title(metric)}"
    count = sum(len(group.runs) for group in groups)
    return _template().substitute(
        title=escape(f"{what[0].upper()}{what[1:]}: {count} runs in {len(groups)} groups"),
        tables=shown,
        notes="".join(map(_note, notes)),
        lines=f"Thick line: mean of a group; thin lines: its runs; {band}" if band else _ONE_EACH,
        no_band="" if band else "hidden",
        legend=legend(groups),
        curves=_places(curves, 0),
        maps=_places(maps, len(curves)),
        no_maps="" if maps else "hidden",
        figures=f"[{','.join(str(to_json(panel.figure)) for panel in (*curves, *maps))}]",
        plotly=get_plotlyjs(),
    )


def _template() -> string.Template:
    file = importlib.resources.files("vasso_jax.runs.page") / "page.html"
    return string.Template(file.read_text(encoding="utf-8"))


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>\n'


def _table(name: str, caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in a box of its own that scrolls; the first cell of each row is its header."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in header)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        f"{''.join(f'<td>{escape(cell)}</td>' for cell in rest)}</tr>\n"
        for first, *rest in rows
    )
    return (
        f'<p class="note" id="{name}">{escape(caption)}</p>\n'
        f'<div class="box" role="region" tabindex="0" aria-labelledby="{name}">\n'
        f'<table aria-labelledby="{name}">\n<thead><tr>{titles}</tr></thead>\n'
        f"<tbody>\n{body}</tbody>\n</table>\n</div>\n"
    )


def _places(panels: Sequence["Panel"], first: int) -> str:
    """Where the script draws the figures, which are numbered from `first` on."""
    return "".join(
        f"<figure><figcaption>{escape(panel.title)}</figcaption>"
        f'<div class="plot" id="figure{i}"></div></figure>\n'
        for i, panel in enumerate(panels, start=first)
    )
