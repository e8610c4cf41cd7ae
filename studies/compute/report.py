"""What the study of compute found, as JSON, as Markdown and as a figure."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from studies.compute.methods import STEPS_PER_EPOCH, evaluations
from vasso_jax.runs import Run, estimate, paired_difference
from vasso_jax.runs.tables import markdown

Key = tuple[str, int]
Rows = list[dict[str, Any]]
COLORS = {
    "SGD": "0.35",
    "SAM": "tab:blue",
    "VaSSO": "#a63603",
    "VaSSO, every 5th": "#f16913",
    "VaSSO, late window": "#fdae6b",
    "VaSSO, descent": "tab:purple",
    "Momentum-SAM": "tab:green",
}
PERCENT = 100


def summarise(runs: Mapping[tuple[str, int, int], Run]) -> dict[str, Rows]:
    """All numbers of the study, fit for JSON; accuracies and errors in 0..1.

    Args:
        runs: by method, epochs and seed.

    Returns:
        `runs`, one row each; `summary`, one row per method and length; `paired_differences`, of
        the last epoch's test top-1, one row per method, length and baseline (none with one seed).
    """
    rows: Rows = [
        {
            "method": method,
            "epochs": epochs,
            "seed": seed,
            "evaluations": evaluations(method, epochs),
            "evaluations_per_image": _per_image(method, epochs),
            "test_top1": run.last(),
            "test_loss": run.tests[-1]["loss"],
            "seconds": run.tests[-1]["seconds"],
        }
        for (method, epochs, seed), run in runs.items()
    ]
    groups: dict[Key, Rows] = {}
    for row in rows:
        groups.setdefault((row["method"], row["epochs"]), []).append(row)
    top1 = {key: {row["seed"]: row["test_top1"] for row in group} for key, group in groups.items()}
    return {
        "summary": [_summary(key, group) for key, group in groups.items()],
        "paired_differences": _differences(top1),
        "runs": rows,
    }


def as_markdown(content: Mapping[str, Rows]) -> str:
    """Test error by method and length, and below it the paired differences in accuracy."""
    summary, differences = content["summary"], content["paired_differences"]
    lengths = sorted({row["epochs"] for row in summary})
    columns = [f"{epochs} epochs" for epochs in lengths]
    errors: dict[str, dict[int, str]] = {}
    costs: dict[str, str] = {}
    for method in dict.fromkeys(row["method"] for row in summary):
        of_method = [row for row in summary if row["method"] == method]
        for row in of_method:
            text = f"{PERCENT * row['test_error']['mean']:.2f}"
            errors.setdefault(method, {})[row["epochs"]] = text + _interval(row["test_error"], "")
        per_step = of_method[-1]["evaluations_per_image"] / of_method[-1]["epochs"]
        costs[method] = f"{per_step:.2f}"
    first = markdown(
        ["test error, %", "evaluations per step", *columns],
        [
            (method, costs[method], *(cells.get(e, "") for e in lengths))
            for method, cells in errors.items()
        ],
        [],
    )
    pairs: dict[str, dict[int, str]] = {}
    for row in differences:
        name = f"{row['method']} - {row['minus']}, as many {row['as_many']}"
        text = f"{PERCENT * row['mean']:+.2f}"
        pairs.setdefault(name, {})[row["epochs"]] = text + _interval(row, "+")
    second = markdown(
        ["difference in test top-1, points", *columns],
        [(name, *(cells.get(e, "") for e in lengths)) for name, cells in pairs.items()],
        [],
    )
    return "\n".join([first, second] if pairs else [first])


def plot(summary: Sequence[Mapping[str, Any]], path: pathlib.Path) -> None:
    """Test error by gradient evaluations, with 95 % intervals, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    methods = list(dict.fromkeys(row["method"] for row in summary))
    for i, method in enumerate(methods):
        rows = [row for row in summary if row["method"] == method]
        rows.sort(key=lambda row: row["epochs"])
        # Side by side where several methods evaluate as much.
        aside = 1 + 0.015 * (i - (len(methods) - 1) / 2)
        errors = [row["test_error"] for row in rows]
        bars = [(e["ci95"][1] - e["mean"] if e["ci95"] else 0) for e in errors]
        axes.errorbar(
            [aside * row["evaluations_per_image"] for row in rows],
            [PERCENT * e["mean"] for e in errors],
            [PERCENT * bar for bar in bars],
            fmt="o-",
            capsize=3,
            color=COLORS[method],
            label=method,
        )
    axes.set_xscale("log")
    ticks = sorted({row["epochs"] for row in summary})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("gradient evaluations per training image, in all of the run")
    axes.set_ylabel("test error at the last epoch, %")
    axes.set_title("test error by compute", fontsize="medium")
    axes.grid(alpha=0.3)
    bars = f"mean and 95 % interval, {summary[0]['n']} seeds"
    axes.legend(fontsize="small", title=bars, title_fontsize="small")
    figure.savefig(path, dpi=110)


def _summary(key: Key, group: Rows) -> dict[str, Any]:
    errors = {row["seed"]: 1 - row["test_top1"] for row in group}
    mean, several = estimate(list(errors.values())), len(errors) > 1
    # The difference to zero has the interval of the mean.
    around = paired_difference(errors, dict.fromkeys(errors, 0.0)) if several else None
    return {
        "method": key[0],
        "epochs": key[1],
        "n": mean.n,
        "evaluations_per_image": group[0]["evaluations_per_image"],
        "test_error": {
            "mean": mean.mean,
            "std": mean.std,
            "ci95": around and [around.low, around.high],
        },
        "test_loss": statistics.fmean(row["test_loss"] for row in group),
        "seconds": statistics.fmean(row["seconds"] for row in group),
    }


def _differences(top1: Mapping[Key, Mapping[int, float]]) -> Rows:
    """Every method and length minus its baselines."""
    rows: Rows = []
    for (method, epochs), ours in top1.items():
        # By the run itself: where as many epochs are as many evaluations, there is one row.
        baselines = {}
        if method.startswith("VaSSO,"):
            baselines["VaSSO", epochs] = "epochs"
        if method != "SGD":
            baselines["SGD", epochs] = "epochs"
            baselines |= {
                (other, length): "evaluations"
                for other, length in top1
                if other == "SGD" and evaluations(other, length) == evaluations(method, epochs)
            }
        for baseline, as_many in baselines.items():
            if baseline not in top1 or len(ours) < 2:
                continue
            difference = paired_difference(ours, top1[baseline])
            rows.append(
                {
                    "method": method,
                    "epochs": epochs,
                    "minus": baseline[0],
                    "minus_epochs": baseline[1],
                    "as_many": as_many,
                    "n": difference.n,
                    "mean": difference.mean,
                    "ci95": [difference.low, difference.high],
                }
            )
    # The question first.
    return sorted(rows, key=lambda r: (r["minus"] != "SGD", r["as_many"] != "evaluations"))


def _per_image(method: str, epochs: int) -> float:
    return round(evaluations(method, epochs) / STEPS_PER_EPOCH, 3)


def _interval(row: Mapping[str, Any], sign: str) -> str:
    if row["ci95"] is None:
        return ""
    low, high = (PERCENT * end for end in row["ci95"])
    return f" [{low:{sign}.2f}, {high:{sign}.2f}]"
