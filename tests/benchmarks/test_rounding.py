"""The canary of wrong sums: a step of the trainer beside float64, compiled as users compile it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.rounding.__main__ import apart
from tests.runs import ROOT


@pytest.mark.weekly
def test_a_step_is_right_with_the_installed_jaxlib(tmp_path):
    """If it fails, sums of this jaxlib are wrong where the trainer uses them; see the benchmark."""
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "benchmarks.rounding", "--models", "wrn10_1"]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "XLA_FLAGS": ""}
    subprocess.run([*command, f"--out={out}"], cwd=ROOT, env=environment, check=True)
    (record,) = json.loads(out.read_text())
    for program in ("trainer", "single_sums"):
        # Measured 6e-6 to 2e-3, by activations that rounding moves across a ReLU's zero.
        assert 0 < record[program]["opt_state"] < 0.02
        assert 0 < record[program]["batch_stats"] < 1e-4
        # 5e-6 of the increase of the loss (0.06), the difference of two losses of 2.3: each is
        # rounded to 2e-7. The others were within 2e-6.
        assert 0 < record[program]["metric_sums"] < 1e-5


def test_how_far_is_relative_to_the_change_or_to_a_thousandth_of_the_largest():
    start = {"w": np.zeros(2), "b": np.zeros(1)}
    exact = {"w": np.array([3.0, 4.0]), "b": np.array([1e-9])}
    found = {"w": np.array([3.0, 4.5]), "b": np.array([1e-4])}
    assert apart(start, found, exact) == pytest.approx(0.5 / 5)
    found["b"] += 1
    assert apart(start, found, exact) == pytest.approx(1 / 5e-3, rel=1e-3)
    assert apart(start, exact, exact) == 0
    assert not apart(start, {"w": np.full(2, np.nan), "b": np.zeros(1)}, exact) < 1
