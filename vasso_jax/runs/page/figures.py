"""The figures of the page: learning curves of groups of runs, and heat maps over two settings."""

import dataclasses
import html
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from plotly import graph_objects as go

from vasso_jax.runs.comparison import Group
from vasso_jax.runs.page.grids import Grid, Place
from vasso_jax.runs.page.legend import SINGLE_RUNS, box_id
from vasso_jax.runs.records import OF_SHARPNESS, Record
from vasso_jax.runs.run import Run
from vasso_jax.runs.series import axis_label, band, means, over_epochs, splits, style, title
from vasso_jax.runs.sharpness import is_figure
from vasso_jax.runs.statistics import Estimate, estimate
from vasso_jax.runs.tables import plus_minus, scale_of, shown

# Of the evaluations; the metric of the comparison comes before them.
_SHOWN = ("top1", "loss")
# The light part of ColorBrewer's YlGnBu: black text can be read on all of it.
_HEAT = ("#ffffcc", "#a1dab4", "#41b6c4")
# Of a curve with more epochs than this, the points are not marked.
_MARKED = 60


@dataclasses.dataclass(frozen=True)
class Panel:
    """A figure, and the text above it, which is not escaped yet."""

    title: str
    figure: go.Figure


def curves(groups: Sequence[Group], metric: str) -> list[Panel]:
    """A panel per field that is drawn over the epochs, first the metric of the comparison."""
    evaluated = {
        name
        for group in groups
        for run in group.runs
        for record in run.evaluations
        for name in record
    }
    fields = [field for field in dict.fromkeys((metric, *_SHOWN)) if field in evaluated]
    panels = [_panel(groups, splits(groups), field) for field in fields]
    if any(over_epochs(run.training, "loss") for group in groups for run in group.runs):
        panels.append(_panel(groups, "train", "loss"))
    if any(run.sharpness for group in groups for run in group.runs):
        panels += [_panel(groups, "sharpness", field) for field in OF_SHARPNESS]
    return panels


def heat_maps(grids: Sequence[Grid], metric: str) -> list[Panel]:
    """The mean last value of the metric over the runs of each cell, with one scale for all."""
    scale, _ = scale_of(metric)
    found = [
        {
            place: estimate([scale * run.last(metric) for run in group.runs])
            for place, group in grid.cells.items()
        }
        for grid in grids
    ]
    means_of_all = [value.mean for values in found for value in values.values()]
    ends = (min(means_of_all), max(means_of_all)) if means_of_all else (0, 0)
    return [
        _heat_map(grid, values, metric, ends) for grid, values in zip(grids, found, strict=True)
    ]


def _heat_map(
    grid: Grid, values: Mapping[Place, Estimate], metric: str, ends: tuple[float, float]
) -> Panel:
    _, digits = scale_of(metric)
    notes = {
        place: f"{_lines(grid.cells[place].name)}<br>{plus_minus(value, digits)}, {_runs(value.n)}"
        for place, value in values.items()
    }

    def in_rows(of_cell: Mapping[Place, object]) -> list[list[object]]:
        return [[of_cell.get((x, y)) for x in grid.columns] for y in grid.rows]

    figure = go.Figure(
        go.Heatmap(
            x=list(map(str, grid.columns)),
            y=list(map(str, grid.rows)),
            z=in_rows({place: value.mean for place, value in values.items()}),
            customdata=in_rows(notes),
            texttemplate=f"%{{z:.{digits}f}}",
            textfont={"color": "black"},
            hovertemplate="%{customdata}<extra></extra>",
            hoverongaps=False,
            colorscale=_HEAT,
            zmin=ends[0],
            zmax=ends[1],
            colorbar={"thickness": 12, "title": {"text": _plain(shown(metric))}},
            xgap=2,
            ygap=2,
        )
    )
    # As names, not numbers: cells of equal size, however far apart the values are.
    x, y = grid.fields
    _lay_out(figure, _plain(x), _plain(y), {"type": "category"}, {"type": "category"})
    which = "" if is_figure(metric) else "last test "
    return Panel(f"{grid.name}: {which}{shown(metric)}, by {x} and {y}", figure)


