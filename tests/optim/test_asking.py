"""Where an optimizer can ask for its gradients, and what it is given elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.optim.problems import (
    assert_close,
    assert_equal,
    batch,
    jit_counting,
    loss,
    params,
    plain_loss,
    step,
)
from vasso_jax import optim


def adding_the_gradient(tx):
    """A wrapper that hands the gradient on untouched, and uses it afterwards."""

    def update(updates, state, params=None, **extra_args):
        new, state = tx.update(updates, state, params, **extra_args)
        return jax.tree.map(lambda u, g: u + 0 * g, new, updates), state

    return optax.GradientTransformationExtraArgs(tx.init, update)


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrap",
    [
        adding_the_gradient,
        lambda tx: optax.conditionally_transform(tx, lambda step: step >= 0),
        lambda tx: optax.chain(tx, optax.scale(1.0)),
        lambda tx: optax.chain(optax.identity(), tx),
        lambda tx: optax.chain(optax.scale(1.0), tx),
        lambda tx: optax.named_chain(("only", tx)),
        lambda tx: optax.apply_if_finite(tx, 3),
        lambda tx: optax.MultiSteps(tx, 1),
        lambda tx: optax.masked(tx, True),
        lambda tx: optax.partition({"all": tx}, "all"),
    ],
)
@pytest.mark.parametrize(
    "options", [pytest.param({}, marks=pytest.mark.weekly), {"refresh_every": 2}]
)
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


def test_multi_steps_around_the_base_takes_the_mean_of_the_perturbed_gradients():
    tx = optim.vasso(optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(), 0.1, 0.4)
    w, state = params(), tx.init(params())
    one = jax.jit(optim.value_and_update(plain_loss, tx))
    sgd = optim.vasso(optax.sgd(0.1), 0.1, 0.4)
    each, sgd_state = [], sgd.init(w)
    for t in range(2):
        passes, updates, state = one(w, state, batch(t))
        assert passes.clean.taken
        assert passes.perturbed.taken
        _, own, sgd_state = optim.value_and_update(plain_loss, sgd)(w, sgd_state, batch(t))
        each.append(own)
        if t == 0:
            assert_equal(updates, jax.tree.map(jnp.zeros_like, updates))
    assert_close(updates, jax.tree.map(lambda a, b: (a + b) / 2, *each), rtol=1e-5, atol=1e-7)


def test_multi_steps_around_the_whole_takes_the_last_perturbed_gradient():
    tx = optax.MultiSteps(optim.sam(optax.sgd(0.1), 0.1), 2)
    w, state = params(), tx.init(params())
    one = jax.jit(optim.value_and_update(plain_loss, tx))
    for t in range(2):
        passes, updates, state = one(w, state, batch(t))
        assert not passes.perturbed.taken
    mean = jax.grad(lambda w: (loss(w, batch(0)) + loss(w, batch(1))) / 2)(w)
    scale = 0.1 / optax.tree.norm(mean)
    w_eps = jax.tree.map(lambda p, g: p + scale * g, w, mean)
    expected = jax.tree.map(lambda g: -0.1 * g, jax.grad(loss)(w_eps, batch(1)))
    assert_close(updates, expected, rtol=1e-4, atol=1e-6)


def test_microbatches_inside_another_wrapper_are_refused():
    tx, w = optax.masked(optim.sam(optax.sgd(0.1), microbatches=2), True), params()
    with pytest.raises(ValueError, match="cannot feed microbatches"):
        optim.value_and_update(plain_loss, tx)(w, tx.init(w), batch())


def injected():
    return optax.inject_hyperparams(optim.vasso)(
        optax.sgd(0.1), rho=0.1, theta=0.4, refresh_every=2
    )


def own():
    return optim.vasso(optax.sgd(0.1), rho=0.1, theta=0.4, refresh_every=2)


ASKED = {
    "inject_hyperparams": injected,
    "chain": lambda: optax.chain(own(), optax.scale(0.5)),
    "chain of chains": lambda: optax.chain(optax.chain(own()), optax.scale(0.5)),
    "named_chain": lambda: optax.named_chain(("one", own()), ("two", optax.scale(0.5))),
    "after what hands it on": lambda: optax.chain(optax.identity(), own()),
    "schedule_free": lambda: optax.contrib.schedule_free(own(), 0.1),
    "inside each other": lambda: optax.named_chain(("one", optax.chain(injected()))),
}


@pytest.mark.slow
@pytest.mark.parametrize("place", ASKED)
def test_where_the_optimizer_can_ask_it_saves_and_reports(place):
    tx, w = ASKED[place](), params()
    state, (jitted, traces) = tx.init(w), jit_counting(optim.value_and_update(plain_loss, tx))
    structure, taken = jax.tree.structure(state), []
    for _ in range(4):
        passes, _, state = jitted(w, state, batch())
        taken.append(bool(passes.clean.taken))
        assert passes.perturbed.taken
        assert jnp.isfinite(passes.perturbed.value)
        assert jax.tree.structure(state) == structure
    assert taken == [True, False, True, False]
    assert optim.can_ask(tx, w)
    assert len(traces) == 1


NOT_ASKED = {
    "a transform that changes the gradient": lambda tx: optax.chain(optax.scale(1.0), tx),
    "a use of the gradient afterwards": adding_the_gradient,
    "masked": lambda tx: optax.masked(tx, True),
    "partition": lambda tx: optax.partition({"all": tx}, "all"),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 2),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "conditionally_mask": lambda tx: optax.conditionally_mask(tx, lambda step: step >= 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("place", NOT_ASKED)
def test_elsewhere_it_is_given_its_gradient_and_has_a_clean_pass_only(place):
    tx, w = NOT_ASKED[place](own()), params()
    state, jitted = tx.init(w), jax.jit(optim.value_and_update(plain_loss, tx))
    for _ in range(3):
        passes, _, state = jitted(w, state, batch())
        assert passes.clean.taken
        assert not passes.perturbed.taken
        assert jnp.isnan(passes.perturbed.value)
    assert not optim.can_ask(tx, jax.eval_shape(params))


def test_two_sharpness_aware_transforms_report_the_passes_of_the_first():
    w, first = params(), optim.sharpness_aware(optim.l2_ball(0.1))
    tx = optax.chain(first, optim.sam(optax.sgd(0.1), 0.2))
    passes, _, _ = optim.value_and_update(plain_loss, tx)(w, tx.init(w), batch())
    expected, _, _ = optim.value_and_update(plain_loss, first)(w, first.init(w), batch())
    np.testing.assert_allclose(passes.perturbed.value, expected.perturbed.value, rtol=1e-6)
