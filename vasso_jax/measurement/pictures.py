"""The pictures of a run folder: the density of the eigenvalues, and the loss around the weights."""

import io
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from vasso_jax.runs import Measurement, RunFolder, write_bytes
from vasso_jax.runs.files import locked
from vasso_jax.sharpness.density import Density
from vasso_jax.sharpness.pictures import plot_densities, plot_lines, plot_plane
from vasso_jax.sharpness.slices import Line, Plane

_AXIS = "filter-normalised random direction"


def draw(made: Measurement, folder: RunFolder) -> pathlib.Path | None:
    """Draws a measurement of a density or a slice into the folder; nothing of any other kind.

    Returns:
        The picture.

    Raises:
        ValueError: there is nothing in it that could be drawn.
        OSError: it cannot be written.
    """
    if made.kind not in ("density", "slice"):
        return None
    path = folder.density_path if made.kind == "density" else folder.slice_path
    name, arrays = f"{folder.path.name}@{made.step}", _arrays(made.details)
    picture: Any = io.BytesIO()  # so that the file is replaced at once
    if made.kind == "density":
        density = Density(arrays["nodes"], arrays["weights"], made.details["products"])
        plot_densities({name: density}, picture)
    elif made.settings["dimensions"] == "1d":
        plot_lines({name: Line(arrays["x"], arrays["losses"])}, picture, _AXIS)
    else:
        plane = Plane(*(arrays[field] for field in Plane._fields))
        plot_plane(plane, picture, (_AXIS, f"another {_AXIS}"))
    with locked(folder.sharpness_path):  # as another command may draw the same one
        write_bytes(path, picture.getvalue())
    return path


def _arrays(details: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Lists as arrays, with NaN for None."""
    return {name: np.array(x, float) for name, x in details.items() if isinstance(x, list)}
