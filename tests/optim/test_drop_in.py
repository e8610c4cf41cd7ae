"""In place of optax.contrib.sam, and inside of it."""

import jax
import jax.numpy as jnp
import optax
import pytest

from tests.optim.problems import assert_close, batch, jit_counting, loss, params, run, spec, step
from vasso_jax import optim

PERTURBATIONS = {
    "sam": lambda: optim.l2_ball(0.1),
    "vasso": lambda: optax.chain(optim.suppress_variance(0.4), optim.l2_ball(0.1)),
    "asam": lambda: optim.adaptive_ball(0.5),
    "vasso_asam": lambda: optax.chain(optim.suppress_variance(0.4), optim.adaptive_ball(0.5)),
    "friendly_sam": lambda: optax.chain(optim.friendly(1.0, 0.4), optim.l2_ball(0.1)),
    "ssam": lambda: optax.chain(optim.l2_ball(0.1), optim.sparse_mask(0.5, every=2)),
}


def without_empty():
    # optax.contrib.sam copies the cache of None leaves, but its arithmetic needs arrays.
    w = params()
    del w["none"]
    return w


@pytest.mark.slow
@pytest.mark.parametrize("perturbation", PERTURBATIONS)
@pytest.mark.parametrize("opaque", [True, False], ids=["opaque", "transparent"])
def test_as_the_adversarial_optimizer_of_optax_it_takes_our_steps(perturbation, opaque):
    base = optax.adam(0.02)
    negated = optax.chain(PERTURBATIONS[perturbation](), optax.scale(-1.0))
    theirs = optax.contrib.sam(base, negated, reset_state=False, opaque_mode=opaque)
    ours = optax.chain(optim.sharpness_aware(PERTURBATIONS[perturbation]()), base)
    w = without_empty()
    expected = run(ours, w, steps=4)
    state = first = theirs.init(w)
    if opaque:
        expected_again = run(theirs, w, steps=4)
        assert_close(expected_again, expected, rtol=1e-4, atol=1e-5)
        return

    def half_step(w, state, x):
        updates, state = theirs.update(jax.grad(loss)(w, x), state, w)
        return optax.apply_updates(w, updates), state

    half_step, traces = jit_counting(half_step)
    for t in range(4):
        for _ in range(2):
            w, state = half_step(w, state, batch(t))
    assert_close(w, expected, rtol=1e-4, atol=1e-5)
    assert spec(state) == spec(first)
    assert len(traces) == 1


def test_a_loop_for_optax_changes_one_line():
    adversary = optax.chain(optax.contrib.normalize(), optax.sgd(0.1))
    theirs = optax.contrib.sam(optax.sgd(0.1), adversary, opaque_mode=True)
    ours = optim.sam(optax.sgd(0.1), rho=0.1)
    ends = []
    for tx in (theirs, ours):
        w = without_empty()
        state = tx.init(w)
        for t in range(4):
            w, state = step(tx, w, state, batch(t))
        ends.append(w)
    assert_close(*ends, rtol=1e-5, atol=1e-6)


def test_where_optax_gives_nan_ours_does_not():
    adversary = optax.chain(optax.contrib.normalize(), optax.sgd(0.1))
    theirs = optax.contrib.sam(optax.sgd(0.1), adversary, opaque_mode=True)
    w, zero = jnp.ones(2), lambda w, i: jnp.zeros(2)
    results = [
        tx.update(zero(w, 0), tx.init(w), w, grad_fn=lambda w, i: w - 1)[0]
        for tx in (theirs, optim.sam(optax.sgd(0.1), 0.1))
    ]
    assert jnp.all(jnp.isnan(results[0]))
    assert jnp.all(results[1] == 0)
