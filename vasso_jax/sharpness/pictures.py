"""Pictures of curves, lines and planes of the loss, and of spectral densities."""

import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING

import numpy as np

from vasso_jax.sharpness.checks import check_positive
from vasso_jax.sharpness.curves import Curve
from vasso_jax.sharpness.density import Density
from vasso_jax.sharpness.slices import Line, Plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

File = str | os.PathLike[str] | IO[bytes]

LEVELS = 20  # of contours


def plot_curves(curves: Mapping[str, Curve], path: File) -> None:
    """Draws loss increases over the distance: the mean over the directions of each curve.

    Where there are several directions, a band has one standard deviation on either side.

    Args:
        curves: by the name for the legend, at least one.
        path: of the picture, whose ending says of which kind it is; or a binary file for a PNG.

    Raises:
        ValueError: there are no curves.
        OSError: the picture cannot be written.
    """
    figure, axes = _figure(curves, "distance from the parameters, L2 norm", "loss increase")
    for name, curve in curves.items():
        (drawn,) = axes.plot(curve.distances, curve.mean, label=name, marker=".", markersize=3)
        if len(curve.increases) > 1:
            edges = curve.mean - curve.deviation, curve.mean + curve.deviation
            axes.fill_between(
                curve.distances, *edges, alpha=0.2, color=drawn.get_color(), linewidth=0
            )
    numbers = sorted({len(curve.increases) for curve in curves.values()} - {1})
    note = f"band: +- one standard deviation over {' or '.join(map(str, numbers))} directions"
    axes.legend(fontsize="small", title=note if numbers else None, title_fontsize="small")
    _save(figure, path)


def plot_lines(lines: Mapping[str, Line], path: File, label: str) -> None:
    """Draws losses along lines.

    Args:
        lines: by the name for the legend, at least one.
        path: of the picture, whose ending says of which kind it is; or a binary file for a PNG.
        label: of the horizontal axis, such as "x, in units of the filter-normalised direction".

    Raises:
        ValueError: there are no lines.
        OSError: the picture cannot be written.
    """
    figure, axes = _figure(lines, label, "loss")
    for name, line in lines.items():
        axes.plot(line.x, line.losses, label=name, marker=".", markersize=3)
    axes.legend(fontsize="small")
    _save(figure, path)


def plot_plane(plane: Plane, path: File, labels: tuple[str, str]) -> None:
    """Draws contours of the loss, whose levels are evenly spaced in its logarithm.

    Evenly spaced losses would show steep walls and hide the shape of the minimum. Positions where
    the loss is not finite or not positive are left blank.

    Args:
        plane: at least two positions along each axis.
        path: of the picture, whose ending says of which kind it is; or a binary file for a PNG.
        labels: of the horizontal and the vertical axis.

    Raises:
        ValueError: fewer positions, or no loss that is finite and positive.
        OSError: the picture cannot be written.
    """
    from matplotlib.colors import LogNorm

    if min(plane.losses.shape) < 2:
        raise ValueError(f"a plane needs two positions per axis, not {plane.losses.shape}")
    shown = np.isfinite(plane.losses) & (plane.losses > 0)
    if not shown.any():
        raise ValueError("a plane needs losses that are finite and positive: their logarithm is")
    figure, axes = _figure((None,), *labels)
    losses = np.ma.array(plane.losses, mask=~shown)
    levels = np.geomspace(losses.min(), max(losses.max(), losses.min() * 1.001), LEVELS)
    filled = axes.contourf(plane.x, plane.y, losses, levels=levels, norm=LogNorm(), cmap="viridis")
    axes.contour(plane.x, plane.y, losses, levels=levels, colors="white", linewidths=0.4)
    axes.plot(*plane.points.T, "o", color="white", markeredgecolor="black")
    axes.grid(False)
    figure.colorbar(filled, label="loss, log scale", format="%.3g")
    _save(figure, path)


def plot_densities(
    densities: Mapping[str, Density], path: File, width: float | None = None
) -> None:
    """Draws densities over one axis of eigenvalues; the vertical axis is logarithmic.

    Args:
        densities: by the name for the legend, at least one.
        path: of the picture, whose ending says of which kind it is; or a binary file for a PNG.
        width: > 0, see `Density.smoothed`; by default 1/200 of the range of all nodes.

    Raises:
        ValueError: there are no densities, or the width is not positive.
        OSError: the picture cannot be written.
    """
    if width is not None:
        check_positive("width", width)
    figure, axes = _figure(densities, "eigenvalue", "density")
    nodes = np.concatenate([density.nodes for density in densities.values()])
    low, high = nodes.min(), nodes.max()
    used: float = width or (high - low) / 200 or 1.0
    grid = np.linspace(low - 5 * used, high + 5 * used, 2000)
    curves = {name: density.smoothed(grid, used) for name, density in densities.items()}
    for name, curve in curves.items():
        axes.semilogy(grid, curve, label=name)
    # One eigenvalue of a large matrix is a low peak; far below it are the tails of the Gaussians.
    least = min(density.weights[density.weights > 1e-12].min() for density in densities.values())
    axes.set_ylim(least / used / 10, 3 * max(curve.max() for curve in curves.values()))
    axes.legend(fontsize="small")
    _save(figure, path)


def _figure(things: object, *labels: str) -> "tuple[Figure, Axes]":
    # Local, and without pyplot: matplotlib is slow to import, and pyplot looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not things:
        raise ValueError("there is nothing to draw")
    figure = Figure(figsize=(6, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: "Figure", path: File) -> None:
    named = isinstance(path, str | os.PathLike)
    figure.savefig(path, dpi=110, format=None if named else "png")
