"""The learning curves of one run as a picture."""

import pathlib
from collections.abc import Sequence
from typing import Any


def plot_curves(records: Sequence[dict[str, Any]], path: pathlib.Path, title: str) -> None:
    """Draws loss, top-1 accuracy, learning rate and, where recorded, the cosine over the epochs.

    Args:
        records: of a metrics.jsonl.
        path: of the PNG to write.
        title: above the picture.
    """
    # Local, and without pyplot: matplotlib is slow to import and pyplot picks a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [("loss", "loss"), ("top1", "top-1 accuracy"), ("lr", "learning rate")]
    if any("cosine" in record for record in records):
        panels.append(("cosine", "cosine of gradient and direction"))
    figure = Figure(figsize=(4 * len(panels), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, (field, label) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for split in ("train",) if field == "lr" else ("train", "test"):
            points = [(r["epoch"], r[field]) for r in records if r["split"] == split and field in r]
            if points:
                axes.plot(*zip(*points, strict=True), label=split, marker=".", markersize=3)
        axes.set_xlabel("epoch")
        axes.set_title(label, fontsize="medium")
        axes.grid(alpha=0.3)
        if field in ("loss", "top1"):
            axes.legend()
    figure.savefig(path, dpi=110)
