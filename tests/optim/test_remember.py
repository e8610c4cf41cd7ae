"""Directions that remember: ours, any transform made into one, and the user's own."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.optim.problems import assert_close, assert_equal, batch, loss, params
from vasso_jax import optim


class OwnState(NamedTuple):
    """Has what `RemembersDirection` asks for, and nothing of the package."""

    seen: jax.Array
    direction: Any


def own_average(theta):
    """VaSSO's direction as a user would write it."""

    def init(w):
        return OwnState(jnp.array(False), jax.tree.map(jnp.zeros_like, w))

    def update(g, state, w=None, *, fresh=True, **extra):
        weight = jnp.where(state.seen, theta, 1.0)
        moved = jax.tree.map(lambda d, g: (1 - weight) * d + weight * g, state.direction, g)
        d = jax.tree.map(lambda new, old: jnp.where(fresh, new, old), moved, state.direction)
        return d, OwnState(state.seen | fresh, d)

    return optax.GradientTransformationExtraArgs(init, update)


def run(direction, steps=5, refresh_every=2, ask=True):
    """Parameters after steps in which the optimizer asks, or is given what the loop has."""
    perturbation = optax.chain(direction, optim.l2_ball(0.1))
    gradient = optim.sharpness_aware(perturbation, refresh_every=refresh_every)
    tx, w = optax.chain(gradient, optax.sgd(0.1)), params()
    state = tx.init(w)

    @jax.jit
    def step(w, state, x):
        def grad_fn(w, i):
            return jax.grad(loss)(w, x)

        updates, state = tx.update(None if ask else grad_fn(w, 0), state, w, grad_fn=grad_fn)
        return optax.apply_updates(w, updates), state

    for t in range(steps):
        w, state = step(w, state, batch(t))
    return w, state


@pytest.mark.parametrize("ask", [True, False])
def test_a_direction_of_ones_own_is_recognised_by_what_it_offers(ask):
    assert isinstance(own_average(0.4).init(params()), optim.RemembersDirection)
    assert_close(
        run(own_average(0.4), ask=ask)[0],
        run(optim.suppress_variance(0.4), ask=ask)[0],
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("ask", [True, False])
def test_to_remember_the_gradient_is_an_average_that_forgets_at_once(ask):
    ours, _ = run(optim.remember(optax.identity()), ask=ask)
    theirs, _ = run(optim.suppress_variance(1.0), ask=ask)
    assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_any_transform_can_be_remembered():
    """An average of every second gradient, by hand, against optax.ema under refresh_every=2."""
    w, average = params(), None
    for t in range(5):
        gradient = jax.grad(loss)
        if t % 2 == 0:
            g = gradient(w, batch(t))
            average = (
                g if average is None else jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, average, g)
            )
        if t == 0:
            average = jax.tree.map(lambda g: 0.1 * g, average)  # starts at zero
        scale = 0.1 / (optax.tree.norm(average) + 1e-7)
        at = optax.apply_updates(w, optax.tree.scale(scale, average))
        w = jax.tree.map(lambda w, g: w - 0.1 * g, w, gradient(at, batch(t)))
    ours, state = run(optim.remember(optax.ema(0.9, debias=False)))
    assert_close(ours, w, rtol=1e-4, atol=1e-5)
    assert optax.tree.get(state, "ema") is not None


@pytest.mark.parametrize("direction", [optax.ema(0.9), optax.identity(), optim.friendly()])
def test_a_direction_without_memory_is_refused_and_the_message_shows_the_line(direction):
    perturbation = optax.chain(direction, optim.l2_ball(0.1))
    gradient = optim.sharpness_aware(perturbation, refresh_every=2)
    with pytest.raises(ValueError, match=r"remember\(optax.ema\(0.9\)\)"):
        gradient.init(params())
    perturbation = optax.chain(optim.remember(direction), optim.l2_ball(0.1))
    optim.sharpness_aware(perturbation, refresh_every=2).init(params())


def test_what_is_not_finite_or_not_fresh_changes_nothing():
    direction = optim.remember(optax.ema(0.5, debias=False))
    w = {"a": jnp.zeros(2)}
    d, state = direction.update({"a": jnp.array([2.0, 4.0])}, direction.init(w))
    np.testing.assert_allclose(d["a"], [1, 2])
    for g, fresh in (([jnp.nan, 0.0], True), ([jnp.inf, 0.0], True), ([8.0, 8.0], False)):
        again, kept = direction.update({"a": jnp.array(g)}, state, fresh=fresh)
        assert_equal(again, d)
        assert_equal(kept, state)
    d, _ = direction.update({"a": jnp.array([2.0, 4.0])}, state, fresh=True)
    np.testing.assert_allclose(d["a"], [1.5, 3])


def test_a_narrow_memory_holds_what_was_rounded():
    direction = optim.remember(optax.identity(), accumulator_dtype=jnp.bfloat16)
    w = jnp.zeros(1)
    d, state = direction.update(jnp.array([1.001]), direction.init(w))
    assert state.direction.dtype == jnp.bfloat16
    np.testing.assert_allclose(d, [1.001])
    d, _ = direction.update(jnp.array([5.0]), state, fresh=False)
    np.testing.assert_array_equal(d, jnp.array([1.001]).astype(jnp.bfloat16).astype(jnp.float32))


def test_wrong_arguments_are_refused():
    with pytest.raises(TypeError, match="direction must be an optax transform"):
        optim.remember(0.9)
    with pytest.raises(ValueError, match="accumulator_dtype must be a floating-point dtype"):
        optim.remember(optax.identity(), accumulator_dtype=jnp.int32)


def test_a_mask_of_matrices():
    w = params()
    mask = optim.matrices(w)
    assert mask == {"w": True, "b": False, "scale": False, "empty": True, "none": None}
    eps, _ = optim.l2_ball(0.1, mask=optim.matrices).update(w, optim.l2_ball(0.1).init(w))
    assert not eps["b"].any()
    np.testing.assert_allclose(optax.tree.norm(eps), 0.1, rtol=1e-5)
