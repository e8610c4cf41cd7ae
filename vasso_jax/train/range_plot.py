"""The picture of a learning-rate range test."""

import io
import pathlib

from vasso_jax.runs import write_bytes
from vasso_jax.runs.series import axis_label, style
from vasso_jax.train.lr_finder import RangeTest


def plot_range_test(found: RangeTest, path: pathlib.Path, name: str) -> None:
    """Draws the losses and their average over the learning rate, with the rates read off.

    Args:
        found: of `find_lr`.
        path: of the PNG to write.
        name: above the picture.

    Raises:
        OSError: the picture cannot be written.
    """
    # Local, and without pyplot: matplotlib is slow to import, and pyplot looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colour, _ = style(0)
    axes.plot(found.rates, found.losses, ".", color=colour, alpha=0.35, label="loss of each step")
    axes.plot(found.rates, found.smoothed, color=colour, label="smoothed")
    marked = {
        "steepest descent": found.steepest,
        "minimum": found.minimum,
        "suggestion, a tenth of that": found.suggested,
        "diverged": found.diverged,
    }
    for i, (title, rate) in enumerate(marked.items(), start=1):
        if rate is not None:
            axes.axvline(rate, color=style(i)[0], linestyle="--", label=f"{title}: {rate:.2g}")
    # Of a loss that has diverged, one step may be as high as all others together.
    lowest, highest = found.losses.min(), found.smoothed.max()
    margin = 0.05 * (highest - lowest)
    if margin:
        axes.set_ylim(lowest - margin, highest + margin)
    axes.set_xscale("log")
    axes.set_title(f"learning-rate range test of {name}", fontsize="medium")
    axes.set_xlabel("learning rate (logarithmic)")
    axes.set_ylabel(f"training loss: {axis_label('loss')}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    write_bytes(path, content.getvalue())
