"""The benchmarks of start-up and of single decisions, at toy size."""

import json
import os
import subprocess
import sys

import pytest

from tests.runs import ROOT


@pytest.mark.parametrize(
    ("script", "arguments", "rows"),
    [
        ("startup", (), {"cold", "cached"}),
        (
            "changes",
            ("--image_size=8", "--batch_size=2", "--rounds=1", "--steps=1"),
            {"as it is", "without donation", "metrics fetched", "scan"}
            | {"optimizer alone, vasso", "optimizer alone, sgd"},
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
