"""Parameters, masks, numbers and functions of all the kinds that other code hands over."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

from tests.optim.problems import (
    assert_close,
    assert_equal,
    batch,
    descends,
    loss,
    params,
    plain_loss,
    run,
    without_none,
)
from vasso_jax import optim


def test_flax_train_state():
    w, x, tx = without_none(), batch(), optim.vasso(optax.sgd(0.1), 0.1, 0.4)
    state = TrainState.create(apply_fn=None, params=w, tx=tx)
    grads = jax.grad(loss)(w, x)
    with pytest.raises(ValueError, match=r"call state\.tx\.update\(\.\.\.\) yourself"):
        state.apply_gradients(grads=grads, grad_fn=lambda p, i: jax.grad(loss)(p, x))
    _, updates, opt_state = optim.value_and_update(plain_loss, state.tx)(
        state.params, state.opt_state, x
    )
    moved = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        opt_state=opt_state,
    )
    assert_close(moved.params, run(tx, w, steps=1), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_nnx_optimizer():
    model, x = nnx.Linear(8, 3, rngs=nnx.Rngs(0)), batch()
    graph, params = nnx.split(model)

    def grad_fn(params, i):
        return jax.grad(lambda p: jnp.mean((nnx.merge(graph, p)(x) - 1) ** 2))(params)

    tx = optim.vasso(optax.sgd(0.1), 0.1, 0.4)
    updates, _ = tx.update(grad_fn(params, 0), tx.init(params), params, grad_fn=grad_fn)
    expected = optax.apply_updates(params, updates)
    for grads in (grad_fn(params, 0), None):  # with None the optimizer asks
        moved = nnx.merge(graph, params, copy=True)
        nnx.Optimizer(moved, tx, wrt=nnx.Param).update(moved, grads, grad_fn=grad_fn)
        assert_close(nnx.state(moved), expected, rtol=1e-5, atol=1e-6)


def test_a_gradient_of_another_dtype_passes_a_window():
    tx, w = optim.sam(optax.sgd(0.1), active=(2, None)), jnp.array([3.0, 4.0])
    updates, _ = tx.update(w.astype(jnp.bfloat16), tx.init(w), w, grad_fn=lambda p, i: p)
    assert updates.dtype == jnp.float32


def test_a_gradient_of_another_structure_is_one_message():
    tx, w = optim.sam(optax.sgd(0.1)), {"a": jnp.ones(2)}
    with pytest.raises(ValueError, match="the gradient must have the structure of the parameters"):
        tx.update({"b": jnp.ones(2)}, tx.init(w), w, grad_fn=lambda p, i: p)
    with pytest.raises(ValueError, match="the gradient must have the shapes of the parameters"):
        tx.update({"a": jnp.ones(())}, tx.init(w), w, grad_fn=lambda p, i: p)


def test_a_loss_and_a_grad_fn_without_an_index():
    tx, w, x = optim.vasso(optax.sgd(0.1), 0.1, 0.4), params(), batch()
    expected = optim.value_and_update(plain_loss, tx)(w, tx.init(w), x)
    assert_close(
        optim.value_and_update(lambda w, x: loss(w, x), tx)(w, tx.init(w), x), expected, rtol=1e-6
    )
    grads = jax.grad(loss)(w, x)
    updates, _ = tx.update(grads, tx.init(w), w, grad_fn=lambda p: jax.grad(loss)(p, x))
    assert_close(updates, expected[1], rtol=1e-5, atol=1e-7)


def test_where_the_signature_does_not_tell_an_error_gets_a_note():
    tx, w = optim.sam(optax.sgd(0.1)), params()

    def ambiguous(w, x, scale=1.0):
        return scale * loss(w, x)

    with pytest.raises(AttributeError, match="'int' object") as error:
        optim.value_and_update(ambiguous, tx)(w, tx.init(w), batch())
    assert any("called as loss_fn(params, i, ...)" in note for note in error.value.__notes__)


def test_microbatches_need_the_index():
    tx, w = optim.sam(optax.sgd(0.1), microbatches=2), params()
    with pytest.raises(ValueError, match=r"loss_fn.* must take i, the index of the microbatch"):
        optim.value_and_update(lambda w: loss(w, batch()), tx)(w, tx.init(w))
    with pytest.raises(ValueError, match=r"grad_fn.* must take i, the index of the microbatch"):
        tx.update(w, tx.init(w), w, grad_fn=lambda p: p)


class Pair(eqx.Module):
    """A module that is callable, as most are, and may hold bools in the place of its arrays."""

    a: object
    b: object

    def __call__(self, x):
        return self.a * x + self.b


def test_a_callable_pytree_of_bools_is_a_mask():
    w = Pair(jnp.array([3.0, 4.0]), jnp.array([7.0]))
    for mask in (Pair(True, False), Pair(np.True_, np.False_), lambda w: Pair(True, False)):
        points = []
        tx = optim.sam(optax.sgd(0.1), 0.5, mask=mask)
        tx.update(w, tx.init(w), w, grad_fn=lambda p, i, points=points: points.append(p) or p)
        np.testing.assert_allclose(points[0].a, [3.3, 4.4], rtol=1e-6)
        assert_equal(points[0].b, w.b)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rho", [1, np.float32(1), np.float64(1), np.int64(1), np.array(1.0), jnp.array(1.0)]
)
def test_numbers_of_any_kind(rho):
    passes = descends(optim.vasso(optax.sgd(0.01), rho, theta=rho), steps=1)
    np.testing.assert_allclose(passes.perturbation_norm, 1, rtol=1e-5)


@pytest.mark.parametrize("rho", [-1, np.float32(-1), np.array(-1.0), np.nan, np.ones(2), True, "1"])
def test_what_is_no_such_number_is_refused(rho):
    with pytest.raises(ValueError, match=r"rho must be a number >= 0\.0"):
        optim.sam(optax.sgd(0.1), rho)


@pytest.mark.slow
def test_python_floats_as_parameters():
    def loss_fn(w, i):
        return (w["a"] - 3.0) ** 2 + (w["b"] + 1.0) ** 2

    for tx in (
        optim.vasso(optax.sgd(0.1), 0.1, 0.4),
        optim.asam(optax.sgd(0.1), 0.1),
        optim.ssam(optax.sgd(0.1), 0.1),
        optim.looksam(optax.sgd(0.1), 0.1),
        optim.gsam(optax.sgd(0.1), 0.1, microbatches=2),
        optim.momentum_sam(optax.sgd(0.1, 0.9), 0.1),
        optim.preconditioned_sam(optax.sgd(0.1)),
    ):
        w = {"a": 1.0, "b": 2.0}
        arrays = jax.tree.map(jnp.asarray, w)
        one = optim.value_and_update(loss_fn, tx)
        assert_close(one(w, tx.init(w))[1], one(arrays, tx.init(arrays))[1], rtol=1e-6)


@pytest.mark.slow
def test_integers_among_the_parameters_stay_as_they_are():
    w, x = {"w": jnp.ones(3), "steps": jnp.arange(2)}, 5 + jnp.arange(3.0)

    def grad_fn(w, i=0):
        return jax.grad(lambda w: jnp.sum((w["w"] - x) ** 2), allow_int=True)(w)

    assert grad_fn(w)["steps"].dtype == jax.dtypes.float0
    for tx in (optim.vasso(optax.adam(0.1), 0.1, 0.4), optim.gsam(optax.sgd(0.1), 0.1)):
        updates, _ = tx.update(grad_fn(w), tx.init(w), w, grad_fn=grad_fn)
        moved = optax.apply_updates(w, updates)
        assert_equal(moved["steps"], w["steps"])
        assert jnp.all(moved["w"] != w["w"])


def frozen_points(tx, w):
    points = []
    grads = jax.tree.map(jnp.ones_like, w)
    updates, _ = tx.update(
        grads,
        tx.init(w),
        w,
        grad_fn=lambda p, i: points.append(p) or jax.tree.map(jnp.ones_like, p),
    )
    return points[0], updates


def test_frozen_leaves():
    w, frozen = {"a": jnp.ones(4), "b": jnp.ones(4)}, {"a": False, "b": True}
    mask = {"a": True, "b": False}
    # A mask leaves them out of eps and of the norm; optax.freeze alone only stops the update.
    point, updates = frozen_points(
        optax.chain(optim.sam(optax.sgd(0.1), 0.2, mask=mask), optax.freeze(frozen)), w
    )
    np.testing.assert_allclose(point["a"], 1.1, rtol=1e-6)
    assert_equal(point["b"], w["b"])
    assert_equal(updates["b"], jnp.zeros(4))
    point, _ = frozen_points(optax.chain(optim.sam(optax.sgd(0.1), 0.2), optax.freeze(frozen)), w)
    assert jnp.all(point["b"] > 1)
    # In a partition, each optimizer has its own parameters only.
    tx = optax.partition(
        {"train": optim.sam(optax.sgd(0.1), 0.2), "frozen": optax.set_to_zero()},
        {"a": "train", "b": "frozen"},
    )
    point, updates = frozen_points(tx, w)
    np.testing.assert_allclose(point["a"], 1.1, rtol=1e-6)
    assert_equal(updates["b"], jnp.zeros(4))
