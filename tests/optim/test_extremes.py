"""Gradients of any size, derivatives through a step, and mapped hyperparameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.optim.problems import assert_close, assert_equal, batch, loss, params, run
from vasso_jax import optim
from vasso_jax.optim._numerics import global_norm


@pytest.mark.parametrize("size", [1e-10, 1e-3, 1e19, 1e25])
def test_gradients_of_any_size(size):
    d = size * jnp.array([3.0, -4.0])
    ball = optim.l2_ball(0.5)
    eps, _ = jax.jit(ball.update)(d, ball.init(d))
    length = 5 * size / (5 * size + 1e-7)
    np.testing.assert_allclose(eps, jnp.array([0.3, -0.4]) * length, rtol=1e-5)
    for tx in (
        optim.vasso(optax.sgd(0.1), 0.5, 0.4),
        optim.gsam(optax.sgd(0.1), 0.5),
        optim.looksam(optax.sgd(0.1), 0.5),
    ):
        # As an argument: XLA folds a constant gradient into the sums, and then they do overflow.
        one = jax.jit(optim.value_and_update(lambda w, i, d: jnp.vdot(w, d), tx))
        passes, updates, _ = one(jnp.zeros(2), tx.init(jnp.zeros(2)), d)
        np.testing.assert_allclose(updates, -0.1 * d, rtol=1e-5)
        np.testing.assert_allclose(passes.cosine, 1, rtol=1e-4)


def test_what_is_not_finite_is_found_at_any_size():
    tx, w = optim.vasso(optax.sgd(0.1), 0.5, 0.4), jnp.zeros(2)
    for bad in (jnp.inf, -jnp.inf, jnp.nan):
        _, state = tx.update(jnp.array([bad, 1.0]), tx.init(w), w, grad_fn=lambda p, i: p)
        assert_equal(optax.tree.get(state, "direction"), w)
    big = jnp.array([1e25, -3e25])
    _, state = tx.update(big, tx.init(w), w, grad_fn=lambda p, i: p)
    assert_equal(optax.tree.get(state, "direction"), big)


@pytest.mark.slow
@pytest.mark.parametrize(
    "tx",
    [
        optim.sam(optax.sgd(0.1), 0.1),
        optim.vasso(optax.sgd(0.1), 0.1, 0.4),
        optim.asam(optax.sgd(0.1), 0.1),
        optim.gsam(optax.sgd(0.1), 0.1),
        optim.looksam(optax.sgd(0.1), 0.1),
        optim.lesam(optax.sgd(0.1), 0.1),
    ],
    ids=["sam", "vasso", "asam", "gsam", "looksam", "lesam"],
)
def test_the_derivative_through_a_step_is_finite_where_the_gradient_vanishes(tx):
    def after(scale):
        w = jnp.zeros(3)
        _, updates, _ = optim.value_and_update(lambda w, i: scale * jnp.sum(w**2), tx)(
            w, tx.init(w)
        )
        return jnp.sum((optax.apply_updates(w, updates) - 1) ** 2)

    assert jnp.isfinite(jax.jit(jax.grad(after))(2.0))


@pytest.mark.slow
def test_vmap_over_hyperparameters():
    def one(rho, theta):
        return run(optim.vasso(optax.sgd(0.1), rho, theta), params(), steps=3)

    rhos, thetas = jnp.array([0.0, 0.1, 0.5]), jnp.array([1.0, 0.4, 0.2])
    many = jax.vmap(one)(rhos, thetas)
    for i in range(3):
        single = one(float(rhos[i]), float(thetas[i]))
        assert_close(jax.tree.map(lambda x, i=i: x[i], many), single, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_under_pmap():
    tx, w = optim.vasso(optax.sgd(0.1), 0.1, 0.4), params()
    del w["empty"], w["none"]
    x = jnp.stack([batch(i) for i in range(2)])

    def one(w, state, x):
        def grad_fn(p, i):
            return jax.lax.pmean(jax.grad(loss)(p, x), "devices")

        updates, _ = tx.update(grad_fn(w, 0), state, w, grad_fn=grad_fn)
        return optax.apply_updates(w, updates)

    moved = jax.pmap(one, "devices", in_axes=(None, None, 0), devices=jax.devices()[:2])(
        w, tx.init(w), x
    )
    _, updates, _ = optim.value_and_update(lambda w, i: (loss(w, x[0]) + loss(w, x[1])) / 2, tx)(
        w, tx.init(w)
    )
    expected = optax.apply_updates(w, updates)
    for i in range(2):
        assert_close(jax.tree.map(lambda a, i=i: a[i], moved), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mapped", [False, True])
def test_the_norm_of_large_arrays_of_any_rank(mapped):
    """Beyond 4,096 numbers an array is summed in part before it is joined with the others."""
    shapes = [(5000,), (5000, 2), (2, 5000), (3, 3, 32, 64), (2, 8, 8, 8, 8), (64, 65), (7,), ()]
    rng = np.random.default_rng(0)
    tree = [rng.normal(size=(2, *shape)).astype(np.float32) for shape in shapes]
    expected = [np.sqrt(sum(np.sum(np.float64(x[i]) ** 2) for x in tree)) for i in range(2)]
    of_each = jax.jit(
        jax.vmap(global_norm)
        if mapped
        else lambda t: jnp.stack([global_norm([x[i] for x in t]) for i in range(2)])
    )
    np.testing.assert_allclose(of_each(tree), expected, rtol=1e-6)
