"""The composed optimizers: what is evaluated where, in which order, and what refuses bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vasso_jax.optim import l2_ball, sam, sharpness_aware, vasso

CURVATURE = jnp.array([1.0, 4.0])


def grad_fn(w, i=0):
    """Gradient of a quadratic, half the sum of CURVATURE * w**2."""
    del i
    return CURVATURE * w


def test_two_steps_of_vasso_on_a_quadratic_by_hand():
    rho, theta, lr = 0.5, 0.25, 0.1
    tx = vasso(optax.sgd(lr), rho=rho, theta=theta)
    w = jnp.array([3.0, 1.0])
    state = tx.init(w)

    expected = np.array([3.0, 1.0])
    d = None
    for _ in range(2):
        g = np.asarray(CURVATURE) * expected
        d = g if d is None else (1 - theta) * d + theta * g
        expected = expected - lr * np.asarray(CURVATURE) * (expected + rho * d / np.linalg.norm(d))
        updates, state = tx.update(grad_fn(w), state, w, grad_fn=grad_fn)
        w = optax.apply_updates(w, updates)
        np.testing.assert_allclose(w, expected, rtol=1e-6)

    cosine = g @ d / (np.linalg.norm(g) * np.linalg.norm(d))
    np.testing.assert_allclose(optax.tree.get(state, "cosine"), cosine, rtol=1e-5)
    np.testing.assert_allclose(optax.tree.get(state, "perturbation_norm"), rho, rtol=1e-5)


def test_sam_takes_the_steps_of_optax_contrib_sam():
    ours = sam(optax.adam(0.1), rho=0.05)
    theirs = optax.contrib.sam(
        optax.adam(0.1), optax.chain(optax.contrib.normalize(), optax.sgd(0.05)), opaque_mode=True
    )
    trajectories = []
    for tx in (ours, theirs):
        w = jnp.array([3.0, 1.0])
        state = tx.init(w)
        for _ in range(5):
            updates, state = tx.update(grad_fn(w), state, w, grad_fn=grad_fn)
            w = optax.apply_updates(w, updates)
        trajectories.append(w)
    np.testing.assert_allclose(*trajectories, rtol=1e-5)


def test_a_zero_gradient_gives_a_zero_perturbation_and_no_nan():
    for tx in (sam(optax.sgd(0.1)), vasso(optax.sgd(0.1))):
        w = jnp.zeros(2)
        updates, state = tx.update(grad_fn(w), tx.init(w), w, grad_fn=grad_fn)
        np.testing.assert_array_equal(updates, 0)
        assert optax.tree.get(state, "perturbation_norm") == 0
        assert optax.tree.get(state, "cosine") == 0


def test_vasso_recovers_from_a_nan_gradient():
    tx = vasso(optax.sgd(0.1), rho=0.1, theta=0.5)
    w = jnp.array([1.0, 1.0])
    _, state = tx.update(grad_fn(w), tx.init(w), w, grad_fn=grad_fn)
    _, state = tx.update(w * jnp.nan, state, w, grad_fn=grad_fn)
    updates, _ = tx.update(grad_fn(w), state, w, grad_fn=grad_fn)
    assert jnp.all(jnp.isfinite(updates))


def test_clipping_after_it_bounds_the_applied_gradient():
    base = optax.chain(optax.clip_by_global_norm(0.01), optax.sgd(1.0))
    w = jnp.array([3.0, 1.0])
    tx = vasso(base, rho=0.5)
    updates, _ = tx.update(grad_fn(w), tx.init(w), w, grad_fn=grad_fn)
    np.testing.assert_allclose(jnp.linalg.norm(updates), 0.01, rtol=1e-5)


def test_weight_decay_of_the_base_acts_on_the_unperturbed_parameters():
    w = jnp.array([3.0, 1.0])
    updates = []
    for decay in (0.0, 0.5):
        tx = sam(optax.chain(optax.add_decayed_weights(decay), optax.sgd(1.0)), rho=0.5)
        updates.append(tx.update(grad_fn(w), tx.init(w), w, grad_fn=grad_fn)[0])
    np.testing.assert_allclose(updates[0] - updates[1], 0.5 * w, rtol=1e-5)


def test_one_compilation_and_stable_state():
    tx = vasso(optax.sgd(0.1, momentum=0.9))
    step = jax.jit(lambda g, s, w: tx.update(g, s, w, grad_fn=grad_fn))
    w = jnp.array([3.0, 1.0])
    state = tx.init(w)
    for _ in range(3):
        _, new_state = step(grad_fn(w), state, w)
        assert jax.tree.map(jnp.shape, new_state) == jax.tree.map(jnp.shape, state)
        state = new_state
    assert step._cache_size() == 1


def test_hyperparameters_can_be_injected():
    factory = optax.inject_hyperparams(
        lambda lr, rho, theta: vasso(optax.sgd(lr), rho=rho, theta=theta)
    )
    tx = factory(lr=0.1, rho=0.5, theta=0.25)
    w = jnp.array([3.0, 1.0])
    state = tx.init(w)
    state.hyperparams["rho"] = jnp.array(0.25)
    _, state = jax.jit(lambda g, s, w: tx.update(g, s, w, grad_fn=grad_fn))(grad_fn(w), state, w)
    np.testing.assert_allclose(optax.tree.get(state, "perturbation_norm"), 0.25, rtol=1e-5)


def test_missing_arguments_are_named():
    tx = sam(optax.sgd(0.1))
    w = jnp.ones(2)
    with pytest.raises(ValueError, match="needs grad_fn"):
        tx.update(w, tx.init(w), w)
    with pytest.raises(ValueError, match="needs params"):
        tx.update(w, tx.init(w), grad_fn=grad_fn)


def test_what_is_no_transform_is_refused():
    with pytest.raises(TypeError, match=r"base must be an optax transform.*0\.1"):
        vasso(0.1)
    with pytest.raises(TypeError, match="perturbation must be an optax transform"):
        sharpness_aware(0.1)


def test_the_perturbation_of_bfloat16_parameters_is_reported_as_realised():
    # Steps of bfloat16 near 1 are 2**-8, so most coordinates do not move at all.
    tx = optax.chain(sharpness_aware(l2_ball(0.01)), optax.sgd(0.1))
    w = jnp.ones(100, jnp.bfloat16)
    _, state = tx.update(w, tx.init(w), w, grad_fn=lambda p, i: p)
    assert optax.tree.get(state, "perturbation_norm") == 0
