"""Learning curves as a picture: of one run, or of groups of runs."""

import io
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vasso_jax.runs.comparison import Group
from vasso_jax.runs.files import write_bytes
from vasso_jax.runs.records import OF_SHARPNESS, evaluations, of_split
from vasso_jax.runs.series import (
    axis_label,
    band,
    band_note,
    means,
    over_epochs,
    splits,
    style,
    title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_curves(records: Sequence[dict[str, Any]], path: pathlib.Path, name: str) -> None:
    """Draws loss, top-1 accuracy, learning rate and, if recorded, further fields over the epochs.

    Args:
        records: of one run.
        path: of the PNG to write.
        name: above the picture.

    Raises:
        OSError: the picture cannot be written.
    """
    # Local, and without pyplot: matplotlib is slow to import, and pyplot looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train, evaluated = of_split(records, "train"), evaluations(records)
    curves = {"loss": (train, evaluated), "top1": (train, evaluated), "lr": (train,)}
    if any("cosine" in record for record in records):
        curves["cosine"] = (train, evaluated)
    if sharpness := of_split(records, "sharpness"):
        curves |= dict.fromkeys(OF_SHARPNESS, (sharpness,))
    figure = Figure(figsize=(4 * len(curves), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(name)
    for axes, (field, of_splits) in zip(
        figure.subplots(1, len(curves)), curves.items(), strict=True
    ):
        for shown in of_splits:
            if points := over_epochs(shown, field):
                axes.plot(*_points(points), label=shown[0]["split"], marker=".", markersize=3)
                axes.legend()
        _describe(axes, title(field), axis_label(field))
    _write(figure, path)


def plot_groups(groups: Sequence[Group], path: pathlib.Path) -> None:
    """Draws top-1 over the epochs: the mean of each group, with a band of one deviation.

    It is that of the validation, where runs have one, else of the test.

    Args:
        groups: an epoch is drawn if every run of the group was evaluated in it.
        path: of the PNG to write.

    Raises:
        OSError: the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for i, group in enumerate(groups):
        found = means([over_epochs(run.evaluations, "top1") for run in group.runs])
        colour, dashes = style(i)
        axes.plot(
            *_points({epoch: value.mean for epoch, value in found.items()}),
            label=group.name,
            color=colour,
            linestyle=(0, tuple(dashes)) if dashes else "-",
            marker="." if len(found) < 60 else "",
            markersize=3,
        )
        if len(group.runs) > 1:
            axes.fill_between(list(found), *band(found), alpha=0.2, color=colour, linewidth=0)
    _describe(axes, f"{splits(groups)} {title('top1')}", axis_label("top1"))
    axes.legend(fontsize="small", title=band_note(groups) or None, title_fontsize="small")
    _write(figure, path)


def _write(figure: "Figure", path: pathlib.Path) -> None:
    """As a PNG, atomically, whatever the name of the file ends with."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_bytes(path, content.getvalue())


def _describe(axes: "Axes", name: str, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(name, fontsize="medium")
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.grid(alpha=0.3)


def _points(curve: dict[int, float]) -> tuple[list[int], list[float]]:
    return list(curve), list(curve.values())
