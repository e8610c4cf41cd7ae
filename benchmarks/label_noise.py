"""Does variance suppression help where training labels are wrong? A small study on the CPU.

    python -m benchmarks.label_noise --tune [--processes 2]
    python -m benchmarks.label_noise [--processes 2] [--seeds 5]

Both commands go on where they stopped. The first chooses the radii and writes
benchmarks/results/label_noise_tuning.json; the second, which reads that, runs the study and writes
benchmarks/results/label_noise.json and docs/label_noise.png.

The protocol, fixed before the first run of the study:

Question   Li and Giannakis (arXiv 2309.15639) report for ResNet-18 on CIFAR-10 that VaSSO gains
           most over SAM where many labels are wrong, and with a smaller theta. Does that hold for
           a small network on few images?
Data       scikit-learn's digits with the project's fixed split: 1,438 training images, of whose
           labels 0, 25, 50 or 75 % are replaced by another class, each equally likely; 359 test
           images with true labels.
Runs       configs/digits_vasso.py (WRN-10-1, SGD with momentum 0.9, lr 0.05 cosine, weight decay
           5e-4, batch 128, 30 epochs) with SGD alone, SAM, ASAM, and VaSSO with theta 0.9, 0.4 and
           0.2. Seeds 0, 1, 2, ... set the weights, the order and the augmentation, and which
           labels are wrong: at one seed all methods see the same, so that differences are paired.
Radii      Each of the five methods has its own, and one for all noise rates: the best of RADII by
           the accuracy at the last epoch with 50 % wrong labels, mean over seeds 100 and 101 (at a
           tie the smaller one). No test image takes part: the 1,438 training images alone are
           split into quarters, of which seed 100 leaves out the first and seed 101 the second for
           validation, with true labels. If the best radius is the least or the largest, the range
           is extended on that side by a factor of two until it is not. (Before the ranges were set,
           SAM at seed 100 was seen to fall to 71 and 42 % with 0.4 and 0.8.)
Measure    Test top-1 at the last epoch; mean and standard deviation over seeds; VaSSO minus SAM and
           minus SGD as means of paired differences with 95 % Student-t intervals, not corrected for
           how many of them there are.
"""

import argparse
import itertools
import json
import pathlib
import platform
import signal
import statistics
import sys
from importlib import metadata
from typing import Any

import numpy as np

from benchmarks import label_noise_report as report
from benchmarks.parallel_runs import PlannedRun, run_all
from vasso_jax.runs import load_run

ROOT = pathlib.Path(__file__).parents[1]
RATES = (0.0, 0.25, 0.5, 0.75)
METHODS: dict[str, dict[str, Any]] = {
    "SGD": {"optimizer": "sgd"},
    "SAM": {"optimizer": "sam"},
    "ASAM": {"optimizer": "asam"},
    "VaSSO 0.9": {"optimizer": "vasso", "theta": 0.9},
    "VaSSO 0.4": {"optimizer": "vasso", "theta": 0.4},
    "VaSSO 0.2": {"optimizer": "vasso", "theta": 0.2},
}
RADII = {
    "SAM": (0.05, 0.1, 0.2),
    "ASAM": (0.5, 1.0, 2.0),
    "VaSSO 0.9": (0.05, 0.1, 0.2),
    "VaSSO 0.4": (0.025, 0.05, 0.1, 0.2),
    "VaSSO 0.2": (0.05, 0.1, 0.2, 0.4),
}
TUNING_RATE, TUNING_SEEDS, FOLDS = 0.5, (100, 101), 4


