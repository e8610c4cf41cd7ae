"""The entry that returns what both passes returned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.optim.problems import RECIPES, assert_close, batch, loss, params, step
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


def plain_loss(w, i, x):
    return loss(w, x)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: optax.chain(tx, optax.scale(1.0)),
        lambda tx: optax.chain(optax.scale(1.0), tx),
        lambda tx: optax.named_chain(("only", tx)),
        lambda tx: optax.apply_if_finite(tx, 3),
        lambda tx: optax.MultiSteps(tx, 1),
        lambda tx: optax.masked(tx, True),
        lambda tx: optax.partition({"all": tx}, "all"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"refresh_every": 2}])
def test_wrappers_change_nothing_but_what_is_saved(wrap, options):
    tx, w = optim.vasso(optax.sgd(0.1), 0.1, 0.4, **options), params()
    wrapped = wrap(tx)
    state, wrapped_state = tx.init(w), wrapped.init(w)
    bare, around = w, w
    one = jax.jit(optim.value_and_update(plain_loss, wrapped))
    for t in range(3):
        bare, state = step(tx, bare, state, batch(t))
        passes, updates, wrapped_state = one(around, wrapped_state, batch(t))
        around = optax.apply_updates(around, updates)
        if not options:
            assert passes.clean.taken
    assert_close(around, bare, rtol=1e-5, atol=1e-6)


def test_what_precedes_it_in_a_chain_sees_the_clean_gradient():
    tx, w = optax.chain(optax.scale(-1.0), optim.sam(optax.sgd(0.1), 0.1)), params()
    _, updates, _ = optim.value_and_update(plain_loss, tx)(w, tx.init(w), batch())
    expected, _ = step(tx, w, tx.init(w), batch())
    assert_close(optax.apply_updates(w, updates), expected, rtol=1e-6)


def test_microbatches_inside_another_wrapper_are_refused():
    w = params()
    every = jax.tree.map(lambda leaf: True, w)
    tx = optax.masked(optim.sam(optax.sgd(0.1), microbatches=2), every)
    with pytest.raises(ValueError, match="cannot feed microbatches"):
        optim.value_and_update(plain_loss, tx)(w, tx.init(w), batch())


def test_hyperparameters_as_state_save_the_pass_too():
    tx = optax.inject_hyperparams(optim.vasso)(optax.sgd(0.1), rho=0.1, theta=0.4, refresh_every=2)
    w = params()
    state, jitted = tx.init(w), jax.jit(optim.value_and_update(plain_loss, tx))
    taken = []
    for _ in range(4):
        passes, _, state = jitted(w, state, batch())
        taken.append(bool(passes.clean.taken))
    assert taken == [True, False, True, False]


def test_aux_of_other_shapes_cannot_be_carried_on():
    w = jnp.ones(3)
    tx = optim.sam(optax.sgd(0.1), microbatches=2)
    passes, _, _ = optim.value_and_update(lambda w, i: (w.sum(), w), tx, True)(w, tx.init(w))
    with pytest.raises(ValueError, match="average aux over its leading axis first"):
        passes.clean.aux_or(w)
    assert passes.clean.aux_or(jnp.zeros((2, 3))).shape == (2, 3)


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


def test_a_line_search_of_optax_gets_what_it_needs():
    tx, w = optax.lbfgs(), params()
    one, state = jax.jit(optim.value_and_update(plain_loss, tx)), tx.init(w)
    for _ in range(3):
        _, updates, state = one(w, state, batch())
        w = optax.apply_updates(w, updates)
    assert loss(w, batch()) < loss(params(), batch())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tx: tx,
        lambda tx: optax.chain(optax.identity(), tx, optax.scale(1.0)),
        lambda tx: optax.named_chain(("only", tx)),
        lambda tx: optax.chain(optax.chain(tx), optax.scale(1.0)),
    ],
)
def test_a_transform_that_is_reached_as_it_is_saves_the_pass_and_reports_both(wrap):
    tx, w = wrap(optim.vasso(optax.sgd(0.1), refresh_every=2)), params()
    state, jitted = tx.init(w), jax.jit(optim.value_and_update(plain_loss, tx))
    taken = []
    for _ in range(4):
        passes, _, new_state = jitted(w, state, batch())
        assert jax.tree.structure(new_state) == jax.tree.structure(state)
        assert passes.perturbed.taken
        taken.append(bool(passes.clean.taken))
        state = new_state
    assert taken == [True, False, True, False]


def test_two_sharpness_aware_transforms_report_the_first_ones_passes():
    perturbation = optim.l2_ball(0.1)
    tx = optax.chain(optim.sharpness_aware(perturbation), optim.sam(optax.sgd(0.1), 0.2))
    w = params()
    passes, _, state = optim.value_and_update(plain_loss, tx)(w, tx.init(w), batch())
    np.testing.assert_allclose(passes.clean.value, loss(w, batch()), rtol=1e-6)
    assert jax.tree.structure(state) == jax.tree.structure(tx.init(w))


@pytest.mark.parametrize("around", [jax.jit, jax.checkpoint, lambda f: f])
def test_nothing_is_left_behind_by_a_call(around):
    tx, w = optim.vasso(optax.sgd(0.1), 0.1, 0.4), params()
    one = around(optim.value_and_update(plain_loss, tx))
    first = one(w, tx.init(w), batch())
    one(w, tx.init(w), batch()[:4])  # other shapes are traced anew
    again = one(w, tx.init(w), batch())
    assert_close(first, again, rtol=0)


def test_a_step_can_be_mapped_and_nested():
    tx, w = optim.sam(optax.sgd(0.1), 0.1), params()

    def after(x):
        passes, updates, _ = optim.value_and_update(plain_loss, tx)(w, tx.init(w), x)
        return passes.clean.value, optax.apply_updates(w, updates)

    values, mapped = jax.vmap(after)(jnp.stack([batch(0), batch(1)]))
    for t in range(2):
        value, expected = after(batch(t))
        np.testing.assert_allclose(values[t], value, rtol=1e-5)
        assert_close(jax.tree.map(lambda x, t=t: x[t], mapped), expected, rtol=1e-4, atol=1e-6)

    def outer(scale, i):
        scaled = jax.tree.map(lambda p: scale * p, w)
        passes, _, _ = optim.value_and_update(plain_loss, tx)(scaled, tx.init(scaled), batch())
        return passes.perturbed.value

    passes, _, _ = optim.value_and_update(outer, tx)(jnp.array(1.0), tx.init(jnp.array(1.0)))
    inner = optim.value_and_update(plain_loss, tx)(w, tx.init(w), batch())[0]
    np.testing.assert_allclose(passes.clean.value, inner.perturbed.value, rtol=1e-5)


def test_errors_of_the_loss_function_come_through():
    def broken(w, i, x):
        raise KeyError("mine")

    for tx in (optim.sam(optax.sgd(0.1)), optax.chain(optax.scale(1.0), optim.sam(optax.sgd(0.1)))):
        with pytest.raises(KeyError, match="mine"):
            optim.value_and_update(broken, tx)(params(), tx.init(params()), batch())
