"""contrib/optax, put into a copy of the installed optax as it would be merged there."""

import os
import pathlib
import shutil
import subprocess
import sys

import optax
import pytest

from tests.runs import ROOT

FOLDER = ROOT / "contrib/optax"
# Against another implementation of the same equations, on gradients that vary from step to step.
COMPARISON = """
import jax, jax.numpy as jnp, optax, vasso_jax.optim
from optax.contrib import vasso

def steps(tx):
    params = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
    state = tx.init(params)
    for key in jax.random.split(jax.random.key(0), 6):
        x = jax.random.normal(key, (4, 3))
        grad_fn = lambda p, _: jax.grad(lambda p: jnp.sum((x @ p["w"] + p["b"] - 1) ** 2))(p)
        updates, state = tx.update(grad_fn(params, 0), state, params, grad_fn=grad_fn)
        params = optax.apply_updates(params, updates)
    return params

ours = steps(vasso_jax.optim.vasso(optax.adam(0.1), 0.1, 0.4))
theirs = steps(vasso(optax.adam(0.1), 0.1, 0.4))
jax.tree.map(lambda a, b: print(float(jnp.abs(a - b).max())), ours, theirs)
"""


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """A folder with optax and the two files in it."""
    folder = tmp_path_factory.mktemp("merged")
    source = pathlib.Path(optax.__file__).parent
    shutil.copytree(source, folder / "optax", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("_vasso.py", "_vasso_test.py"):
        shutil.copy(FOLDER / name, folder / "optax/contrib")
    code = (FOLDER / "README.md").read_text().split("```python\n")[1].split("```")[0]
    with (folder / "optax/contrib/__init__.py").open("a") as file:
        file.write("\n".join(line.strip() for line in code.splitlines()))
    return folder


def run(folder, *arguments):
    environment = os.environ | {"PYTHONPATH": f"{folder}:{ROOT}", "JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
def test_its_own_tests_and_its_example_pass_there(merged):
    files = ["optax/contrib/_vasso.py", "optax/contrib/_vasso_test.py"]
    done = run(merged, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--doctest-modules", *files)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_its_steps_are_those_of_this_package(merged):
    done = run(merged, "-c", COMPARISON)
    assert done.returncode == 0, done.stderr
    differences = [float(line) for line in done.stdout.split()]
    assert len(differences) == 2
    assert max(differences) < 1e-6


def test_it_is_as_short_as_other_contributions():
    lines = (FOLDER / "_vasso.py").read_text().splitlines()
    assert len(lines) <= 200
    assert max(map(len, lines)) <= 80
