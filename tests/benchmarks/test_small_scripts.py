"""The small benchmarks at toy size."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.runs import ROOT
from tests.train.networks import NAME

pytestmark = pytest.mark.slow


@pytest.mark.weekly
@pytest.mark.parametrize(
    ("script", "arguments", "rows"),
    [
        ("startup", ("--config=examples/own_network.py",), {"cold", "cached"}),
        (
            "changes",
            (f"--model={NAME}", "--image_size=8", "--batch_size=2", "--rounds=1", "--steps=1"),
            {"as it is", "without donation", "metrics fetched", "scan"}
            | {"optimizer alone, vasso", "optimizer alone, sgd"},
        ),
        (
            "input.on_device",
            (f"--model={NAME}", "--batch_size=2", "--rounds=1", "--steps=1"),
            {"step_seconds_with_input", "over_without", "lowest", "highest"},
        ),
        (
            "input.augmentation",
            ("--batch_size=2", "--image_size=8", "--rounds=1"),
            {"normalise", "crop, flip, cutout", "randaugment", "trivialaugment", "mixup", "cutmix"},
        ),
        (
            "curvature",
            (f"--model={NAME}", "--image_size=8", "--batch_size=2", "--rounds=1"),
            {"gradient", "gradient again", "hessian", "gauss_newton", "fisher"},
        ),
        (
            "import_time",
            ("--rounds=1",),
            {"optax_seconds", "vasso_jax_optim_seconds", "median_ratio"},
        ),
    ],
)
def test_it_writes_its_rows(script, arguments, rows, tmp_path):
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", f"benchmarks.{script}", *arguments, f"--out={out}"]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert rows <= result.keys() | result.get("rows", {}).keys()
    assert done.stdout
    if script == "startup":
        cold = result["cold"]
        assert cold.pop("total") == pytest.approx(sum(cold.values()), abs=1e-3)
        assert {"compiling the step", "data", "first step"} <= cold.keys()
        assert min(cold.values()) >= 0


def test_input_measures_all_pipelines(tmp_path):
    for number in range(50):  # a batch
        pixels = np.full((32, 32, 3), 5 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks.input", "--rounds=1", "--images_per_round=50"]
    command += [f"--images={tmp_path}", f"--out={out}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    records = json.loads(out.read_text())
    assert {(record["pipeline"], record["cores"]) for record in records} == {
        (name, cores) for name in ("ours", "whole image and Pillow") for cores in (1, 2)
    }
    assert all(record["images_per_second"] > 0 for record in records)
