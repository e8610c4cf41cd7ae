"""What the flatness study found, as Markdown and as a figure."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from vasso_jax.runs import estimate, paired_difference
from vasso_jax.runs.statistics import interval
from vasso_jax.runs.tables import markdown

Row = Mapping[str, Any]
Rows = Sequence[Row]

EQUAL = {"SGD": None, "SAM": 0.1, "ASAM": 0.5, "VaSSO 0.9": 0.1, "VaSSO 0.4": 0.1, "VaSSO 0.2": 0.1}
MEASURES = {
    "lambda_1": "lambda_1",
    "lambda_1_over_5": "lambda_1 / lambda_5",
    "trace": "trace",
    "worst_l2_0.05_m128": "worst, L2 0.05",
    "adaptive_worst_l2_0.25_m128": "worst, adaptive L2 0.25",
    "adaptive_worst_linf_0.005_normalized_m128": "worst, adaptive Linf 0.005, normalised logits",
}
# Of the figure; ASAM's radii are five times as large.
_TICKS = (0.05, 0.1, 0.2, 0.4)
PAIRS = (
    ("SAM", "SGD"),
    ("ASAM", "SGD"),
    ("VaSSO 0.9", "SAM"),
    ("VaSSO 0.4", "SAM"),
    ("VaSSO 0.2", "SAM"),
    ("VaSSO 0.2", "VaSSO 0.9"),
)


def tuned(rows: Rows) -> dict[str, float | None]:
    """The radius of each method with the best mean validation top-1; of equals, the smallest."""
    found: dict[str, dict[float | None, list[float]]] = {}
    for row in rows:
        found.setdefault(row["method"], {}).setdefault(row["rho"], []).append(
            row["validation_top1"]
        )
    # max() takes the first of equals.
    return {
        method: max(radii, key=lambda rho: math.fsum(radii[rho]) / len(radii[rho]))
        for method, radii in found.items()
    }


def as_markdown(rows: Rows) -> str:
    """The tables: figures and differences at equal and at tuned radii, and rank correlations."""
    choices: dict[str, Mapping[str, float | None]] = {"equal radii": EQUAL}
    several = any(row["rho"] != EQUAL[row["method"]] for row in rows)
    if several:
        choices["tuned radii"] = tuned(rows)
    measures = _measured(rows).values()
    parts = []
    for name, radii in choices.items():
        kept = [row for row in rows if radii[row["method"]] == row["rho"]]
        parts += [
            markdown([name, "rho", "test top-1, %", *measures], _means(kept, radii), []),
            markdown(
                [f"ratio at {name}", "test top-1, points", *measures],
                _differences(kept),
                [],
            ),
        ]
    if several:
        over_all = ["ratio over all radii (not in the protocol)", *measures]
        parts.append(markdown(over_all, _differences_over_radii(rows), []))
    parts.append(markdown(["Kendall's tau with test top-1", "runs", *measures], _ranks(rows), []))
    return "\n".join(parts)


def _measured(rows: Rows) -> dict[str, str]:
    """Those of `MEASURES` that the runs have."""
    return {name: label for name, label in MEASURES.items() if name in rows[0]}


def _means(rows: Rows, radii: Mapping[str, float | None]) -> list[Sequence[str]]:
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        rho = radii[method]
        accuracy = _with_interval([100 * row["test_top1"] for row in own], "{:.2f}")
        figures = [_with_interval([row[name] for row in own], "{:.3g}") for name in _measured(rows)]
        lines.append((method, "-" if rho is None else f"{rho:g}", accuracy, *figures))
    return lines


def _with_interval(values: Sequence[float], form: str) -> str:
    value = estimate(values)
    ends = interval(value)
    shown = form.format(value.mean)
    return f"{shown} [{form.format(ends[0])}, {form.format(ends[1])}]" if ends else shown


def _differences(rows: Rows) -> list[Sequence[str]]:
    lines = []
    for method, baseline in PAIRS:
        ours, theirs = (
            {row["seed"]: row for row in rows if row["method"] == name}
            for name in (method, baseline)
        )
        if min(len(ours), len(theirs)) < 2:
            continue
        accuracy = paired_difference(
            {seed: 100 * row["test_top1"] for seed, row in ours.items()},
            {seed: 100 * row["test_top1"] for seed, row in theirs.items()},
        )
        cells = [f"{accuracy.mean:+.2f} [{accuracy.low:+.2f}, {accuracy.high:+.2f}]"]
        for name in _measured(rows):
            ratio = paired_difference(
                {seed: math.log(row[name]) for seed, row in ours.items()},
                {seed: math.log(row[name]) for seed, row in theirs.items()},
            )
            cells.append("{:.2f} [{:.2f}, {:.2f}]".format(*map(math.exp, ratio_ends(ratio))))
        lines.append((f"{method} / {baseline}", *cells))
    return lines


def _differences_over_radii(rows: Rows) -> list[Sequence[str]]:
    """Of methods with the same radii: at each seed the mean over all of them."""
    lines = []
    for method, baseline in PAIRS[2:]:
        cells = []
        for name in _measured(rows):
            ours, theirs = (_mean_log_by_seed(rows, each, name) for each in (method, baseline))
            if min(len(ours), len(theirs)) < 2:
                break
            ratio = paired_difference(ours, theirs)
            cells.append("{:.2f} [{:.2f}, {:.2f}]".format(*map(math.exp, ratio_ends(ratio))))
        if cells:
            lines.append((f"{method} / {baseline}", *cells))
    return lines


def _mean_log_by_seed(rows: Rows, method: str, name: str) -> dict[int, float]:
    logs: dict[int, list[float]] = {}
    for row in rows:
        if row["method"] == method:
            logs.setdefault(row["seed"], []).append(math.log(row[name]))
    return {seed: math.fsum(values) / len(values) for seed, values in logs.items()}


def ratio_ends(difference: Any) -> tuple[float, float, float]:
    """Mean and ends of the interval."""
    return difference.mean, difference.low, difference.high


def _ranks(rows: Rows) -> list[Sequence[str]]:
    from scipy.stats import kendalltau

    lines = []
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for name in ("all", *methods):
        own = [row for row in rows if name in ("all", row["method"])]
        taus = [
            kendalltau([row[measure] for row in own], [row["test_top1"] for row in own])
            for measure in _measured(rows)
        ]
        lines.append(
            (name, str(len(own)), *(f"{t.statistic:+.2f} (p {t.pvalue:.2g})" for t in taus))
        )
    return lines


def plot(rows: Rows, path: pathlib.Path) -> None:
    """Test accuracy and each measure over the radius, with 95 % intervals over seeds, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, NullFormatter

    shown = {"test_top1": "test top-1 accuracy, %", **MEASURES}
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 4).ravel()
    for axes, (name, label) in zip(panels, shown.items(), strict=False):
        scale = 100 if name == "test_top1" else 1
        for method in dict.fromkeys(row["method"] for row in rows):
            _draw(axes, [row for row in rows if row["method"] == method], name, scale)
        axes.set_xscale("log")
        axes.set_xticks(_TICKS, map("{:g}".format, _TICKS))
        axes.xaxis.set_minor_formatter(NullFormatter())
        if name != "test_top1":
            axes.set_yscale("log")
            for form in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                form(FormatStrFormatter("%g"))
        axes.set_title(label, fontsize="small")
        axes.grid(alpha=0.3)
        axes.set_xlabel("radius rho (ASAM: rho / 5)")
    panels[-1].axis("off")
    handles, labels = panels[0].get_legend_handles_labels()
    panels[-1].legend(handles, labels, loc="center")
    count = len({row["seed"] for row in rows})
    figure.suptitle(f"mean over {count} seeds; bars and the grey band of SGD: 95 % intervals")
    figure.savefig(path, dpi=110)


def _draw(axes: Any, rows: Rows, name: str, scale: float) -> None:
    """One method in one panel."""
    method = rows[0]["method"]
    points = []
    for rho in dict.fromkeys(row["rho"] for row in rows):
        value = estimate([scale * row[name] for row in rows if row["rho"] == rho])
        points.append((rho, value.mean, *(interval(value) or (value.mean, value.mean))))
    if method == "SGD":
        ((_, mean, low, high),) = points
        axes.axhline(mean, color="0.45", label=method)
        axes.axhspan(low, high, color="0.45", alpha=0.15)
        return
    x, mean, low, high = zip(*points, strict=True)
    x = [rho / (5 if method == "ASAM" else 1) for rho in x]
    below = [m - end for m, end in zip(mean, low, strict=True)]
    above = [end - m for m, end in zip(mean, high, strict=True)]
    axes.errorbar(x, mean, (below, above), marker="o", capsize=3, markersize=4, label=method)
