"""The composed optimizers: what is evaluated where, in which order, and what refuses bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.optim.problems import jit_counting
from vasso_jax.optim import l2_ball, matrices, sam, sharpness_aware, value_and_update, vasso

CURVATURE = jnp.array([1.0, 4.0])


def grad_fn(w, i=0):
    """Gradient of a quadratic, half the sum of CURVATURE * w**2."""
    del i
    return CURVATURE * w


def quadratic(w, i):
    """The loss that it is the gradient of."""
    return 0.5 * jnp.sum(CURVATURE * w**2)


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
        passes, updates, _ = value_and_update(quadratic, tx)(w, tx.init(w))
        np.testing.assert_array_equal(updates, 0)
        assert passes.perturbation_norm == passes.cosine == 0


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
    step, traces = jit_counting(lambda g, s, w: tx.update(g, s, w, grad_fn=grad_fn))
    w = jnp.array([3.0, 1.0])
    state = tx.init(w)
    for _ in range(3):
        _, new_state = step(grad_fn(w), state, w)
        assert jax.tree.map(jnp.shape, new_state) == jax.tree.map(jnp.shape, state)
        state = new_state
    assert len(traces) == 1


def test_hyperparameters_can_be_injected():
    factory = optax.inject_hyperparams(
        lambda lr, rho, theta: vasso(optax.sgd(lr), rho=rho, theta=theta)
    )
    tx = factory(lr=0.1, rho=0.5, theta=0.25)
    w = jnp.array([3.0, 1.0])
    state = tx.init(w)
    state.hyperparams["rho"] = jnp.array(0.25)
    passes, _, _ = jax.jit(value_and_update(quadratic, tx))(w, state)
    np.testing.assert_allclose(passes.perturbation_norm, 0.25, rtol=1e-5)


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
    passes, _, _ = value_and_update(lambda w, i: jnp.sum(w * w), tx)(w, tx.init(w))
    assert passes.perturbation_norm == 0


def test_a_grad_fn_that_returns_the_loss_too_is_refused():
    tx, w = vasso(optax.sgd(0.1)), jnp.ones(2)
    with pytest.raises(ValueError, match=r"use jax\.grad, not jax\.value_and_grad"):
        tx.update(w, tx.init(w), w, grad_fn=jax.value_and_grad(lambda w, i: jnp.sum(w)))


def test_a_direction_is_renewed_at_the_step_after_a_nan():
    tx, w = vasso(optax.sgd(0.1), 0.1, refresh_every=5), jnp.ones(2)
    state, norms = tx.init(w), []
    one = value_and_update(lambda w, i, scale: jnp.sum(scale * w * w), tx)
    for t in range(7):
        passes, _, state = one(w, state, jnp.nan if t == 0 else 1.0)
        norms.append(float(passes.perturbation_norm))
        count = optax.tree.get(state, "direction")
        assert jnp.all(jnp.isfinite(count))
    np.testing.assert_allclose(norms, [0] + [0.1] * 6, rtol=1e-5)


def test_reuse_without_a_memory_is_refused():
    gradient = sharpness_aware(l2_ball(0.1), refresh_every=2)
    with pytest.raises(ValueError, match="needs a perturbation that remembers"):
        gradient.init(jnp.ones(2))
    with pytest.raises(ValueError, match="refresh_every cannot be combined with descent"):
        sharpness_aware(l2_ball(0.1), refresh_every=2, descent=lambda clean, perturbed: clean)


def test_a_mask_leaves_parameters_where_they_are():
    points = []
    tx = sam(optax.sgd(0.1), 0.5, mask=lambda w: {"a": True, "b": False})
    w = {"a": jnp.array([3.0, 4.0]), "b": jnp.array([7.0])}
    tx.update(w, tx.init(w), w, grad_fn=lambda p, i: points.append(p) or p)
    np.testing.assert_allclose(points[0]["a"], [3.3, 4.4], rtol=1e-6)
    np.testing.assert_array_equal(points[0]["b"], w["b"])


@pytest.mark.slow
def test_matrices_leave_out_what_has_one_axis_at_most():
    w = {
        "kernel": jnp.ones((3, 3, 2, 4)),
        "dense": jnp.ones((2, 4)),
        "bias": jnp.ones(4),
        "scale": jnp.ones(()),
        "none": None,
    }
    wanted = {"kernel": True, "dense": True, "bias": False, "scale": False, "none": None}
    assert matrices(w) == wanted
    assert matrices(optax.MaskedNode()) == optax.MaskedNode()
    points = []
    tx = vasso(optax.sgd(0.1), 0.5, mask=matrices)
    tx.update(w, tx.init(w), w, grad_fn=lambda p, i: points.append(p) or p)
    for name in ("kernel", "dense"):
        np.testing.assert_allclose(points[0][name] - 1, 0.5 / np.sqrt(80), rtol=1e-4)
    for name in ("bias", "scale"):
        np.testing.assert_array_equal(points[0][name], 1)


def test_masks_that_are_none_are_refused():
    w = {"a": jnp.ones(2), "b": jnp.ones(2)}
    for mask in ({"a": True}, lambda w: "a", {"a": 1.0, "b": 0.0}):
        tx = sam(optax.sgd(0.1), mask=mask)
        with pytest.raises(ValueError, match="a mask must be a pytree of bools"):
            tx.update(w, tx.init(w), w, grad_fn=lambda p, i: p)
    # optax takes any function for a schedule of a number.
    injected = optax.inject_hyperparams(sam)(
        optax.sgd(0.1), mask=lambda w: jax.tree.map(lambda p: jnp.ndim(p) > 1, w)
    )
    with pytest.raises(ValueError, match=r"static_args=\('mask',\)"):
        injected.init(w)
