"""The steps of several methods, timed in turn."""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.harness.arguments import settings
from benchmarks.harness.machine import describe, peak_flops
from benchmarks.harness.timing import in_turn, summary, timed
from benchmarks.harness.train_step import BASE_ALONE, Step, Workload, make_step
from benchmarks.step.optax_sam import make_optax_sam_step

OPTAX_SAM = "optax.contrib.sam"
DEFAULT_METHODS = ("sgd", "sgd again", "sam", "vasso", "vasso refresh_every=5", OPTAX_SAM)
WAYS = ("eager", "tuned")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Times the methods.

    Args:
        options: the arguments of the command.

    Returns:
        The content of the JSON file, with `rows` by method.

    Raises:
        ValueError: a method, network or precision is unknown, or cannot be used here.
        ImportError: PyTorch is requested but missing.
    """
    workload = Workload(
        options.model, options.image_size, options.batch_size, options.classes, options.precision
    )
    # Everything is checked before anything is compiled.
    for method in options.methods:
        workload.plan(_in_the_trainer(method))
    if options.torch is not None:
        _check_torch()
    steps = {method: _step(workload, method) for method in options.methods}
    runs: dict[str, Callable[[], float]] = {
        name: timed(lambda step=step: step.run(options.steps), per=options.steps)
        for name, step in steps.items()
    }
    if options.torch is not None:
        runs |= _torch_runs(workload, options.torch or WAYS, options.steps)
    seconds = in_turn(runs, options.rounds)

    peak, source = peak_flops(options.precision)
    reference = options.methods[0]
    rows = {}
    for name, times in seconds.items():
        row: dict[str, Any] = summary(times, seconds[reference])
        row["images_per_s"] = options.batch_size / row["median_s"]
        if name in steps:
            step = steps[name]
            row |= {"flops": step.flops, "memory_bytes": step.memory_bytes}
            if "_every" not in name and name != "looksam":  # these skip a part in some steps
                row["share_of_peak"] = step.flops / row["median_s"] / peak
        rows[name] = row | {"seconds": times}
    return {
        **{name: value for name, value in settings(options).items() if name != "torch"},
        "ratio_to": reference,
        "peak_flops": peak,
        "peak_source": source,
        "device_peak_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
        **describe(),
        "rows": rows,
    }


def _in_the_trainer(method: str) -> str:
    return BASE_ALONE if method == OPTAX_SAM else method


def _step(workload: Workload, method: str) -> Step:
    if method == OPTAX_SAM:
        return make_optax_sam_step(workload)
    return make_step(workload, method)


def _check_torch() -> None:
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"--torch needs PyTorch (pip install torch): {error}") from error
    if jax.default_backend() == "gpu" and not torch.cuda.is_available():
        raise ImportError("--torch needs a PyTorch with CUDA here: this one supports only the CPU")


def _torch_runs(
    workload: Workload, ways: tuple[str, ...], steps: int
) -> dict[str, Callable[[], float]]:
    """PyTorch's SGD and VaSSO steps, each in the requested ways."""
    from benchmarks.step import torch_step

    images, labels = workload.batch
    normalized = (images / 255 - 0.5).astype(np.float32)
    runs = {}
    for way in ways:
        for method in ("sgd", "vasso"):
            step = torch_step.make_step(
                workload.model,
                normalized,
                labels,
                workload.classes,
                workload.plan(method).settings,
                precision="bfloat16" if way == "tuned" else workload.precision,
                tuned=way == "tuned",
            )

            def run(step: Callable[[], None] = step) -> None:
                for _ in range(steps):
                    step()
                torch_step.wait()

            runs[f"PyTorch {way} {method}"] = timed(run, per=steps)
    return runs
