"""The processes of each stage of the GPU benchmark."""

import pathlib
import sys

from benchmarks.gpu.task import Task
from benchmarks.harness.processes import ROOT

STAGES = ("steps", "throughput", "memory", "training", "seeds", "precisions")

# model, image size, batch, classes
NETWORKS = (
    ("resnet18", 32, 128, 10),
    ("wrn28_10", 32, 128, 10),
    ("resnet50_imagenet", 224, 128, 1000),
    ("vit_s32", 224, 512, 1000),
)
TOY_NETWORKS = (("wrn10_1", 32, 4, 10),)
# method, theta
METHODS = (("vasso", 0.4), ("none", None), ("sam", None), ("vasso", 0.9))
SEEDS = range(5)
_FEW = ["--rounds", "1", "--steps", "1"]


def tasks(
    stage: str, data_dir: pathlib.Path, out: pathlib.Path, toy: bool, with_torch: bool
) -> list[Task]:
    """The processes of a stage, the most informative first.

    Args:
        stage: one of STAGES.
        data_dir: a prepared tfds folder with cifar10; not read in a rehearsal.
        out: folder of the results.
        toy: whether this is a rehearsal.
        with_torch: whether to also measure PyTorch's steps.
    """
    networks = TOY_NETWORKS if toy else NETWORKS
    if stage in ("steps", "precisions"):
        return _steps(stage, out, toy, with_torch)
    if stage == "memory":
        return [
            Task(name, [*_step(*network, "bfloat16"), *_FEW, "--methods", method, *_to(out, name)])
            for network in networks
            for method in (("vasso",) if toy else ("sgd", "vasso"))
            for name in [f"memory_{network[0]}_{method}"]
        ]
    if stage == "seeds":
        command = _benchmark("seeds", "--model", networks[0][0])
        command += ["--batch_size", str(networks[0][2]), "--precision", "bfloat16"]
        command += ["--seeds", "2", *_FEW] if toy else []
        return [Task("seeds", [*command, *_to(out, "seeds")])]
    if stage == "throughput":
        command = _benchmark("throughput", *_flags(data_dir, toy, "vasso", 0.4, seed=0))
        command += [f"--config.epochs={1 if toy else 4}"]
        command += ["--rounds=1", "--steps=2"] if toy else ["--rounds=3", "--steps=400"]
        return [Task("throughput", [*command, *_to(out, "throughput")], seconds=60)]
    return _training(data_dir, out, toy)


def _steps(stage: str, out: pathlib.Path, toy: bool, with_torch: bool) -> list[Task]:
    found = []
    slower = ("float32",) if toy else ("tf32", "float32")
    for precision in ("bfloat16",) if stage == "steps" else slower:
        for network in TOY_NETWORKS if toy else NETWORKS:
            name = f"step_{network[0]}_{precision}"
            command = _step(*network, precision)
            command += _FEW if toy else ["--rounds", "10", "--steps", "10"]
            if toy or stage == "precisions" or network[1] > 32:
                command += ["--methods", "sgd", "vasso"]
            if with_torch:
                # The tuned step is always in bfloat16.
                command += ["--torch", "eager", *(["tuned"] if stage == "steps" else [])]
            found.append(Task(name, [*command, *_to(out, name)], 30 if toy else 150))
    return found


def _training(data_dir: pathlib.Path, out: pathlib.Path, toy: bool) -> list[Task]:
    found = []
    for seed in SEEDS[:1] if toy else SEEDS:
        for method, theta in METHODS[:1] if toy else METHODS:
            name = f"training_{method}{'' if theta is None else theta}_seed{seed}"
            command = [sys.executable, str(ROOT / "main.py")]
            command += _flags(data_dir, toy, method, theta, seed)
            command += ["--config.epochs=1"] if toy else []
            found.append(Task(name, [*command, f"--workdir={out / 'runs' / name}"], 45, True))
    return found


def _benchmark(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.{name}", *arguments]


def _step(model: str, size: int, batch: int, classes: int, precision: str) -> list[str]:
    return _benchmark(
        "step",
        *("--model", model, "--image_size", str(size), "--batch_size", str(batch)),
        *("--classes", str(classes), "--precision", precision),
    )


def _to(out: pathlib.Path, name: str) -> list[str]:
    return ["--out", str(out / f"{name}.json")]


def _flags(
    data_dir: pathlib.Path, toy: bool, method: str, theta: float | None, seed: int
) -> list[str]:
    """The flags of main.py for ResNet-18 on CIFAR-10."""
    experiment = "digits_vasso.py" if toy else f"cifar10_resnet18.py:{method}"
    flags = [f"--config={ROOT / 'configs' / experiment}", f"--config.seed={seed}"]
    flags += ["--config.model.dtype=bfloat16", "--config.tensorboard=False"]
    flags += [] if theta is None else [f"--config.method.theta={theta}"]
    return flags if toy else [*flags, f"--config.data.dir={data_dir}"]
