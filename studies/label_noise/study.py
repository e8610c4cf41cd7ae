"""The runs of the label-noise study; `__main__.py` has the protocol."""

import argparse
import itertools
import statistics
from typing import Any

from ml_collections import ConfigDict

from benchmarks.harness.results import read_json, write_json
from studies.held_out import write_fold
from studies.label_noise import report
from studies.parallel_runs import train_all
from vasso_jax.runs import read_run
from vasso_jax.sweep import PlannedRun
from vasso_jax.train.presets import digits

RATES = (0.0, 0.25, 0.5, 0.75)
METHODS: dict[str, dict[str, Any]] = {
    "SGD": {"name": "none"},
    "SAM": {"name": "sam"},
    "ASAM": {"name": "asam"},
    "VaSSO 0.9": {"name": "vasso", "theta": 0.9},
    "VaSSO 0.4": {"name": "vasso", "theta": 0.4},
    "VaSSO 0.2": {"name": "vasso", "theta": 0.2},
}
RADII = {
    "SAM": (0.05, 0.1, 0.2),
    "ASAM": (0.5, 1.0, 2.0),
    "VaSSO 0.9": (0.05, 0.1, 0.2),
    "VaSSO 0.4": (0.025, 0.05, 0.1, 0.2),
    "VaSSO 0.2": (0.05, 0.1, 0.2, 0.4),
}
TUNING_RATE, TUNING_SEEDS = 0.5, (100, 101)


def run(options: argparse.Namespace) -> None:
    """The study: trains, and writes and prints what was found.

    Args:
        options: the arguments of the command.

    Raises:
        ValueError: the radii have not been chosen, or a run cannot be trained.
    """
    tuning = options.results / "tuning.json"
    if not tuning.exists():
        raise ValueError(f"no {tuning}: choose the radii first, with --tune")
    rho = {"SGD": None, **read_json(tuning)["rho"]}
    planned = {
        (method, rate, seed): PlannedRun(
            options.runs / "study" / f"{method.replace(' ', '_')}_noise{rate:g}_seed{seed}",
            _config(method, rho[method], rate, seed, options.epochs),
        )
        for seed, rate, method in itertools.product(range(options.seeds), options.rates, METHODS)
    }
    train_all(list(planned.values()), options.processes, options.runs / "compiled")
    runs = {key: read_run(run.folder) for key, run in planned.items()}
    # Only here: it starts JAX, which the runs do in their own processes.
    from benchmarks.harness.machine import describe

    settings = {"epochs": options.epochs, "rho": rho, **describe()}
    write_json(options.results / "study.json", {"settings": settings, **report.summarise(runs)})
    redraw(options)


def redraw(options: argparse.Namespace) -> None:
    """Draws the figure and prints the tables, from the numbers that are there.

    Args:
        options: the arguments of the command.

    Raises:
        ValueError: there are none.
    """
    content = read_json(options.results / "study.json")
    options.figure.parent.mkdir(parents=True, exist_ok=True)
    report.plot(content["summary"], options.figure)
    print(report.as_markdown(content))


def tune(options: argparse.Namespace) -> None:
    """Chooses the radii.

    Args:
        options: the arguments of the command.

    Raises:
        ValueError: a run cannot be trained.
    """
    folds = {seed: options.runs / "folds" / str(fold) for fold, seed in enumerate(TUNING_SEEDS)}
    for fold, folder in enumerate(folds.values()):
        write_fold(folder, fold)
    planned = {}
    for seed, (method, radii) in itertools.product(TUNING_SEEDS, RADII.items()):
        for rho in radii:
            config = _config(method, rho, TUNING_RATE, seed, options.epochs)
            config.data = {"name": "npz", "dir": str(folds[seed].absolute())}
            name = f"{method.replace(' ', '_')}_rho{rho:g}_seed{seed}"
            planned[method, rho, seed] = PlannedRun(options.runs / "tuning" / name, config)
    train_all(list(planned.values()), options.processes, options.runs / "compiled")
    table: dict[str, dict[str, list[float]]] = {}
    for (method, rho, _), run in planned.items():
        accuracies = table.setdefault(method, {}).setdefault(f"{rho:g}", [])
        accuracies.append(read_run(run.folder).last())
    # max() takes the first of equals, the smaller radius.
    best = {m: max(radii, key=lambda r: statistics.fmean(radii[r])) for m, radii in table.items()}
    content = {
        "rho": {method: float(rho) for method, rho in best.items()},
        "label_noise_rate": TUNING_RATE,
        "seeds": TUNING_SEEDS,
        "epochs": options.epochs,
        "validation_top1": table,
    }
    write_json(options.results / "tuning.json", content)
    for method, radii in table.items():
        means = "  ".join(f"{rho}: {statistics.fmean(a):.4f}" for rho, a in radii.items())
        print(f"{method:<10} best rho {best[method]}  ({means})")
        if best[method] in (f"{RADII[method][0]:g}", f"{RADII[method][-1]:g}"):
            print("           at the edge: extend RADII and run this again")


def _config(method: str, rho: float | None, rate: float, seed: int, epochs: int) -> ConfigDict:
    config = digits(METHODS[method]["name"])
    config.method = METHODS[method] if rho is None else {**METHODS[method], "rho": rho}
    config.label_noise = {"kind": "symmetric", "rate": rate, "seed": seed}
    config.seed = seed
    config.epochs = epochs
    config.tensorboard = False
    return config
