"""The study of variance at toy size, and the figure of its numbers."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from studies.variance import measurement, trajectory
from studies.variance.__main__ import HERE, main
from tests.runs import ROOT
from tests.studies.pictures import assert_alike
from vasso_jax import data


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "studies.variance", *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.weekly
def test_the_script_writes_its_numbers_and_its_picture(tmp_path):
    results, figure = tmp_path / "new/numbers.json", tmp_path / "picture.png"
    paths = (f"--results={results}", f"--figure={figure}")
    process = run("--lrs", "0.05", "--epochs=1", "--batch_size=64", "--streams=3", *paths)
    assert process.returncode == 0, process.stderr
    assert figure.read_bytes().startswith(b"\x89PNG")
    record = json.loads(results.read_text(), parse_constant=pytest.fail)
    (found,) = record["runs"]
    printed = json.loads(process.stdout)
    for phase, of_phase in found["phases"].items():
        assert set(of_phase["independent"]) == set(measurement.AT_REST)
        for name, x in of_phase["independent"].items():
            assert printed["mse_over_sam"][phase][name] == x["over_sam"]
            parts = x["bias_over_sam"] + x["variance_over_sam"]
            np.testing.assert_allclose(parts, x["over_sam"], rtol=2e-3)
        assert of_phase["own"]["SAM"]["bias_over_sam"] is None


@pytest.mark.weekly
def test_the_errors_are_those_of_the_direction_that_the_run_has_taken():
    dataset = data.load("digits")
    model = trajectory.Perceptron(10)
    params, own, state = trajectory.train(dataset, model, 0.05, epochs=1, batch_size=128, seed=0)
    rows = measurement.draw(own, dataset.num_train, 2, seed=0)
    assert {name: x.shape for name, x in rows.items()} == {
        "independent": (11, 2, 128),
        "shuffled": (11, 2, 128),
        "own": (11, 1, 128),
    }
    errors = measurement.errors_along(dataset, model, params, rows, state.params)

    images = data.normalize(jnp.asarray(dataset.train.images), dataset.mean, dataset.std)

    def loss(tree):
        logits = model.apply({"params": tree}, images, train=True)
        return optax.losses.softmax_cross_entropy_with_integer_labels(
            logits, dataset.train.labels
        ).mean()

    last = ravel_pytree(state.params)[1](params[-1])
    full = jax.grad(loss)(last)
    # digits_vasso.py has theta 0.4.
    miss = jax.tree.map(jnp.subtract, optax.tree.get(state.opt_state, "direction"), full)
    measured = errors["own"]["VaSSO, theta 0.4"].squared_error[-1, 0]
    np.testing.assert_allclose(measured, optax.tree.norm(miss, squared=True), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--streams=1"], "--streams >= 2"),
        (["--epochs=0"], "--epochs >= 1"),
        (["--batch_size=2000"], "fewer than ten steps"),
        (["--lrs", "-1"], "lr must be"),
        (["--seed=-1"], "seed must be"),
        (["--epochs=1", "--lrs", "1e30"], "diverged"),
    ],
    ids=str,
)
def test_wrong_input_is_one_message_and_status_2(tmp_path, capsys, arguments, message):
    paths = [f"--results={tmp_path / 'x.json'}", f"--figure={tmp_path / 'x.png'}"]
    with pytest.raises(SystemExit) as stopped:
        main(["--batch_size=128", *arguments, *paths])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_numbers_that_are_kept_give_the_figure_that_is_kept(tmp_path):
    figure = tmp_path / "figure.png"
    main(["--redraw", f"--figure={figure}"])
    assert_alike(figure, HERE / "results/figure.png")
