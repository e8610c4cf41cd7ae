"""From config fields to a run's parts, for what the other tests of the trainer do not reach."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import digits_vasso
from vasso_jax.train.experiment import build, create_optimizer
from vasso_jax.train.optimizer import OPTIMIZERS


def config(**fields):
    config = digits_vasso.get_config()
    config.update(fields)
    return config


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_makes_a_train_step(optimizer):
    experiment = build(config(optimizer=optimizer, rho=None, theta=None))
    arguments = next(experiment.feed.training(0))
    after = jax.eval_shape(experiment.train_step, experiment.abstract_state, *arguments)
    expected = experiment.abstract_state
    assert jax.tree.structure(after) == jax.tree.structure(expected)
    for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(expected), strict=True):
        assert (new.shape, new.dtype) == (old.shape, old.dtype)


def run(steps, learning_rate=0.1, **fields):
    """The optimizer state after steps on a matrix and a vector."""
    tx, _ = create_optimizer(config(**fields), learning_rate)
    w = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    state = tx.init(w)
    for t in range(steps):
        grads = jax.tree.map(lambda x, t=t: x * (t + 1), w)
        _, state = tx.update(grads, state, w, grad_fn=lambda p, i: p)
    return state


def test_refresh_and_dtype_reach_the_optimizer():
    state = run(2, theta=1.0, refresh_every=2, accumulator_dtype="bfloat16")
    direction = optax.tree.get(state, "direction")
    assert direction["bias"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(direction["bias"].astype(jnp.float32), 1)


def test_vectors_can_be_left_unperturbed():
    points = []
    for perturbed in (True, False):
        tx, _ = create_optimizer(config(rho=0.1, perturb_vectors=perturbed), 0.1)
        w = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
        tx.update(w, tx.init(w), w, grad_fn=lambda p, i: points.append(p) or p)
    assert np.all(points[0]["bias"] > 1)
    np.testing.assert_array_equal(points[1]["bias"], 1)
    np.testing.assert_allclose(points[1]["kernel"], 1 + 0.1 / 2, rtol=1e-6)


def test_rho_follows_the_learning_rate():
    schedule = optax.linear_schedule(0.05, 0.0, 4)
    for steps, rho in ((1, 0.1), (2, 0.08), (5, 0.02)):
        state = run(steps, schedule, lr=0.05, final_lr=0.0, rho=0.1, rho_min=0.02)
        np.testing.assert_allclose(optax.tree.get(state, "perturbation_norm"), rho, rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"refresh_every": 12}, "refresh_every=12 exceeds the 11 steps of an epoch"),
        ({"refresh_every": 0}, "refresh_every must be an integer >= 1"),
        ({"optimizer": "ssam", "density": 2.0}, "density must be a number in"),
        ({"optimizer": "ssam", "choice": "best"}, "choice must be 'fisher' or 'random'"),
        ({"accumulator_dtype": "bfloat61"}, "Did you mean bfloat16"),
        ({"batch_stats": "clear"}, "Did you mean clean"),
        ({"rho_min": -0.1}, "rho_min must be a number >= 0"),
        ({"rho_min": 0.5}, "rho_max must be a number >= 0.5"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        build(config(**fields))
