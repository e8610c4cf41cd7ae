"""The benchmarks that need a GPU, on one GPU, in about 25 minutes.

    python -m benchmarks.gpu --data_dir DIR [--minutes 25] [--out DIR] [--stages STAGE ...] [--toy]

The stages, in this order. Each is a list of processes that write one JSON file each. A process may
take up to eight minutes; training processes have no limit of their own:

    steps       benchmarks.step: ResNet-18 and WRN-28-10 (CIFAR), ResNet-50 and ViT-S/32 (224
                pixels) in bfloat16, and PyTorch's steps if it is installed
    throughput  benchmarks.throughput: main.py against its bare step
    memory      peak memory as the device reports it, with one process per method
    training    main.py: ResNet-18 on CIFAR-10, 200 epochs, as many seeds as fit
    seeds       benchmarks.seeds: several seeds in one program, against a single seed
    precisions  as `steps`, in TF32 and float32

Processes whose file exists are skipped, so the same command continues where an earlier one ended;
training resumes from its checkpoints. A process is started only if enough time is left. DIR is a
prepared tfds folder with cifar10 (`vasso-jax prepare cifar10 --dir=DIR`). Neither network nor
TensorFlow is needed. `--toy` rehearses everything at a size for CPUs. At the end it prints tables
of all results so far.
"""

import os
import pathlib
import subprocess
import sys
import time

from benchmarks.gpu import tables
from benchmarks.gpu.stages import STAGES, tasks
from benchmarks.gpu.task import LIMIT, run
from benchmarks.harness.arguments import Parser, fail, one_message
from benchmarks.harness.processes import ROOT, SHARED_GPU, environment, python


@one_message()
def main() -> None:
    """The command above."""
    parser = Parser(
        __doc__, out="folder of the results (benchmarks/gpu/results)", out_is_folder=True
    )
    parser.add_argument("--data_dir", required=True, type=pathlib.Path, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=25, help="limit for all of it (25)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, metavar="STAGE")
    parser.add_argument("--toy", action="store_true", help="rehearse at toy size, on any device")
    parser.set_defaults(out=ROOT / "benchmarks" / "gpu" / "results")
    options = parser.parse_args()
    if not (options.data_dir / "cifar10").is_dir() and not options.toy:
        fail(
            f"there is no cifar10 in {options.data_dir}: prepare it with "
            f"vasso-jax prepare cifar10 --dir={options.data_dir}"
        )
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    # PyTorch and JAX, or two processes, share the GPU.
    variables = {"JAX_COMPILATION_CACHE_DIR": str(out / "runs" / "compiled")} | SHARED_GPU
    if cache := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        variables["JAX_COMPILATION_CACHE_DIR"] = cache
    if not options.toy and _backend() != "gpu":
        fail("JAX sees no GPU here: install the extra cuda12, or rehearse with --toy")

    end = time.monotonic() + 60 * options.minutes
    failed = []
    with_torch = _has_torch()
    for stage in options.stages:
        for task in tasks(stage, options.data_dir.absolute(), out, options.toy, with_torch):
            left = end - time.monotonic()
            if (out / f"{task.name}.json").exists():
                print(f"{task.name}: there already", flush=True)
            elif left < task.seconds:
                print(f"{task.name}: not enough time left", flush=True)
            elif not run(
                task, out, environment(variables), left if task.resumes else min(left, LIMIT)
            ):
                failed.append(task.name)
    tables.show(out)
    if failed:
        sys.exit(
            f"error: failed or stopped: {', '.join(failed)}; see their files in {out / 'runs'}"
        )


def _backend() -> str:
    """JAX's backend, asked in another process so that this one takes no GPU memory."""
    code = "import jax; print(jax.default_backend())"
    return python("-c", code, variables=SHARED_GPU).strip()


def _has_torch() -> bool:
    command = [sys.executable, "-c", "import torch; assert torch.cuda.is_available()"]
    return subprocess.run(command, capture_output=True).returncode == 0


if __name__ == "__main__":
    main()
