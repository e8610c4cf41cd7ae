"""benchmarks.gpu rehearsed at toy size, and what it refuses."""

import json
import os
import subprocess
import sys

import pytest

from tests.runs import ROOT

pytestmark = pytest.mark.slow


def gpu(*arguments):
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, arguments)]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_rehearsal(tmp_path):
    """Every stage once, then all is there already. About 40 s: seven processes that compile."""
    toy = ("--data_dir", tmp_path, "--out", tmp_path, "--toy")
    done = gpu(*toy)
    assert done.returncode == 0, done.stdout + done.stderr
    results = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert {*results} == {
        "step_wrn10_1_bfloat16",
        "step_wrn10_1_float32",
        "throughput",
        "memory_wrn10_1_vasso",
        "seeds",
        "training_vasso0.4_seed0",
    }
    assert results["training_vasso0.4_seed0"]["config"]["method"]["theta"] == 0.4
    assert results["training_vasso0.4_seed0"]["records"][-1]["split"] == "test"
    assert "Training runs" in done.stdout

    again = gpu(*toy)
    assert again.returncode == 0
    assert again.stdout.count("there already") == len(results)
    assert again.stdout.split("already")[-1].strip() == done.stdout.split(" s\n")[-1].strip()


def test_without_time_nothing_starts(tmp_path):
    done = gpu("--data_dir", tmp_path, "--out", tmp_path / "out", "--toy", "--minutes", 0)
    assert done.returncode == 0
    assert "not enough time left" in done.stdout
    assert "no results" in done.stdout


def test_refusals(tmp_path):
    for arguments, message in (
        (("--data_dir", tmp_path / "none"), "vasso-jax prepare cifar10"),
        (("--stages", "step", "--data_dir", tmp_path), "precisions"),
    ):
        done = gpu(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    (tmp_path / "cifar10").mkdir()
    done = gpu("--data_dir", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "no GPU" in done.stderr
