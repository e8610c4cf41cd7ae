"""What the label-noise study found, as JSON, as Markdown and as a figure."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from vasso_jax.runs import Estimate, Run, estimate, paired_difference
from vasso_jax.runs.tables import markdown, plus_minus

Runs = Mapping[tuple[str, float, int], Run]
Rows = list[dict[str, Any]]
BASELINES = ("SAM", "SGD")


def summarise(runs: Runs) -> dict[str, Rows]:
    """All numbers of the study, fit for JSON; accuracies in 0..1.

    Args:
        runs: by method, noise rate and seed.

    Returns:
        `runs`, one row each; `summary`, one row per method and rate; `paired_differences`, of the
        last epoch's test top-1, one row per VaSSO, baseline and rate.
    """
    methods, rates, seeds = (list(dict.fromkeys(key[i] for key in runs)) for i in range(3))
    rows: Rows = [
        {
            "method": method,
            "label_noise_rate": rate,
            "seed": seed,
            "test_top1": run.last(),
            "best_test_top1": run.best(),
            "test_loss": run.tests[-1]["loss"],
        }
        for (method, rate, seed), run in runs.items()
    ]
    summary: Rows = []
    differences: Rows = []
    for rate in rates:
        last = {m: {seed: runs[m, rate, seed].last() for seed in seeds} for m in methods}
        for method in methods:
            value = estimate(list(last[method].values()))
            best = estimate([runs[method, rate, seed].best() for seed in seeds])
            summary.append(
                {
                    "method": method,
                    "label_noise_rate": rate,
                    "n": value.n,
                    "test_top1": {"mean": value.mean, "std": value.std},
                    "best_test_top1": {"mean": best.mean, "std": best.std},
                }
            )
        # One seed has no interval.
        for method in (m for m in methods if m.startswith("VaSSO") and len(seeds) > 1):
            for baseline in (m for m in BASELINES if m in methods):
                difference = paired_difference(last[method], last[baseline])
                differences.append(
                    {
                        "method": method,
                        "minus": baseline,
                        "label_noise_rate": rate,
                        "n": difference.n,
                        "mean": difference.mean,
                        "ci95": [difference.low, difference.high],
                    }
                )
    return {"summary": summary, "paired_differences": differences, "runs": rows}


def as_markdown(content: Mapping[str, Rows]) -> str:
    """Test top-1 in per cent by method and rate, and the paired differences below it."""
    rates = list(dict.fromkeys(row["label_noise_rate"] for row in content["summary"]))
    header = ["test top-1, %", *(f"{rate:.0%} wrong labels" for rate in rates)]
    accuracies, differences = {}, {}
    for row in content["summary"]:
        mean, std = row["test_top1"]["mean"], row["test_top1"]["std"]
        percent = Estimate(100 * mean, None if std is None else 100 * std, row["n"])
        accuracies.setdefault(row["method"], []).append(plus_minus(percent, 2))
    for row in content["paired_differences"]:
        low, high = (100 * end for end in row["ci95"])
        differences.setdefault(f"{row['method']} - {row['minus']}", []).append(
            f"{100 * row['mean']:+.2f} [{low:+.2f}, {high:+.2f}]"
        )
    return "\n".join(
        markdown(header, [(name, *values) for name, values in rows.items()], [])
        for rows in (accuracies, differences)
        if rows
    )


def plot(summary: Sequence[Mapping[str, Any]], path: pathlib.Path) -> None:
    """Test top-1 by method and rate, with bars of one standard deviation, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    methods, rates = (
        list(dict.fromkeys(row[name] for row in summary)) for name in ("method", "label_noise_rate")
    )
    figure = Figure(figsize=(8.5, 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    # One panel per rate: on one scale the small differences between methods would vanish.
    panels = figure.subplots(1, len(rates), squeeze=False)[0]
    colors = ["0.45", "tab:blue", "tab:green", "#fdae6b", "#f16913", "#a63603"]
    for axes, rate in zip(panels, rates, strict=True):
        rows = [row for row in summary if row["label_noise_rate"] == rate]
        for i, row in enumerate(rows):
            axes.errorbar(
                i,
                100 * row["test_top1"]["mean"],
                100 * (row["test_top1"]["std"] or 0),
                fmt="o",
                capsize=3,
                color=colors[i % len(colors)],
            )
        axes.set_title(f"{100 * rate:g} % wrong labels", fontsize="medium")
        axes.set_xticks(range(len(methods)), methods, rotation=60, ha="right", fontsize="small")
        axes.set_xlim(-0.6, len(methods) - 0.4)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("test top-1 accuracy at the last epoch, %")
    figure.suptitle(
        f"mean; bars: +- one standard deviation over {summary[0]['n']} seeds", fontsize="medium"
    )
    figure.savefig(path, dpi=110)