def _panel(groups: Sequence[Group], split: str, field: str) -> Panel:
    figure = go.Figure()
    last = 0
    for i, group in enumerate(groups):
        of_runs = [over_epochs(_records(run, split), field) for run in group.runs]
        last = max([last, *(epoch for curve in of_runs for epoch in curve)])
        for trace in _traces(i, group, of_runs, scale_of(field)[1]):
            figure.add_trace(trace)
    epochs = {"dtick": 1} if last <= 10 else {"tickformat": "d"}
    _lay_out(figure, "epoch", _plain(axis_label(field)), epochs, {})
    return Panel(title(field) if split == "sharpness" else f"{split} {title(field)}", figure)


def _records(run: Run, split: str) -> Sequence[Record]:
    return {"train": run.training, "sharpness": run.sharpness}.get(split, run.evaluations)


def _traces(
    i: int, group: Group, of_runs: Sequence[Mapping[int, float]], digits: int
) -> Iterator[go.Scatter]:
    """Single runs, the band about their mean, and on top the mean."""
    found = means(of_runs)
    colour, dashes = style(i)
    line = {"color": colour, "dash": ",".join(f"{length}px" for length in dashes) or "solid"}
    point = f"%{{fullData.meta.name}}<br>epoch %{{x}}: %{{y:.{digits}f}}"
    if len(of_runs) > 1:
        for number, (run, curve) in enumerate(zip(group.runs, of_runs, strict=True)):
            name = f"{group.name}, seed {' '.join(map(str, run.seeds))}"
            yield go.Scatter(
                x=list(curve),
                y=list(curve.values()),
                mode=_mode(curve),
                line=line | {"width": 1},
                marker={"size": 3},
                opacity=0.6,
                hovertemplate=f"{point}<br>%{{fullData.meta.folder}}<extra></extra>",
                meta={
                    "boxes": [SINGLE_RUNS, box_id(i), box_id(i, number)],
                    "name": _lines(name),
                    "folder": _lines(run.folder.name),
                },
            )
        low, high = band(found)
        yield go.Scatter(
            x=[*found, *reversed(found)],
            y=[*high, *reversed(low)],
            fill="toself",
            fillcolor=colour,
            opacity=0.2,
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            meta={"boxes": [box_id(i)]},
        )
    yield go.Scatter(
        x=list(found),
        y=[value.mean for value in found.values()],
        mode=_mode(found),
        line=line | {"width": 3},
        marker={"size": 6},
        customdata=[_spread(value, digits) for value in found.values()],
        hovertemplate=f"{point}%{{customdata}}<extra></extra>",
        meta={"boxes": [box_id(i)], "name": _lines(group.name)},
    )


def _lay_out(
    figure: go.Figure, x: str, y: str, columns: Mapping[str, object], rows: Mapping[str, object]
) -> None:
    """Titles and room for the axes. Colours are the page's, and so are legend and title."""
    figure.update_layout(
        template=None,
        showlegend=False,
        hovermode="closest",
        margin={"l": 56, "r": 8, "t": 24, "b": 44},
        xaxis={"title": {"text": x}, "automargin": True, **columns},
        yaxis={"title": {"text": y}, "automargin": True, **rows},
    )


def _spread(value: Estimate, digits: int) -> str:
    spread = "" if value.std is None else f" +- {value.std:.{digits}f}"
    return f"{spread}, {_runs(value.n)}"


def _runs(n: int) -> str:
    return f"{n} run{'s' if n > 1 else ''}"


def _mode(points: Mapping[int, object]) -> str:
    return "lines+markers" if len(points) <= _MARKED else "lines"


def _lines(text: str) -> str:
    """The text in lines that fit beside a point on a phone."""
    return "<br>".join(map(_plain, textwrap.wrap(text, 36, break_on_hyphens=False)))


def _plain(text: str) -> str:
    """The text for plotly, which reads some tags and entities as HTML does."""
    return html.escape(text, quote=False)
