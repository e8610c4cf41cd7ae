"""The picture of what has been measured, from the content of its JSON file alone."""

import pathlib
from typing import Any

from matplotlib.figure import Figure

COLOURS = ("0.45", "tab:blue", "tab:orange", "tab:green")  # in the order of the directions
CURVES_OF = 0.05  # learning rate of the two panels on the left, where it was measured


def plot(record: dict[str, Any], path: pathlib.Path) -> None:
    """Successive cosines and errors over one run, and the errors' parts for all learning rates."""
    at_rest, runs = record["settings"]["at_rest"], record["runs"]
    run = next((run for run in runs if run["lr"] == CURVES_OF), runs[0])
    steps_per_epoch = record["settings"]["steps"] / record["settings"]["epochs"]
    epochs = [step / steps_per_epoch for step in run["curves"]["step"]]
    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for (name, rest), colour in zip(at_rest.items(), COLOURS, strict=True):
        theta, curve = 2 * rest / (1 + rest), run["curves"][name]
        left.plot(epochs, curve["successive_cosine"], color=colour, label=name)
        left.axhline(1 - theta, color=colour, linestyle="--", linewidth=1)
        middle.plot(epochs, curve["over_sam"], color=colour, label=name)
        middle.axhline(rest, color=colour, linestyle="--", linewidth=1)
    left.set_title(f"cosine of successive directions, lr {run['lr']:g}", fontsize="medium")
    left.set_ylabel("cosine")
    left.set_ylim(-0.05, 1.05)
    left.legend(fontsize="small", loc="upper right", bbox_to_anchor=(1, 0.59), ncols=2)
    left.set_xlabel("epoch (dashed: 1 - theta, pure noise)")
    middle.set_title(f"mean squared error / SAM's, lr {run['lr']:g}", fontsize="medium")
    middle.set_ylabel("ratio, logarithmic scale")
    middle.set_yscale("log")
    middle.legend(fontsize="small", loc="upper right", bbox_to_anchor=(1, 0.85))
    middle.set_yticks([0.1, 0.2, 0.5, 1], ["0.1", "0.2", "0.5", "1"])
    middle.set_yticks([], minor=True)
    middle.set_xlabel("epoch (dashed: theta / (2 - theta), parameters at rest)")

    for i, ((name, rest), colour) in enumerate(zip(at_rest.items(), COLOURS, strict=True)):
        found = [run["phases"]["first"]["independent"][name] for run in runs]
        places = [place + (i - 1.5) * 0.2 for place in range(len(runs))]
        variance = [x["variance_over_sam"] for x in found]
        bias = [max(x["bias_over_sam"], 0) for x in found]
        right.bar(places, variance, 0.18, color=colour, label=name)
        right.bar(
            places, bias, 0.18, bottom=variance, facecolor="white", edgecolor=colour, hatch="///"
        )
        for place in places:
            right.hlines(rest, place - 0.1, place + 0.1, color="black", linewidth=1.5)
    right.set_xticks(range(len(runs)), [f"{run['lr']:g}" for run in runs])
    right.set_title("mean squared error / SAM's, first tenth of each run", fontsize="medium")
    right.set_ylabel("ratio")
    right.set_xlabel("lr (full: variance; hatched: bias; black: at rest)")
    right.legend(fontsize="small", loc="upper left", ncols=2)
    right.set_ylim(top=1.25 * right.get_ylim()[1])  # room for the legend
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
    for axes in (left, middle):
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, dpi=110)
