"""The runs of the study of compute; `__main__.py` has the protocol."""

import argparse
import itertools
import statistics

from ml_collections import ConfigDict

from benchmarks.harness.results import read_json, write_json
from studies.compute import report
from studies.compute.methods import METHODS, STEPS_PER_EPOCH, evaluations, window
from studies.held_out import write_fold
from studies.parallel_runs import train_all
from vasso_jax.runs import read_run
from vasso_jax.sweep import PlannedRun
from vasso_jax.train.presets import digits

TUNED, RADII = "Momentum-SAM", (0.1, 0.3, 1.0, 3.0)
TUNING_SEEDS, TUNING_EPOCHS = (100, 101), 30


def run(options: argparse.Namespace) -> None:
    """The study: trains, and writes and prints what was found.

    Args:
        options: the arguments of the command.

    Raises:
        ValueError: the radius has not been chosen, or a run cannot be trained.
    """
    tuning = options.results / "tuning.json"
    if not tuning.exists():
        raise ValueError(f"no {tuning}: choose the radius first, with --tune")
    rho = read_json(tuning)["rho"]
    planned = {
        (method, epochs, seed): PlannedRun(
            options.runs / "study" / f"{_slug(method)}_epochs{epochs}_seed{seed}",
            _config(method, rho.get(method), epochs, seed),
        )
        for epochs, seed, method in itertools.product(options.epochs, range(options.seeds), METHODS)
        if evaluations(method, epochs) <= options.most * STEPS_PER_EPOCH
    }
    train_all(list(planned.values()), options.processes, options.runs / "compiled")
    runs = {key: read_run(run.folder) for key, run in planned.items()}
    # Only here: it starts JAX, which the runs do in their own processes.
    from benchmarks.harness.machine import describe

    settings = {
        "epochs": options.epochs,
        "most_evaluations_per_image": options.most,
        "processes": options.processes,
        "rho": {method: run.config.method.get("rho") for (method, *_), run in planned.items()},
        **describe(),
    }
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
    """Chooses the radius of Momentum-SAM.

    Args:
        options: the arguments of the command.

    Raises:
        ValueError: a run cannot be trained.
    """
    folds = {seed: options.runs / "folds" / str(fold) for fold, seed in enumerate(TUNING_SEEDS)}
    for fold, folder in enumerate(folds.values()):
        write_fold(folder, fold)
    planned = {}
    for seed, rho in itertools.product(TUNING_SEEDS, RADII):
        config = _config(TUNED, rho, TUNING_EPOCHS, seed)
        config.data = {"name": "npz", "dir": str(folds[seed].absolute())}
        folder = options.runs / "tuning" / f"{_slug(TUNED)}_rho{rho:g}_seed{seed}"
        planned[rho, seed] = PlannedRun(folder, config)
    train_all(list(planned.values()), options.processes, options.runs / "compiled")
    table = {
        rho: [read_run(planned[rho, seed].folder).last() for seed in TUNING_SEEDS] for rho in RADII
    }
    # max() takes the first of equals, the smaller radius.
    best = max(RADII, key=lambda rho: statistics.fmean(table[rho]))
    content = {
        "rho": {TUNED: best},
        "seeds": TUNING_SEEDS,
        "epochs": TUNING_EPOCHS,
        "validation_top1": {TUNED: {f"{rho:g}": values for rho, values in table.items()}},
    }
    write_json(options.results / "tuning.json", content)
    means = "  ".join(f"{rho:g}: {statistics.fmean(values):.4f}" for rho, values in table.items())
    print(f"{TUNED} best rho {best:g}  ({means})")


def _slug(method: str) -> str:
    return method.replace(",", "").replace(" ", "_")


def _config(method: str, rho: float | None, epochs: int, seed: int) -> ConfigDict:
    config = digits(METHODS[method]["name"])
    config.method.update(METHODS[method] if rho is None else {**METHODS[method], "rho": rho})
    config.window = window(method, epochs)
    config.seed = seed
    config.epochs = epochs
    config.tensorboard = False
    return config
