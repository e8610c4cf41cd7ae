"""Curvature on a mesh of two processes."""

import json
import os
import random
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.runs import ROOT, finish
from tests.sharpness import problems
from tests.sharpness.two_processes import measured


@pytest.mark.slow
def test_two_processes_measure_what_one_does():
    address = f"127.0.0.1:{random.randrange(20000, 60000)}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.sharpness.two_processes", address, str(i)],
            cwd=ROOT,
            env=os.environ | {"JAX_NUM_CPU_DEVICES": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    expected = measured(*problems.for_several_devices())
    for process in processes:
        status, out, err = finish(process)
        assert status == 0, err
        found = json.loads(out.splitlines()[-1])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)
