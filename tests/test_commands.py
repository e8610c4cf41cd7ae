"""The commands of the README and the docs, one after the other, as a reader would type them.

Trainings are shortened to one epoch of a tiny network, on a few images where the page has CIFAR-10
or ImageNet. The test commands of the README are those of CI.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from tests import tiny_cifar
from tests.train.networks import NAME

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NETWORK = f"--config.model.name={NAME}"
# What cannot be run here, and where it is tested, if anywhere.
NOT_RUN = {
    r"pip install|pytest|sphinx-build": "CI does",
    r"vasso-jax prepare|.*download_and_prepare": "downloads",
    r"vasso-jax import-torch|.*init_from=runs/imported": "torch; tests/cli/test_import_torch.py",
    r".*--torch$": "a ResNet-18; tests/inference/test_export.py",
    r"#SBATCH|#!/bin/bash|status=|exit": "Slurm; the command that it starts is below",
    r"case|\d.*\) |esac": "Slurm; tests/clusters/test_slurm.py",
    r"trap|wait": "Open MPI; the command that it starts is above",
}
# With these, a command only says what it would do.
ONLY_READ = {
    r"python -m (benchmarks|tests.faults.campaign)": "--help",
    r"vasso-jax sweep (?!.*--seeds=3 --jobs=2)": "--list",
    r".*--config.distributed=True": "--help_config",
}


def commands(pages):
    """(page, command) for each line of all blocks of bash."""
    for page in pages:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                yield page.name, line.split("  #")[0].strip()


def shortened(arguments):
    """What is added to the arguments of a training."""
    given = " ".join(arguments)
    if "--help_config" in arguments:
        return []
    extra = [NETWORK]
    if "--config.epochs" not in given or "sweep" in arguments:
        extra += ["--config.epochs=1"]
    if "sweep" in arguments:
        extra += ["--seeds=1"]
    if "configs/digits" not in given and "configs/" in given and "--workdir" not in given:
        # Two commands for one config, with other settings, are two runs.
        extra += [f"--workdir=runs/{len(given)}"]
    if "--config.data.dir=DIR" in given and "configs/digits" in given:
        extra += ["--config.data.dir=images", "--config.batch_size=4", "--workdir=runs/images"]
    if "configs/cifar10" in given:
        extra += ["--config.data.dir=cifar", "--config.batch_size=8"]
    if "configs/imagenet" in given:
        extra += ["--config.data.name=folder", "--config.data.dir=images"]
        extra += ["--config.batch_size=4", "--config.schedule.warmup_epochs=0"]
    return extra


def arguments_of(command):
    """What to run in its place."""
    inner = re.search(r"python main\.py [^\"&]*", command)
    arguments = shlex.split(inner[0] if inner else command)
    for pattern, flag in ONLY_READ.items():
        if re.match(pattern, command):
            # Both are about running the points.
            return [a for a in arguments if not a.startswith(("--index", "--jobs"))] + [flag]
    if arguments[:2] == ["python", "main.py"] or arguments[1] in ("sweep", "find-lr"):
        arguments += shortened(arguments)
    return arguments


@pytest.fixture
def folder(tmp_path):
    """Where a reader is who has cloned the repository, with data and images of their own."""
    for name in ("main.py", "configs", "benchmarks", "studies", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    tiny_cifar.prepare(tmp_path / "cifar", train=64, test=16)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 40, 40, 3)).astype(np.uint8)
    for i, image in enumerate(pixels):
        path = tmp_path / "images" / ("train" if i < 12 else "val") / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(image).save(path)
    digit = PIL.Image.fromarray(pixels[0, :8, :8, 0])
    (tmp_path / "folder_of_images").mkdir()
    for path in ("IMAGE.png", "image.png", "folder_of_images/one.png"):
        digit.save(tmp_path / path)
    return tmp_path


@pytest.mark.parametrize(
    ("pages", "made"),
    [
        pytest.param(PAGES[:1], [], marks=pytest.mark.slow, id="README"),
        pytest.param(
            PAGES,  # with the README, whose runs they go on with
            ["runs/sweep.html", "digits.jaxexport", "digits.safetensors", "predictions.csv"],
            marks=pytest.mark.weekly,
            id="all",
        ),
    ],
)
def test_every_command_does_what_it_is_there_for(folder, pages, made):
    programs = {"python": [sys.executable], "vasso-jax": [sys.executable, "-m", "vasso_jax"]}
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    given = [(page, command) for page, command in commands(pages) if command]
    run = [(page, c) for page, c in given if not any(re.match(pattern, c) for pattern in NOT_RUN)]
    assert len(run) > len(given) // 2
    for page, command in run:
        program, *arguments = arguments_of(command)
        done = subprocess.run(
            [*programs[program], *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{page}: {command}\n{done.stdout[-2000:]}{done.stderr}"
        if re.match(r"python -m (benchmarks|tests)", command):
            for flag in re.findall(r" (--\w+)", command):
                assert flag in done.stdout, f"{page}: {command}: no {flag}"
    for name in made:
        assert (folder / name).stat().st_size, name
