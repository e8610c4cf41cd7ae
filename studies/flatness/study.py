"""The runs of the flatness study, and what is measured of them; `__main__.py` has the protocol."""

import argparse
import functools
import itertools
import multiprocessing
import os
import pathlib
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from benchmarks.harness.results import read_json, write_json
from studies.flatness import report
from studies.parallel_runs import train_all
from vasso_jax.runs import read_run
from vasso_jax.sweep import PlannedRun
from vasso_jax.train.config.fields import default_config
from vasso_jax.train.presets import cifar, digits

METHODS: dict[str, dict[str, Any]] = {
    "SGD": {"name": "none"},
    "SAM": {"name": "sam"},
    "ASAM": {"name": "asam"},
    "VaSSO 0.9": {"name": "vasso", "theta": 0.9},
    "VaSSO 0.4": {"name": "vasso", "theta": 0.4},
    "VaSSO 0.2": {"name": "vasso", "theta": 0.2},
}
# None: SGD has no radius. Those of ASAM are relative to the parameters, and so larger.
RADII: dict[str, tuple[float | None, ...]] = {
    "SGD": (None,),
    "SAM": (0.05, 0.1, 0.2, 0.4),
    "ASAM": (0.25, 0.5, 1.0, 2.0),
    "VaSSO 0.9": (0.05, 0.1, 0.2, 0.4),
    "VaSSO 0.4": (0.05, 0.1, 0.2, 0.4),
    "VaSSO 0.2": (0.05, 0.1, 0.2, 0.4),
}


class Protocol(NamedTuple):
    """In what the data sets differ, but for their configs.

    Attributes:
        radii: of each method.
        validation_share: of the training images that are held out, to tune the radii by.
        measured: how many training images, if there are so many.
        samples: of the trace.
        balls: whether the worst cases are measured; the figure has a panel for each.
    """

    radii: Mapping[str, tuple[float | None, ...]]
    validation_share: float
    measured: int
    samples: int
    balls: bool


PROTOCOLS = {
    "digits": Protocol(RADII, 0.15, 10_000, 30, True),
    "cifar10": Protocol({name: (rho,) for name, rho in report.EQUAL.items()}, 0.0, 256, 10, False),
}
_IMAGES = {"train": 1024, "test": 2000}  # of CIFAR-10

Key = tuple[str, float | None, int]


def run(options: argparse.Namespace) -> None:
    """Trains and measures what has not been, and writes what was found.

    Args:
        options: the arguments of the command.

    Raises:
        ValueError: a run cannot be trained or measured.
    """
    if options.data == "cifar10":
        _draw_images(_runs(options) / "images")
    runs = planned(options)
    train_all([*runs.values()], options.processes, _runs(options) / "compiled")
    folders = [run.folder for run in runs.values()]
    # Only here: it starts JAX, which the runs do in their own processes.
    from benchmarks.harness.machine import describe

    rows = [
        {
            "method": method,
            "rho": rho,
            "seed": seed,
            "test_top1": read_run(folder).last(),
            **_validation(folder, PROTOCOLS[options.data]),
            **figures,
        }
        for (method, rho, seed), folder, figures in zip(
            runs, folders, _measure_all(folders, options), strict=True
        )
    ]
    settings = {"epochs": options.epochs, **describe()}
    write_json(_numbers(options), {"settings": settings, "runs": rows})


def redraw(options: argparse.Namespace) -> None:
    """Draws the figure and prints the tables, from the numbers that are there.

    Args:
        options: the arguments of the command.

    Raises:
        ValueError: there are none.
    """
    rows = read_json(_numbers(options))["runs"]
    if PROTOCOLS[options.data].balls:
        report.plot(rows, options.results / "figure.png")
    print(report.as_markdown(rows))


def planned(options: argparse.Namespace) -> dict[Key, PlannedRun]:
    """All runs, by method, radius and seed."""
    return {
        (method, rho, seed): PlannedRun(
            _runs(options) / f"{method.replace(' ', '_')}_rho{rho}_seed{seed}",
            _config(options, method, rho, seed),
        )
        for seed, method in itertools.product(range(options.seeds), METHODS)
        for rho in PROTOCOLS[options.data].radii[method]
    }


def _config(options: argparse.Namespace, method: str, rho: float | None, seed: int) -> ConfigDict:
    name = METHODS[method]["name"]
    if options.data == "digits":
        config = digits(name)
    else:
        config = cifar("cifar10", default_config().model.name, name)
        config.data = {"name": "npz", "dir": str(_runs(options) / "images")}
        config.augment = {}
    config.method = METHODS[method] if rho is None else {**METHODS[method], "rho": rho}
    if share := PROTOCOLS[options.data].validation_share:
        config.validation.share = share
    config.seed = seed
    config.epochs = options.epochs
    config.tensorboard = False
    return config


def _runs(options: argparse.Namespace) -> pathlib.Path:
    return options.runs / options.data


def _numbers(options: argparse.Namespace) -> pathlib.Path:
    return options.results / f"{options.data}.json"


def _validation(folder: pathlib.Path, protocol: Protocol) -> dict[str, float]:
    if not protocol.validation_share:
        return {}
    return {"validation_top1": read_run(folder).best_validation("top1")}


def _draw_images(folder: pathlib.Path) -> None:
    """Some images of CIFAR-10, the same ones each time."""
    # Only here: the numbers that are kept can be drawn without the data.
    from vasso_jax.data import draw, load

    dataset = load("cifar10")
    folder.mkdir(parents=True, exist_ok=True)
    for split, examples in _IMAGES.items():
        images, labels = draw(dataset, split, examples, seed=0)
        np.savez(folder / split, images=images, labels=labels, class_names=dataset.class_names)


def _measure_all(
    folders: list[pathlib.Path], options: argparse.Namespace
) -> list[dict[str, float]]:
    """The figures of each run; what was measured before stands in the folder."""
    processes = options.processes
    measure = functools.partial(_measure, PROTOCOLS[options.data])
    spawn = multiprocessing.get_context("spawn")
    cores = spawn.Queue()
    for i in range(processes):
        cores.put(i)
    with ProcessPoolExecutor(processes, spawn, _take_a_core, (cores,)) as pool:
        found = []
        for figures, folder in zip(pool.map(measure, folders), folders, strict=True):
            found.append(figures)
            print(f"[{len(found)}/{len(folders)}] {folder.name} measured", flush=True)
    return found


def _take_a_core(cores: Any) -> None:
    """Before JAX starts; its threads would wait for each other."""
    free = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {free[cores.get() % len(free)]})


def _measure(protocol: Protocol, folder: pathlib.Path) -> dict[str, float]:
    # Only here: they start JAX, in each process on its own core.
    from vasso_jax import load_run
    from vasso_jax.measurement import Ball, Hessian, LossOptions, Trace, measure

    # Ten random perturbations: the average case has to be asked for, and is not reported.
    ball = functools.partial(Ball, per_batch=True, samples=10)
    measures = [Hessian(largest=5), Trace(samples=protocol.samples)]
    if protocol.balls:
        measures += [
            ball(radius=0.05),
            ball(radius=0.25, adaptive=True),
            ball(radius=0.005, norm="linf", adaptive=True, normalize_logits=True),
        ]
    options = LossOptions(examples=protocol.measured, batch_size=128)
    made = measure(load_run(folder), measures, options)
    return {name: value for each in made for name, value in each.figures.items()}
