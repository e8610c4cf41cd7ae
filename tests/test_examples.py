"""The examples as a user starts them; warnings are errors, and each must have learned."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

from tests import runs

FOLDER = pathlib.Path(__file__).parents[1] / "examples"
# What holds for the last figure printed. Chance is an accuracy of 0.1, for the moons 0.5 and with a
# straight line 0.88; characters by their frequency alone give the language model 2.9.
LEARNED = {
    "language_model": lambda loss: loss < 2.4,
    "linen_batchnorm": lambda accuracy: accuracy > 0.93,
    "sharded": lambda accuracy: accuracy > 0.95,
    "flax_nnx": lambda accuracy: accuracy > 0.95,
    "plain_jax": lambda accuracy: accuracy > 0.95,
    "equinox_mlp": lambda accuracy: accuracy > 0.94,
}
# With the number of devices there are; the longest first.
RUNS = [
    pytest.param("language_model", 1, marks=pytest.mark.weekly),
    ("linen_batchnorm", 4),
    pytest.param("flax_nnx", 8, marks=pytest.mark.weekly),
    ("sharded", 8),
    ("plain_jax", 1),
    pytest.param("equinox_mlp", 4, marks=pytest.mark.weekly),
    pytest.param("sharded", 1, marks=pytest.mark.weekly),
]


def last_figure(name, devices):
    process = subprocess.run(
        [sys.executable, "-W", "error", str(FOLDER / f"{name}.py")],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return float(process.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "devices"), RUNS)
def test_it_learns(name, devices):
    assert LEARNED[name](last_figure(name, devices))


# Parts of one's own, which the trainer runs, with the epochs that they need. All with the network
# of the first, which compiles faster than that of the digits.
OWN = {"own_method": 20, "own_network": 20, "own_dataset": 6}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.weekly if name != "own_method" else []) for name in OWN],
)
def test_the_trainer_runs_parts_of_ones_own(name, tmp_path):
    overrides = (f"epochs={OWN[name]}", "base.lr=0.1", "tensorboard=False")
    overrides += ("model.name=examples.own_network:SmallCNN",)
    result, out = runs.run(tmp_path, *overrides, config=FOLDER / name)
    assert result["best_test_top1"] > 0.8
    assert f"examples.{name}:" in out


def test_every_example_is_run():
    started = {getattr(run, "values", run)[0] for run in RUNS}
    assert {path.stem for path in FOLDER.glob("*.py")} == started | {*OWN}
    assert started == set(LEARNED)


@pytest.mark.parametrize("name", [*LEARNED, *OWN])
def test_it_is_short_and_says_what_it_does(name):
    source = (FOLDER / f"{name}.py").read_text()
    assert len(source.splitlines()) < 70
    says = "--config=examples/" if name in OWN else "Prints"
    assert says in ast.get_docstring(ast.parse(source))
