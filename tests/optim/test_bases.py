"""Bases and wrappers of optax: what they hand to these optimizers, and what they are handed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.optim.problems import (
    assert_close,
    batch,
    descends,
    loss,
    params,
    plain_loss,
    without_none,
)
from vasso_jax import optim

# Bases that need the value, the gradient or the loss itself of the clean pass.
NEEDY = {
    "polyak_sgd": lambda: optax.polyak_sgd(0.1),
    "momo": lambda: optax.contrib.momo(0.1),
    "momo_adam": lambda: optax.contrib.momo_adam(0.01),
    "reduce_on_plateau": lambda: optax.chain(optax.sgd(0.05), optax.contrib.reduce_on_plateau()),
    "lbfgs": optax.lbfgs,
    "backtracking": lambda: optax.chain(
        optax.sgd(0.1), optax.scale_by_backtracking_linesearch(max_backtracking_steps=10)
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("base", NEEDY)
@pytest.mark.parametrize(
    "wrap",
    [lambda tx: tx, lambda tx: optax.chain(tx, optax.scale(1.0))],
    ids=["alone", "chained"],
)
def test_a_base_gets_what_it_needs_and_both_passes_are_reported(base, wrap):
    passes = descends(wrap(optim.vasso(NEEDY[base](), 0.01, 0.4)), w=without_none())
    assert passes.clean.taken
    assert passes.perturbed.taken
    assert jnp.isfinite(passes.cosine)


def test_the_value_is_that_of_the_clean_pass_and_of_all_microbatches():
    seen = []

    def look(updates, state, params=None, *, value, grad, value_fn, **extra_args):
        seen.append((value, grad, value_fn(params)))
        return updates, state

    spy = optax.GradientTransformationExtraArgs(lambda w: optax.EmptyState(), look)
    w, x = params(), batch()

    def part_loss(w, i, x):
        return loss(w, x.reshape(4, 4, 8)[i])

    for tx, part in (
        (optim.sam(spy, 0.3), x[:4]),
        (optim.sam(spy, 0.3, microbatches=4), x),
        (spy, x[:4]),
    ):
        optim.value_and_update(part_loss, tx)(w, tx.init(w), x)
        value, grad, again = seen[-1]
        np.testing.assert_allclose(value, loss(w, part), rtol=1e-5)
        np.testing.assert_allclose(again, value, rtol=1e-5)
        assert_close(grad, jax.grad(loss)(w, part), rtol=1e-4, atol=1e-6)


def test_where_the_clean_pass_is_saved_only_a_needy_base_forgoes_that():
    one = optim.value_and_update(
        plain_loss, tx := optim.vasso(optax.polyak_sgd(0.1), refresh_every=2)
    )
    w = without_none()
    state = tx.init(w)
    for _ in range(3):
        passes, _, state = one(w, state, batch())
        assert passes.clean.taken
    tx = optim.vasso(optax.sgd(0.1), refresh_every=2)
    one, state = optim.value_and_update(plain_loss, tx), tx.init(w)
    taken = []
    for _ in range(4):
        passes, _, state = one(w, state, batch())
        taken.append(bool(passes.clean.taken))
    assert taken == [True, False, True, False]


OTHERS = {
    "schedule_free": lambda tx: optax.contrib.schedule_free(tx, 0.1),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 1),
    "mechanize": lambda tx: optax.contrib.mechanize(tx),
    "inject_hyperparams": lambda tx: optax.inject_hyperparams(optim.vasso)(
        optax.sgd(0.1), rho=0.1, theta=0.4
    ),
}
BASES = {
    "muon": lambda: optax.contrib.muon(0.01),
    "adafactor": lambda: optax.adafactor(0.01),
    "prodigy": lambda: optax.contrib.prodigy(),
    "lion": lambda: optax.lion(0.01),
    "MultiSteps": lambda: optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(),
    "ema": lambda: optax.chain(optax.ema(0.5), optax.sgd(0.1)),
}


@pytest.mark.slow
@pytest.mark.parametrize("base", BASES)
def test_any_base(base):
    descends(optim.vasso(BASES[base](), 0.05, 0.4), w=without_none(), steps=20)


@pytest.mark.slow
@pytest.mark.parametrize("wrapper", OTHERS)
def test_any_wrapper_that_hands_grad_fn_on(wrapper):
    if wrapper == "mechanize":  # it needs updates that the base has scaled, and takes long
        tx = OTHERS[wrapper](optim.vasso(optax.sgd(1.0), 0.05, 0.4))
        descends(tx, w=without_none(), steps=60)
    else:
        descends(OTHERS[wrapper](optim.vasso(optax.sgd(0.1), 0.05, 0.4)), w=without_none())


def test_lookahead_as_the_base():
    lookahead = optax.lookahead(optax.sgd(0.1), 2, 0.5)
    tx, w = optim.vasso(lookahead, 0.1, 0.4), optax.LookaheadParams.init_synced(without_none())
    state, plain = tx.init(w), optim.vasso(optax.sgd(0.1), 0.1, 0.4)
    fast, slow, plain_state = w.fast, w.slow, plain.init(w.fast)
    one = jax.jit(optim.value_and_update(plain_loss, tx))
    for t in range(4):
        passes, updates, state = one(w, state, batch(t))
        w = optax.apply_updates(w, updates)
        assert passes.perturbed.taken
        _, own, plain_state = optim.value_and_update(plain_loss, plain)(fast, plain_state, batch(t))
        fast = optax.apply_updates(fast, own)
        if t % 2:
            slow = fast = jax.tree.map(lambda s, f: s + 0.5 * (f - s), slow, fast)
        assert_close(w.fast, fast, rtol=1e-5, atol=1e-6)
        assert_close(w.slow, slow, rtol=1e-5, atol=1e-6)


def test_lookahead_around_hands_nothing_on_and_the_message_says_what_to_do():
    tx = optax.lookahead(optim.sam(optax.sgd(0.1)), 2, 0.5)
    w = optax.LookaheadParams.init_synced(without_none())
    with pytest.raises(ValueError, match=r"sam\(optax\.lookahead\(optax\.sgd"):
        tx.update(w.fast, tx.init(w), w)


def test_a_base_that_needs_the_loss_turns_asking_off_where_the_clean_pass_is_not_always_made():
    for options in ({"refresh": "descent"}, {"refresh_every": 3}):
        tx, w = optim.vasso(optax.contrib.momo(0.1), 0.05, 0.4, **options), without_none()
        assert not optim.can_ask(tx, w)
        assert not optim.is_single_pass(tx, w)
        passes, _, _ = optim.value_and_update(plain_loss, tx)(w, tx.init(w), batch())
        assert passes.clean.taken
        assert not passes.perturbed.taken
