"""All that is worth knowing from one GPU, in about 25 minutes.

    python -m benchmarks.gpu --data_dir DIR [--minutes 25] [--out DIR] [--stages ...]

Stages, in this order; each is a list of processes, no longer than eight minutes, that write one
JSON file each (training: as long as it takes):
    steps       benchmarks/step.py: ResNet-18 and WRN-28-10 (CIFAR), ResNet-50 and ViT-S/32 (224
                pixels) in bfloat16, beside PyTorch where that is installed
    throughput  benchmarks/throughput.py: main.py against its bare step
    memory      peak of the device's own account, each method in a process of its own
    training    main.py: ResNet-18 on CIFAR-10, 200 epochs, as many seeds as fit
    seeds       benchmarks/seeds.py: several seeds at once by vmap, against one after the other
    precisions  as `steps`, in TF32 and float32
What has its file is skipped, so the same command goes on where an earlier one ended; training goes
on from its checkpoints. No process is started that has no time left. DIR is a prepared tfds folder
with cifar10 (`python -m vasso_jax.data.prepare cifar10`). No network, no TensorFlow. `--toy`
rehearses everything at the size of a CPU. Prints the tables of what there is, last.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from benchmarks import gpu_tables

ROOT = pathlib.Path(__file__).absolute().parent.parent
STAGES = ("steps", "throughput", "memory", "training", "seeds", "precisions")
_LIMIT = 8 * 60  # seconds of one process; training goes on later
_GRACE = 60  # seconds to save in after SIGTERM

# model, image size, batch, classes
NETWORKS = (
    ("resnet18", 32, 128, 10),
    ("wrn28_10", 32, 128, 10),
    ("resnet50_imagenet", 224, 128, 1000),
    ("vit_s32", 224, 512, 1000),
)
TOY_NETWORKS = (("wrn10_1", 32, 4, 10),)
# optimizer, theta
METHODS = (("vasso", 0.4), ("sgd", None), ("sam", None), ("vasso", 0.9))
SEEDS = range(5)


@dataclasses.dataclass(frozen=True)
class Task:
    """One process.

    Attributes:
        name: of its file in the results folder, without .json.
        command: what to run; it writes that file, or its last line of output goes there.
        seconds: that it is expected to need at the least; not started with less time left.
        resumes: whether the same command goes on where it was stopped.
    """

    name: str
    command: list[str]
    seconds: int = 30
    resumes: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", required=True, type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=25, help="no process outlasts them")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "benchmarks" / "results" / "gpu")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--toy", action="store_true", help="a rehearsal, on any device")
    options = parser.parse_args()
    if not (options.data_dir / "cifar10").is_dir() and not options.toy:
        parser.error(
            f"there is no cifar10 in {options.data_dir}: prepare it with "
            f"python -m vasso_jax.data.prepare cifar10 --data_dir={options.data_dir}"
        )
    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": os.environ.get(
            "JAX_COMPILATION_CACHE_DIR", str(out / "runs" / "compiled")
        ),
        # PyTorch and JAX, or two processes, share the GPU.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    if not options.toy and _backend(environment) != "gpu":
        parser.error("JAX sees no GPU here: install the extra cuda12, or rehearse with --toy")

    end = time.monotonic() + 60 * options.minutes
    failed = []
    for stage in options.stages:
        for task in _tasks(stage, options.data_dir.absolute(), out, options.toy):
            left = end - time.monotonic()
            if (out / f"{task.name}.json").exists():
                print(f"{task.name}: there already", flush=True)
            elif left < task.seconds:
                print(f"{task.name}: not enough time left", flush=True)
            elif not _run(task, out, environment, left if task.resumes else min(left, _LIMIT)):
                failed.append(task.name)
    gpu_tables.show(out)
    if failed:
        sys.exit(
            f"error: failed or stopped: {', '.join(failed)}; see their files in {out / 'runs'}"
        )


def _tasks(stage: str, data_dir: pathlib.Path, out: pathlib.Path, toy: bool) -> list[Task]:
    """The processes of a stage, the most telling first."""
    networks = TOY_NETWORKS if toy else NETWORKS
    few = ["--rounds", "1", "--steps", "1"]

    def step(model: str, size: int, batch: int, classes: int, precision: str) -> list[str]:
        command = [sys.executable, "-m", "benchmarks.step", "--model", model]
        command += ["--image_size", str(size), "--batch_size", str(batch)]
        return [*command, "--classes", str(classes), "--precision", precision]

    if stage in ("steps", "precisions"):
        tasks = []
        slower = ("float32",) if toy else ("tf32", "float32")
        for precision in ("bfloat16",) if stage == "steps" else slower:
            for network in networks:
                name = f"step_{network[0]}_{precision}"
                arguments = few if toy else ["--rounds", "10", "--steps", "10"]
                if toy or stage == "precisions" or network[1] > 32:
                    arguments += ["--methods", "sgd", "vasso"]
                if _has_torch():
                    # The tuned step is in bfloat16, whatever else is.
                    arguments += ["--torch", "eager", *(["tuned"] if stage == "steps" else [])]
                command = [*step(*network, precision), *arguments]
                seconds = 30 if toy else 150
                tasks.append(Task(name, [*command, "--out", str(out / f"{name}.json")], seconds))
        return tasks
    if stage == "memory":
        return [
            Task(
                name,
                [
                    *(*step(*network, "bfloat16"), *few, "--methods", method),
                    *("--out", str(out / f"{name}.json")),
                ],
            )
            for network in networks
            for method in (("vasso",) if toy else ("sgd", "vasso"))
            for name in [f"memory_{network[0]}_{method}"]
        ]
    if stage == "seeds":
        command = [sys.executable, "-m", "benchmarks.seeds", "--model", networks[0][0]]
        command += ["--batch_size", str(networks[0][2]), "--precision", "bfloat16"]
        command += [*(["--seeds", "2", *few] if toy else []), "--out", str(out / "seeds.json")]
        return [Task("seeds", command)]
    if stage == "throughput":
        flags = _flags(data_dir, toy, "vasso", 0.4, seed=0)
        flags += ["--config.epochs=1" if toy else "--config.epochs=4"]
        arguments = ["--rounds=1", "--steps=2"] if toy else ["--rounds=3", "--steps=400"]
        command = [sys.executable, "-m", "benchmarks.throughput", *flags, *arguments]
        return [Task("throughput", [*command, f"--out={out / 'throughput.json'}"], seconds=60)]
    tasks = []
    for seed in SEEDS[:1] if toy else SEEDS:
        for optimizer, theta in METHODS[:1] if toy else METHODS:
            name = f"training_{optimizer}{'' if theta is None else theta}_seed{seed}"
            command = [sys.executable, str(ROOT / "main.py")]
            command += _flags(data_dir, toy, optimizer, theta, seed)
            command += ["--config.epochs=1"] if toy else []
            tasks.append(Task(name, [*command, f"--workdir={out / 'runs' / name}"], 45, True))
    return tasks


def _flags(
    data_dir: pathlib.Path, toy: bool, optimizer: str, theta: float | None, seed: int
) -> list[str]:
    """Of main.py, for ResNet-18 on CIFAR-10."""
    experiment = "digits_vasso.py" if toy else f"cifar10_resnet18.py:{optimizer}"
    flags = [f"--config={ROOT / 'configs' / experiment}", f"--config.seed={seed}"]
    flags += ["--config.dtype=bfloat16", "--config.tensorboard=False"]
    flags += [] if theta is None else [f"--config.theta={theta}"]
    return flags if toy else [*flags, f"--config.data_dir={data_dir}"]


def _run(task: Task, out: pathlib.Path, environment: dict[str, str], limit: float) -> bool:
    """Runs it to its end, or stops it; whether its file is there."""
    runs = out / "runs"
    runs.mkdir(exist_ok=True)
    result, errors = out / f"{task.name}.json", runs / f"{task.name}.err"
    print(f"{task.name} ...", end=" ", flush=True)
    start = time.monotonic()
    with errors.open("w") as sink:
        process = subprocess.Popen(
            task.command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=sink, text=True
        )
        try:
            printed, _ = process.communicate(timeout=max(1.0, limit - _GRACE * task.resumes))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            print("goes on next time" if task.resumes else "stopped: took too long", flush=True)
            return task.resumes
    seconds = time.monotonic() - start
    if process.returncode == 0 and not result.exists():
        half = result.with_suffix(".part")
        half.write_text(json.dumps(_of_training(printed), indent=1) + "\n")
        half.replace(result)
    print(f"{seconds:.0f} s" if result.exists() else "failed", flush=True)
    return result.exists()


def _of_training(printed: str) -> dict[str, object]:
    """main.py's result, and its records and settings."""
    result = json.loads(printed.splitlines()[-1])
    folder = pathlib.Path(result.pop("workdir"))
    records = (folder / "metrics.jsonl").read_text().splitlines()
    config = json.loads((folder / "config.json").read_text())
    return {**result, "config": config, "records": [json.loads(record) for record in records]}


def _backend(environment: dict[str, str]) -> str:
    """Asked in another process, so that this one takes no GPU memory."""
    command = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout.strip()


def _has_torch() -> bool:
    command = [sys.executable, "-c", "import torch; assert torch.cuda.is_available()"]
    return subprocess.run(command, capture_output=True).returncode == 0


if __name__ == "__main__":
    main()
