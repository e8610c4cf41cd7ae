"""Directions and geometries against their equations, written out in NumPy."""

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vasso_jax.optim import l2_ball, suppress_variance

# XLA:CPU flushes subnormal numbers to zero.
finite = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
gradients = hnp.arrays(np.float32, (5, 3), elements=finite)


def run(transform, grads):
    """All updates of `transform` over a list of gradients, and its last state."""
    state = transform.init(grads[0])
    updates = []
    for g in grads:
        update, state = transform.update(g, state)
        updates.append(update)
    return updates, state


@settings(max_examples=30)
@given(gradients, st.floats(0, 1))
def test_average_starts_at_first_gradient_and_theta_weighs_the_new_one(grads, theta):
    directions, _ = run(suppress_variance(theta), [jnp.asarray(g) for g in grads])
    expected = grads[0].astype(np.float64)
    for g, d in zip(grads[1:], directions[1:], strict=True):
        expected = (1 - theta) * expected + theta * g
        np.testing.assert_allclose(d, expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(directions[0], grads[0])


def test_direction_after_two_orthogonal_gradients_is_the_authors():
    # A zero-initialised, bias-corrected average would point along [.625 .781].
    (_, d), _ = run(suppress_variance(0.2), [jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])])
    np.testing.assert_allclose(d / jnp.linalg.norm(d), [0.970, 0.243], atol=5e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_gradient_leaves_the_average_as_it_was(bad):
    transform = suppress_variance(0.5)
    good = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
    _, before = transform.update(good, transform.init(good))
    poisoned = {"a": jnp.array([1.0, bad]), "b": jnp.array(7.0)}
    d, after = transform.update(poisoned, before)
    for tree in (d, after.direction):
        np.testing.assert_array_equal(tree["a"], good["a"])
        np.testing.assert_array_equal(tree["b"], good["b"])
    assert after.count == before.count == 1


def test_a_non_finite_first_gradient_is_not_the_start():
    nan, one = jnp.array([jnp.nan]), jnp.array([1.0])
    (first, second), _ = run(suppress_variance(0.1), [nan, one])
    assert first == 0
    assert second == 1


def test_theta_may_be_a_schedule():
    schedule = optax.piecewise_constant_schedule(1.0, {2: 0.5})
    grads = [jnp.array([x]) for x in (1.0, 2.0, 4.0)]
    directions, _ = run(suppress_variance(schedule), grads)
    np.testing.assert_allclose(np.concatenate(directions), [1, 2, 3])


def test_rho_may_be_a_schedule():
    ball = l2_ball(optax.linear_schedule(0.0, 1.0, 2))
    updates, _ = run(ball, [jnp.array([2.0])] * 3)
    np.testing.assert_allclose(np.concatenate(updates), [0, 0.5, 1], rtol=1e-6)


@settings(max_examples=30)
@given(hnp.arrays(np.float32, 6, elements=finite), st.floats(0, 10))
def test_ball_takes_one_norm_over_all_leaves(d, rho):
    ball = l2_ball(rho)
    eps, _ = ball.update({"a": jnp.asarray(d[:4]), "b": jnp.asarray(d[4:])}, ball.init(None))
    expected = rho * d.astype(np.float64) / (np.linalg.norm(d.astype(np.float64)) + 1e-7)
    actual = np.concatenate([eps["a"], eps["b"]])
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_ball_never_makes_a_nan(size):
    ball = l2_ball(0.1)
    eps, _ = ball.update(jnp.full(3, size), ball.init(None))
    assert jnp.all(jnp.isfinite(eps))
    assert jnp.linalg.norm(eps) <= 0.1001


def test_norm_of_bfloat16_leaves_is_taken_in_float32():
    # In bfloat16 a running sum of ones would stop at 256.
    ball = l2_ball(1.0)
    eps, _ = ball.update(jnp.ones(10_000, jnp.bfloat16), ball.init(None))
    assert eps.dtype == jnp.bfloat16
    np.testing.assert_allclose(eps.astype(jnp.float32), 0.01, rtol=2**-8)


def test_the_average_of_bfloat16_gradients_keeps_moving():
    # In bfloat16 the average would stay at 1: its neighbour is 1 + 2**-7.
    transform = suppress_variance(0.001)
    state = transform.init(jnp.zeros(1, jnp.bfloat16))
    _, state = transform.update(jnp.ones(1, jnp.bfloat16), state)
    for _ in range(100):
        d, state = transform.update(jnp.full(1, 2, jnp.bfloat16), state)
    assert d.dtype == jnp.float32
    np.testing.assert_allclose(d, 2 - 0.999**100, rtol=1e-5)


def test_the_average_is_sharded_as_the_parameters_are():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    params = jax.device_put(jnp.zeros((8, 2)), sharding)
    transform = suppress_variance(0.5)
    state = transform.init(params)
    assert state.direction.sharding == sharding
    _, state = jax.jit(transform.update)(params, state)
    assert state.direction.sharding.is_equivalent_to(sharding, 2)


@pytest.mark.parametrize("theta", [-0.1, 1.1, float("nan"), "0.5", None, True])
def test_theta_out_of_range_is_refused(theta):
    with pytest.raises(ValueError, match=r"theta must be a number in \[0.0, 1.0\]"):
        suppress_variance(theta)


@pytest.mark.parametrize("rho", [-0.1, float("nan"), float("inf"), "0.5", None])
def test_rho_out_of_range_is_refused(rho):
    with pytest.raises(ValueError, match=r"rho must be a number >= 0.0"):
        l2_ball(rho)
