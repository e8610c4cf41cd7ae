"""Learning curves as a picture: of one run, or of groups of runs."""

import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from vasso_jax.runs.comparison import Group
from vasso_jax.runs.records import evaluations, of_split


def plot_curves(records: Sequence[dict[str, Any]], path: pathlib.Path, title: str) -> None:
    """Draws loss, top-1 accuracy, learning rate and, if recorded, the cosine over the epochs.

    Args:
        records: of one run.
        path: of the PNG to write.
        title: above the picture.

    Raises:
        OSError: the picture cannot be written.
    """
    # Local, and without pyplot: matplotlib is slow to import, and pyplot looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    train = of_split(records, "train")
    panels = [("loss", "loss"), ("top1", "top-1 accuracy"), ("lr", "learning rate")]
    if any("cosine" in record for record in records):
        panels.append(("cosine", "cosine of gradient and direction"))
    figure = Figure(figsize=(4 * len(panels), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, (field, label) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for shown in (train,) if field == "lr" else (train, evaluations(records)):
            points = [(r["epoch"], r[field]) for r in shown if field in r]
            if points:
                label = shown[0]["split"]
                axes.plot(*zip(*points, strict=True), label=label, marker=".", markersize=3)
        axes.set_xlabel("epoch")
        axes.set_title(label, fontsize="medium")
        axes.grid(alpha=0.3)
        if field in ("loss", "top1"):
            axes.legend()
    figure.savefig(path, dpi=110)


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

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for group in groups:
        runs = [{r["epoch"]: 100 * r["top1"] for r in run.evaluations} for run in group.runs]
        epochs = sorted(set.intersection(*(set(run) for run in runs)))
        values = [[run[epoch] for run in runs] for epoch in epochs]
        means = [statistics.fmean(v) for v in values]
        (line,) = axes.plot(
            epochs, means, label=group.name, marker="." if len(epochs) < 60 else "", markersize=3
        )
        if len(runs) > 1:
            stds = [statistics.stdev(v) for v in values]
            low, high = (
                [m + sign * s for m, s in zip(means, stds, strict=True)] for sign in (-1, 1)
            )
            axes.fill_between(epochs, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
    axes.set_xlabel("epoch")
    splits = {run.evaluations[0]["split"] for group in groups for run in group.runs}
    axes.set_ylabel(f"{' or '.join(sorted(splits))} top-1, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)