def main(arguments: list[str] | None = None) -> None:
    """The commands above."""
    parser = argparse.ArgumentParser(description="VaSSO, SAM, ASAM and SGD under label noise.")
    parser.add_argument("--tune", action="store_true", help="choose the radii")
    parser.add_argument("--processes", type=int, default=2, help="runs at once, a core each")
    parser.add_argument("--seeds", type=int, default=5, help="how many: 0, 1, 2, ...")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/label_noise"))
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="of wrong labels")
    parser.add_argument("--figure", type=pathlib.Path, default=ROOT / "docs/label_noise.png")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "benchmarks/results")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    options.results.mkdir(parents=True, exist_ok=True)
    if min(options.seeds, options.processes, options.epochs) < 1:
        parser.error("seeds, processes and epochs are counted from 1")
    try:
        (_tune if options.tune else _study)(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _settings(method: str, rho: float | None, rate: float, seed: int, epochs: int) -> Any:
    return {
        **METHODS[method],
        "rho": rho,
        "label_noise": "symmetric",
        "label_noise_rate": rate,
        "label_noise_seed": seed,
        "seed": seed,
        "epochs": epochs,
        "tensorboard": False,
    }


def _study(options: argparse.Namespace) -> None:
    tuning = options.results / "label_noise_tuning.json"
    if not tuning.exists():
        raise ValueError(f"no {tuning}: choose the radii first, with --tune")
    rho = {"SGD": None, **json.loads(tuning.read_text())["rho"]}
    planned = {
        (method, rate, seed): PlannedRun(
            options.runs / "study" / f"{method.replace(' ', '_')}_noise{rate:g}_seed{seed}",
            _settings(method, rho[method], rate, seed, options.epochs),
        )
        for seed, rate, method in itertools.product(range(options.seeds), options.rates, METHODS)
    }
    run_all(list(planned.values()), options.processes, options.runs / "compiled")
    runs = {key: load_run(run.folder) for key, run in planned.items()}
    content = {"settings": _conditions(options, rho), **report.summarise(runs)}
    (options.results / "label_noise.json").write_text(json.dumps(content, indent=1) + "\n")
    report.plot(content["summary"], options.figure)
    print(report.as_markdown(content))


def _conditions(options: argparse.Namespace, rho: dict[str, float | None]) -> dict[str, Any]:
    return {
        "epochs": options.epochs,
        "rho": rho,
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
    }


def _tune(options: argparse.Namespace) -> None:
    folds = {seed: options.runs / "folds" / str(fold) for fold, seed in enumerate(TUNING_SEEDS)}
    for fold, folder in enumerate(folds.values()):
        _write_fold(folder, fold)
    trials = [
        (method, rho, seed)
        for seed in TUNING_SEEDS
        for method, radii in RADII.items()
        for rho in radii
    ]
    planned = {
        (method, rho, seed): PlannedRun(
            options.runs / "tuning" / f"{method.replace(' ', '_')}_rho{rho:g}_seed{seed}",
            {
                **_settings(method, rho, TUNING_RATE, seed, options.epochs),
                "dataset": "npz",
                "data_dir": str(folds[seed].absolute()),
            },
        )
        for method, rho, seed in trials
    }
    run_all(list(planned.values()), options.processes, options.runs / "compiled")
    table: dict[str, dict[str, list[float]]] = {}
    for (method, rho, _), run in planned.items():
        accuracies = table.setdefault(method, {}).setdefault(f"{rho:g}", [])
        accuracies.append(load_run(run.folder).last_top1)
    # max() takes the first of equals, the smaller radius.
    best = {m: max(radii, key=lambda r: statistics.fmean(radii[r])) for m, radii in table.items()}
    content = {
        "rho": {method: float(rho) for method, rho in best.items()},
        "label_noise_rate": TUNING_RATE,
        "seeds": TUNING_SEEDS,
        "epochs": options.epochs,
        "validation_top1": table,
    }
    path = options.results / "label_noise_tuning.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    for method, radii in table.items():
        means = "  ".join(f"{rho}: {statistics.fmean(a):.4f}" for rho, a in radii.items())
        print(f"{method:<10} best rho {best[method]}  ({means})")
        if best[method] in (f"{RADII[method][0]:g}", f"{RADII[method][-1]:g}"):
            print("           at the edge: extend RADII and run this again")


def _write_fold(folder: pathlib.Path, fold: int) -> None:
    """The training images of the digits as a set of its own, a quarter of them held out."""
    from vasso_jax import data

    digits = data.load("digits", "")
    assert isinstance(digits, data.ImageDataset)
    order = np.random.default_rng(0).permutation(digits.num_train)
    held_out = np.array_split(order, FOLDS)[fold]
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = digits.train
    for name, indices in (("train", np.setdiff1d(order, held_out)), ("test", held_out)):
        np.savez(folder / f"{name}.npz", images=images[indices], labels=labels[indices])


if __name__ == "__main__":
    main()
