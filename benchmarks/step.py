"""What a training step costs: time, FLOPs and memory of each method, in turn, over SGD's.

    python -m benchmarks.step [--model resnet18] [--image_size 32] [--batch_size 128]
        [--precision float32] [--torch] [--out FILE]

Random images, the same in every step; a step is the trainer's own but for the reading and
augmentation of data. With --torch also a plain PyTorch step (`eager`) and a tuned one. Prints a
table, and writes every time measured as JSON.
"""

import argparse
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.jax_steps import DEFAULT_METHODS, METHODS, make_step
from benchmarks.machine import describe, peak_flops
from benchmarks.turns import in_turn, summary
from vasso_jax.names import check_choice

PRECISIONS = ("float32", "tf32", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="resnet18", help="of vasso_jax.models")
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    parser.add_argument("--methods", nargs="+", default=list(DEFAULT_METHODS), metavar="METHOD")
    parser.add_argument("--torch", nargs="*", choices=("eager", "tuned"), metavar="eager|tuned")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5, help="a round takes of each method")
    parser.add_argument("--out", type=pathlib.Path, help="JSON file to write")
    options = parser.parse_args()
    try:
        result = measure(options)
    except (ValueError, ImportError) as error:
        parser.error(str(error))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        half = options.out.with_suffix(".part")  # a killed process leaves nothing that looks whole
        half.write_text(json.dumps(result, indent=1) + "\n")
        half.replace(options.out)
    show(result)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Times the methods of `options`; a dict as it is written to the JSON file."""
    for method in options.methods:
        check_choice("method", method, METHODS)
    if options.rounds < 1 or options.steps < 1 or options.batch_size < 1:
        raise ValueError("rounds, steps and batch_size must be at least 1")
    on_gpu = jax.default_backend() == "gpu"
    if options.precision == "tf32" and not on_gpu:
        raise ValueError("tf32 is a mode of NVIDIA GPUs: choose float32 or bfloat16")
    rng = np.random.default_rng(0)
    shape = (options.batch_size, options.image_size, options.image_size, 3)
    images = rng.integers(0, 256, shape).astype(np.uint8)
    labels = rng.integers(0, options.classes, options.batch_size).astype(np.int32)

    steps = {
        method: make_step(
            options.model,
            images,
            labels,
            options.classes,
            method=method,
            precision=options.precision,
        )
        for method in options.methods
    }
    runs = {name: lambda step=step: step.run(options.steps) for name, step in steps.items()}
    if options.torch is not None:
        runs |= _torch_runs(images, labels, options)
    seconds = {
        name: [time / options.steps for time in times]
        for name, times in in_turn(runs, options.rounds).items()
    }

    peak, source = peak_flops(options.precision)
    reference = options.methods[0]
    rows = {}
    for name, times in seconds.items():
        row: dict[str, Any] = summary(times, seconds[reference])
        row["images_per_s"] = options.batch_size / row["median_s"]
        if name in steps:
            step = steps[name]
            row |= {"flops": step.flops, "memory_bytes": step.memory_bytes}
            if "_every" not in name and name != "looksam":  # these do not do all of it every time
                row["share_of_peak"] = step.flops / row["median_s"] / peak
        rows[name] = row | {"seconds": times}
    return {
        **{name: value for name, value in vars(options).items() if name not in ("out", "torch")},
        "ratio_to": reference,
        "peak_flops": peak,
        "peak_source": source,
        "device_peak_bytes": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use"),
        **describe(),
        "rows": rows,
    }


def show(result: dict[str, Any]) -> None:
    """The table of a result, for people."""
    size = result["image_size"]
    table = Table(
        "step",
        *("median ms", "min", "max", "images/s", f"over {result['ratio_to']}", "range"),
        *("GFLOP", "memory MB", "of peak"),
        title=f"{result['model']}, {size}x{size}, batch {result['batch_size']}, "
        f"{result['precision']}, {result['devices']} x {result['device']}",
        caption=f"peak: {result['peak_flops'] / 1e12:.3g} TFLOP/s ({result['peak_source']})",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for name, row in result["rows"].items():
        milliseconds = (f"{1e3 * row[key]:.2f}" for key in ("median_s", "min_s", "max_s"))
        of_program = ["", "", ""]
        if "flops" in row:
            of_program[:2] = f"{row['flops'] / 1e9:.1f}", f"{row['memory_bytes'] / 1e6:.0f}"
        if "share_of_peak" in row:
            of_program[2] = f"{row['share_of_peak']:.1%}"
        table.add_row(
            name,
            *milliseconds,
            f"{row['images_per_s']:.0f}",
            f"{row['ratio']:.3f}",
            f"{row['ratio_min']:.2f}-{row['ratio_max']:.2f}",
            *of_program,
        )
    console = Console()
    Console(width=max(console.width, 120)).print(table)


def _torch_runs(images: np.ndarray, labels: np.ndarray, options: argparse.Namespace) -> Any:
    """PyTorch's SGD and VaSSO steps, each in the wanted ways."""
    try:
        import torch

        from benchmarks import torch_step
    except ImportError as error:
        raise ImportError(f"--torch needs PyTorch (pip install torch): {error}") from error
    if jax.default_backend() == "gpu" and not torch.cuda.is_available():
        raise ImportError("--torch needs a PyTorch with CUDA here: this one has the CPU only")
    normalized = (images / 255 - 0.5).astype(np.float32)
    runs = {}
    for way in options.torch or ("eager", "tuned"):
        for method in ("sgd", "vasso"):
            step = torch_step.make_step(
                options.model,
                normalized,
                labels,
                options.classes,
                method=method,
                precision="bfloat16" if way == "tuned" else options.precision,
                tuned=way == "tuned",
            )

            def run(step: Callable[[], None] = step) -> None:
                for _ in range(options.steps):
                    step()
                torch_step.wait()

            runs[f"PyTorch {way} {method}"] = run
    return runs


if __name__ == "__main__":
    main()
