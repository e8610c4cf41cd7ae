"""The entry that returns what both passes returned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.optim.problems import (
    RECIPES,
    assert_close,
    assert_equal,
    batch,
    loss,
    params,
    plain_loss,
)
from vasso_jax import optim


def loss_with_aux(w, i, x):
    value = loss(w, x)
    return value, {"scale": w["scale"], "part": i}


@pytest.mark.parametrize("recipe", RECIPES)
def test_values_and_aux_are_those_of_the_two_points(recipe):
    tx, w, x = RECIPES[recipe](optax.sgd(0.1)), params(), batch()
    passes, updates, _ = jax.jit(optim.value_and_update(loss_with_aux, tx, has_aux=True))(
        w, tx.init(w), x
    )
    assert passes.clean.taken
    assert passes.perturbed.taken
    np.testing.assert_allclose(passes.clean.value, loss(w, x), rtol=1e-6)
    assert passes.clean.aux["scale"] == w["scale"]
    # eps from the other convention: the point where grad_fn is called.
    points = []

    def grad_fn(p, i):
        points.append(p)
        return jax.grad(loss)(p, x)

    expected, _ = tx.update(jax.grad(loss)(w, x), tx.init(w), w, grad_fn=grad_fn)
    if recipe != "looksam":  # whose perturbed pass is inside a conditional
        np.testing.assert_allclose(passes.perturbed.value, loss(points[0], x), rtol=1e-5)
        np.testing.assert_allclose(passes.perturbed.aux["scale"], points[0]["scale"], rtol=1e-6)
    assert_close(updates, expected, rtol=1e-5, atol=1e-6)


def test_a_plain_optimizer_has_a_clean_pass_only():
    tx, w = optax.adam(0.1), params()
    passes, updates, _ = optim.value_and_update(loss_with_aux, tx, has_aux=True)(
        w, tx.init(w), batch()
    )
    expected, _ = tx.update(jax.grad(loss)(w, batch()), tx.init(w), w)
    assert_close(updates, expected, rtol=1e-6)
    assert passes.clean.taken
    assert not passes.perturbed.taken
    assert jax.tree.structure(passes.clean) == jax.tree.structure(passes.perturbed)


@pytest.mark.slow
def test_which_passes_were_taken():
    def taken(tx):
        w = params()
        state, jitted = tx.init(w), jax.jit(optim.value_and_update(loss_with_aux, tx, True))
        for _ in range(4):
            passes, _, state = jitted(w, state, batch())
            yield bool(passes.clean.taken), bool(passes.perturbed.taken)
            assert jnp.isnan(passes.clean.value) != passes.clean.taken
            kept = passes.clean.aux_or({"scale": jnp.array(7.0), "part": 1})
            assert kept["scale"] == (w["scale"] if passes.clean.taken else 7)

    refreshed = list(taken(optim.vasso(optax.sgd(0.1), refresh_every=3)))
    assert refreshed == [(True, True), (False, True), (False, True), (True, True)]
    looked = list(taken(optim.looksam(optax.sgd(0.1), look_every=3)))
    assert looked == [(True, True), (True, False), (True, False), (True, True)]


@pytest.mark.slow
def test_microbatches_give_the_mean_value_and_stacked_aux():
    w, x = params(), batch()

    def part_loss(w, i, x):
        part = x.reshape(4, 4, 8)[i]
        return loss(w, part), part.sum()

    tx = optim.vasso(optax.sgd(0.1), microbatches=4)
    passes, _, _ = optim.value_and_update(part_loss, tx, has_aux=True)(w, tx.init(w), x)
    np.testing.assert_allclose(passes.clean.value, loss(w, x), rtol=1e-5)
    np.testing.assert_allclose(passes.clean.aux, x.reshape(4, -1).sum(1), rtol=1e-4, atol=1e-5)
    assert passes.perturbed.aux.shape == (4,)


def test_batchnorm_statistics_from_both_passes_in_turn():
    """The formula of the docstring is what two passes one after the other do."""
    m, old, x = 0.1, jnp.array(0.5), jnp.array([1.0, 2.0])

    def moved(running, w):
        return (1 - m) * running + m * (w * x).mean()

    def loss_fn(w, i):
        return jnp.sum((w * x - 1) ** 2), moved(old, w)

    tx = optim.sam(optax.sgd(0.1), 0.3)
    w = jnp.array(2.0)
    passes, _, _ = optim.value_and_update(loss_fn, tx, has_aux=True)(w, tx.init(w))
    clean, perturbed = passes.clean.aux, passes.perturbed.aux
    in_turn = perturbed + (1 - m) * (clean - old)
    np.testing.assert_allclose(in_turn, moved(moved(old, w), w + 0.3), rtol=1e-6)


def test_a_base_that_needs_the_value_gets_it():
    tx, w = optim.sam(optax.polyak_sgd(0.1), 0.1), params()
    passes, updates, _ = optim.value_and_update(plain_loss, tx)(w, tx.init(w), batch())
    expected, _ = tx.update(
        jax.grad(loss)(w, batch()),
        tx.init(w),
        w,
        grad_fn=lambda p, i: jax.grad(loss)(p, batch()),
        value=passes.clean.value,
    )
    assert_close(updates, expected, rtol=1e-5)


@pytest.mark.parametrize(("tx", "evaluations"), [(optim.sam(optax.sgd(0.1)), 2), (optax.sgd(1), 1)])
def test_the_loss_is_traced_once_for_each_pass(tx, evaluations):
    calls, w = [], params()

    def counted(w, i, x):
        calls.append(i)
        return loss(w, x)

    jax.jit(optim.value_and_update(counted, tx)).lower(w, tx.init(w), batch())
    assert len(calls) == evaluations


def test_results_are_returned_and_nothing_is_changed():
    seen = []

    def look(updates, state, params=None, *, grad_fn, **extra_args):
        seen.append((grad_fn, dict(vars(grad_fn))))
        return updates, state

    spy = optax.GradientTransformationExtraArgs(lambda w: optax.EmptyState(), look)
    tx, w = optax.chain(spy, optim.vasso(optax.sgd(0.1))), params()
    state = tx.init(w)
    one = optim.value_and_update(plain_loss, tx)
    passes, _, _ = one(w, state, batch())
    assert passes.perturbed.taken
    for grad_fn, attributes in seen:
        assert vars(grad_fn) == attributes
    with pytest.raises(dataclasses.FrozenInstanceError):
        seen[-1][0].clean = None
    again, _, _ = one(w, state, batch())
    assert_equal(passes, again)


@pytest.mark.slow
def test_one_function_serves_several_shapes_and_traces():
    tx, w = optim.vasso(optax.sgd(0.1), 0.1, 0.4, refresh_every=2), params()
    state, one = tx.init(w), optim.value_and_update(plain_loss, tx)
    jitted = jax.jit(one)
    for x in (batch(), batch()[:4], batch()):
        passes, updates, new_state = jitted(w, state, x)
        np.testing.assert_allclose(passes.clean.value, loss(w, x), rtol=1e-6)
    assert_close((updates, new_state), one(w, state, x)[1:], rtol=1e-4, atol=1e-6)
    with jax.disable_jit():
        assert_close(one(w, state, x)[1:], (updates, new_state), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_vmapped_step():
    tx, w = optim.vasso(optax.sgd(0.1), 0.1, 0.4, refresh_every=2), params()
    state, xs = tx.init(w), jnp.stack([batch(0), batch(1)])
    one = optim.value_and_update(plain_loss, tx)
    many = jax.jit(jax.vmap(one, in_axes=(None, None, 0)))(w, state, xs)
    for i in range(2):
        single = one(w, state, xs[i])
        assert_close(jax.tree.map(lambda y, i=i: y[i], many), single, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint])
def test_a_step_is_differentiated(wrap):
    # The gradient of the loss after a step, with respect to the batch that the step was taken on.
    tx, w = optim.vasso(optax.sgd(0.1), 0.1, 0.4), params()
    state, other = tx.init(w), batch(1)

    @wrap
    def after(x):
        _, updates, _ = optim.value_and_update(plain_loss, tx)(w, state, x)
        return loss(optax.apply_updates(w, updates), other)

    x, direction = batch(), jnp.ones_like(batch())
    slope = jnp.vdot(jax.jit(jax.grad(after))(x), direction)
    ahead, behind = (after(x + h * direction) for h in (1e-2, -1e-2))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-2, rtol=1e-2)


def test_a_step_inside_the_loss_of_another():
    inner, outer = optim.sam(optax.sgd(0.1), 0.1), optim.vasso(optax.sgd(0.1), 0.1, 0.4)

    def meta_loss(w, i, x):
        passes, updates, _ = optim.value_and_update(plain_loss, inner)(w, inner.init(w), x)
        return loss(optax.apply_updates(w, updates), x), passes

    w = params()
    one = jax.jit(optim.value_and_update(meta_loss, outer, has_aux=True))
    passes, updates, _ = one(w, outer.init(w), batch())
    np.testing.assert_allclose(passes.clean.aux.clean.value, loss(w, batch()), rtol=1e-6)
    assert passes.clean.aux.perturbed.taken
    moved = optax.apply_updates(w, updates)
    assert meta_loss(moved, 0, batch())[0] < meta_loss(w, 0, batch())[0]


USERS_ERROR = RuntimeError("mine")


def raising(*args, **kwargs):
    raise USERS_ERROR


@pytest.mark.parametrize("wrap", [lambda tx: tx, lambda tx: optax.masked(tx, True)])
@pytest.mark.parametrize(
    ("loss_fn", "base"),
    [
        (raising, optax.sgd(0.1)),
        (plain_loss, optax.GradientTransformation(lambda w: optax.EmptyState(), raising)),
    ],
    ids=["loss", "base"],
)
def test_errors_of_the_user_surface_unchanged(wrap, loss_fn, base):
    tx, w = wrap(optim.vasso(base)), params()
    one = optim.value_and_update(loss_fn, tx)
    for step_fn in (one, jax.jit(one)):
        with pytest.raises(RuntimeError, match="mine") as error:
            step_fn(w, tx.init(w), batch())
        assert error.value is USERS_ERROR


def test_aux_of_other_shapes_cannot_be_carried_on():
    w = jnp.ones(3)
    tx = optim.sam(optax.sgd(0.1), microbatches=2)
    passes, _, _ = optim.value_and_update(lambda w, i: (w.sum(), w), tx, True)(w, tx.init(w))
    with pytest.raises(ValueError, match="average aux over its leading axis first"):
        passes.clean.aux_or(w)
    assert passes.clean.aux_or(jnp.zeros((2, 3))).shape == (2, 3)


@pytest.mark.weekly
@pytest.mark.parametrize("recipe", RECIPES)
def test_complex_parameters_descend(recipe):
    def loss_fn(w, i):
        return jnp.sum(jnp.abs(w - (2 - 1j)) ** 2)

    tx, w = RECIPES[recipe](optax.sgd(0.1)), jnp.array([1 + 1j, -1 + 0j])
    first, state = loss_fn(w, 0), tx.init(w)
    one = jax.jit(optim.value_and_update(loss_fn, tx))
    for _ in range(20):
        _, updates, state = one(w, state)
        w = optax.apply_updates(w, updates)
    assert w.dtype == jnp.complex64
    assert loss_fn(w, 0) < 0.1 * first


@pytest.mark.slow
def test_a_line_search_of_optax_gets_what_it_needs():
    tx, w = optax.lbfgs(), params()
    one, state = jax.jit(optim.value_and_update(plain_loss, tx)), tx.init(w)
    for _ in range(3):
        _, updates, state = one(w, state, batch())
        w = optax.apply_updates(w, updates)
    assert loss(w, batch()) < loss(params(), batch())
