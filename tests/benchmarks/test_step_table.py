"""The timing of benchmarks/step.py, and the step in its table."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import turns
from benchmarks.jax_steps import METHODS, make_step
from tests.runs import ROOT


def test_runs_take_turns_and_reverse_every_second_round():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "abc"}
    seconds = turns.in_turn(runs, rounds=2)
    assert calls == [*"abc", *"abc", *"cba"]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_ratios_are_taken_round_by_round():
    # A slow second round, slow for both, leaves the ratio alone.
    result = turns.summary([2.0, 20.0, 2.2], [1.0, 10.0, 1.0])
    assert result["ratio"] == result["ratio_min"] == 2.0
    assert result["ratio_max"] == pytest.approx(2.2)
    assert (result["median_s"], result["min_s"], result["max_s"]) == (2.2, 2.0, 20.0)


def batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, 8, 8, 3)).astype(np.uint8)
    return images, rng.integers(0, 10, 8).astype(np.int32)


@pytest.mark.parametrize("method", ["sgd again", "vasso refresh_every=5", "optax.contrib.sam"])
def test_timed_steps_train(method):
    assert method in METHODS
    step = make_step("wrn10_1", *batch(), 10, method=method, precision="float32")
    before = np.concatenate([np.ravel(x) for x in leaves(step.state)])
    step.run(3)
    after = np.concatenate([np.ravel(x) for x in leaves(step.state)])
    assert np.isfinite(after).all()
    assert (before != after).mean() > 0.9


def leaves(state):
    params = state[0] if isinstance(state, tuple) else state.params
    return [np.asarray(leaf) for leaf in jax.tree.leaves(params)]


def test_command(tmp_path):
    out = tmp_path / "new" / "step.json"
    command = [sys.executable, "-m", "benchmarks.step", "--model", "wrn10_1", "--batch_size", "8"]
    command += ["--rounds", "2", "--steps", "1", "--methods", "sgd", "vasso", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["ratio_to"] == "sgd"
    assert result["rows"]["sgd"]["ratio"] == 1
    assert len(result["rows"]["vasso"]["seconds"]) == 2
    assert result["rows"]["vasso"]["flops"] > result["rows"]["sgd"]["flops"]
    assert "vasso" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "vaso"], "vasso"),
        (["--model", "resnet19"], "resnet18"),
        (["--precision", "tf32"], "NVIDIA"),
        (["--rounds", "0"], "at least 1"),
        (["--batch_size", "9"], "multiple of 8"),  # the tests have eight devices
    ],
)
def test_wrong_arguments(arguments, message):
    command = [sys.executable, "-m", "benchmarks.step", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
