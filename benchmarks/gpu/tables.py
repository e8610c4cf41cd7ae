"""Tables of the GPU benchmark's results, from its JSON files."""

import pathlib
from collections import defaultdict
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness.results import read_json
from vasso_jax.runs import estimate
from vasso_jax.runs.tables import plus_minus


def show(folder: pathlib.Path) -> None:
    """Prints one table per kind of result in the folder."""
    results = {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}
    if not results:
        print(f"no results in {folder} yet")
        return
    tables = [_steps(results), _memory(results), _training(results)]
    console = Console()
    console = Console(width=max(console.width, 120))
    for table in tables:
        if table.rows:
            console.print(table)
    if "throughput" in results:
        print(f"main.py's images/s over its bare step's: {results['throughput']['ratio']:.3f}")
    if "seeds" in results:
        seeds = results["seeds"]
        print(f"{seeds['seeds']} seeds by vmap, time per seed over one alone: {seeds['ratio']:.3f}")


def _steps(results: dict[str, Any]) -> Table:
    table = Table("step", title="VaSSO's step")
    for title in ("ms", "images/s", "of peak", "over SGD", "PyTorch eager over it", "tuned"):
        table.add_column(title, justify="right")
    for name, result in results.items():
        if not name.startswith("step_"):
            continue
        rows = result["rows"]
        own = rows["vasso"]
        others = []
        for way in ("eager", "tuned"):
            other = rows.get(f"PyTorch {way} vasso")
            others.append(f"{other['median_s'] / own['median_s']:.2f}" if other else "")
        table.add_row(
            name.removeprefix("step_"),
            f"{1e3 * own['median_s']:.2f}",
            f"{own['images_per_s']:.0f}",
            f"{own['share_of_peak']:.1%}",
            f"{own['ratio']:.3f}",
            *others,
        )
    return table


def _memory(results: dict[str, Any]) -> Table:
    table = Table("peak memory", title="Memory, MB")
    table.add_column("device", justify="right")
    table.add_column("compiler", justify="right")
    for name, result in results.items():
        if name.startswith("memory_"):
            device = result["device_peak_bytes"]
            (row,) = result["rows"].values()
            table.add_row(
                name.removeprefix("memory_"),
                "" if device is None else f"{device / 1e6:.0f}",
                f"{row['memory_bytes'] / 1e6:.0f}",
            )
    return table


def _training(results: dict[str, Any]) -> Table:
    groups = defaultdict(list)
    for name, result in results.items():
        if name.startswith("training_"):
            groups[name.removeprefix("training_").rpartition("_seed")[0]].append(result)
    table = Table("method", title="Training runs of main.py")
    for title in ("seeds", "test top-1, last epoch, %", "best epoch, %", "minutes"):
        table.add_column(title, justify="right")
    for name, runs in groups.items():
        table.add_row(
            name,
            str(len(runs)),
            *(_spread([100 * run[key] for run in runs]) for key in ("test_top1", "best_test_top1")),
            _spread([run["seconds"] / 60 for run in runs]),
        )
    return table


def _spread(values: list[float]) -> str:
    """Mean +- standard deviation over the seeds."""
    return plus_minus(estimate(values), 2)
