"""Directions that are kept and reused: the protocol, and `remember` around any transform."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.optim.problems import assert_close, assert_equal, batch, loss, params, run, spec
from vasso_jax import optim

THETA = 0.4


class OwnState(NamedTuple):
    started: jax.Array
    direction: optax.Updates


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class OwnDataclass:
    started: jax.Array
    direction: optax.Updates


def own_direction(make_state):
    """VaSSO's direction as a user would write it."""

    def init(w):
        return make_state(jnp.array(False), jax.tree.map(jnp.zeros_like, w))

    def update(updates, state, params=None, *, fresh=True, **extra_args):
        def moved(d, g):
            new = jnp.where(state.started, (1 - THETA) * d + THETA * g, g)
            return jnp.where(fresh, new, d)

        direction = jax.tree.map(moved, state.direction, updates)
        return direction, make_state(state.started | fresh, direction)

    return optax.GradientTransformationExtraArgs(init, update)


def reusing(direction, k=3):
    perturbation = optax.chain(direction, optim.l2_ball(0.1))
    return optax.chain(optim.sharpness_aware(perturbation, refresh_every=k), optax.sgd(0.1))


@pytest.mark.slow
@pytest.mark.parametrize("make_state", [OwnState, OwnDataclass])
@pytest.mark.parametrize("asks", [True, False])
def test_a_direction_of_ones_own_is_reused(make_state, asks):
    ends = []
    for direction in (own_direction(make_state), optim.suppress_variance(THETA)):
        tx, w = reusing(direction), params()
        if asks:
            state = tx.init(w)
            one = jax.jit(optim.value_and_update(lambda w, i, x: loss(w, x), tx))
            taken = []
            for t in range(7):
                passes, updates, state = one(w, state, batch(t))
                w = optax.apply_updates(w, updates)
                taken.append(bool(passes.clean.taken))
            assert taken == [t % 3 == 0 for t in range(7)]
        else:
            w = run(tx, w, steps=7)
        ends.append(w)
    assert_close(*ends, rtol=1e-5, atol=1e-6)


def test_what_remembers_is_told_by_its_structure():
    w = params()
    for transform in (
        optim.suppress_variance(0.4),
        optim.remember(optax.ema(0.9)),
        own_direction(OwnState),
    ):
        assert isinstance(transform.init(w), optim.RemembersDirection)
    for transform in (optax.ema(0.9), optim.friendly(), optim.l2_ball(0.1)):
        assert not isinstance(transform.init(w), optim.RemembersDirection)


@pytest.mark.slow
@pytest.mark.parametrize(
    "direction",
    [
        optax.ema(0.9),
        optim.friendly(),
        # What is called direction, but has not the shapes of the parameters, is something else.
        optax.GradientTransformation(
            lambda w: OwnState(jnp.array(True), jnp.ones(())), lambda g, s, w=None: (g, s)
        ),
        optax.GradientTransformation(
            lambda w: OwnState(jnp.array(True), [jnp.ones(2)]), lambda g, s, w=None: (g, s)
        ),
    ],
)
def test_a_direction_that_would_be_fed_stale_gradients_is_refused(direction):
    with pytest.raises(ValueError, match="needs a perturbation that remembers") as error:
        reusing(direction).init(params())
    assert "optax.chain(remember(optax.ema(0.9)), l2_ball(0.1))" in str(error.value)
    # The line of the message works.
    run(reusing(optim.remember(direction)), params())


def test_the_line_of_the_refusal_works():
    perturbation = optax.chain(optim.remember(optax.ema(0.9)), optim.l2_ball(0.1))
    tx = optax.chain(optim.sharpness_aware(perturbation, refresh_every=2), optax.sgd(0.1))
    w = params()
    moved = run(tx, w, steps=8)
    assert loss(moved, batch()) < loss(w, batch())


def ignoring_fresh():
    """A state like VaSSO's, but its update takes every gradient for a new one."""
    honest = own_direction(OwnState)

    def update(updates, state, params=None, **extra_args):
        return honest.update(updates, state, params)

    return optax.GradientTransformationExtraArgs(honest.init, update)


def clipped_by_clean():
    """A geometry with a memory of the clean gradients."""

    def update(updates, state, params=None, *, clean, **extra_args):
        largest = jnp.maximum(state, optax.tree.norm(clean))
        return jax.tree.map(lambda d: d / largest, updates), largest

    return optax.GradientTransformationExtraArgs(lambda w: jnp.zeros(()), update)


SOME = {"w": True, "b": False, "scale": False, "empty": False, "none": None}
STALE = {
    "average before": optax.chain(optax.ema(0.9), optim.suppress_variance(THETA)),
    "trace before": optax.chain(optax.trace(0.9), optim.remember(optax.ema(0.9))),
    "named": optax.named_chain(("z", optax.ema(0.9)), ("a", optim.suppress_variance(THETA))),
    "ignores fresh": ignoring_fresh(),
    "leaves some out": optax.masked(optim.suppress_variance(THETA), SOME),
    "geometry": optax.chain(optim.suppress_variance(THETA), clipped_by_clean()),
}


@pytest.mark.slow
@pytest.mark.parametrize("where", [lambda f: f, jax.jit, lambda f: lambda w: jax.eval_shape(f, w)])
@pytest.mark.parametrize("direction", STALE)
def test_a_part_that_uses_stale_gradients_is_refused(direction, where):
    with pytest.raises(ValueError, match="ignores the gradient where `fresh` is False") as error:
        where(reusing(STALE[direction]).init)(params())
    line = "remember(optax.chain(optax.ema(0.9), suppress_variance(0.4))), l2_ball(0.1))"
    assert line in str(error.value)
    # What the message says helps, and without reuse nothing is stale.
    reusing(optim.remember(STALE[direction])).init(params())
    optim.sharpness_aware(STALE[direction]).init(params())


@pytest.mark.slow
@pytest.mark.parametrize(
    "direction",
    [
        optax.chain(optax.clip(1.0), optim.suppress_variance(THETA)),
        optax.chain(optim.friendly(), optim.suppress_variance(1.0)),
        # What follows the memory sees the reused direction, which is not stale.
        optax.chain(optim.suppress_variance(1.0), optax.ema(0.9)),
        optax.chain(optim.suppress_variance(1.0), optim.sparse_mask(0.5, every=2)),
        optim.remember(optax.add_noise(0.1, 0.5, key=0)),
        optax.masked(optim.suppress_variance(THETA), True),
        optax.chain(
            optax.masked(optim.suppress_variance(THETA), SOME),
            optax.masked(optax.set_to_zero(), {name: not kept for name, kept in SOME.items()}),
        ),
    ],
)
def test_parts_that_ignore_stale_gradients_pass(direction):
    tx, asked = reusing(direction), params()

    @jax.jit
    def one(w, state, x):
        updates, state = tx.update(None, state, w, grad_fn=lambda p, i: jax.grad(loss)(p, x))
        return optax.apply_updates(w, updates), state

    state = tx.init(asked)
    for t in range(4):
        asked, state = one(asked, state, batch(t))
    # It makes no difference whether there is a gradient that is to be ignored.
    assert_close(asked, run(tx, params(), steps=4), rtol=1e-5, atol=1e-6)


def test_a_perturbation_with_arguments_of_its_own_is_not_judged():
    def update(updates, state, params=None, *, factor, **extra_args):
        return jax.tree.map(lambda d: factor * d, updates), state

    scaled = optax.GradientTransformationExtraArgs(lambda w: optax.EmptyState(), update)
    tx, w = reusing(optax.chain(optim.suppress_variance(THETA), scaled)), params()
    tx.update(w, tx.init(w), w, grad_fn=lambda p, i: p, factor=2.0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
@pytest.mark.parametrize("params_dtype", [jnp.float32, jnp.bfloat16])
def test_the_identity_remembered_is_sams_memory(dtype, params_dtype):
    w = params(params_dtype)
    one = optim.remember(optax.identity(), accumulator_dtype=dtype)
    other = optim.suppress_variance(1.0, accumulator_dtype=dtype)
    states = one.init(w), other.init(w)
    nan = jax.tree.map(lambda p: p * jnp.nan, w)
    for t, fresh in enumerate([True, False, True, True, False, True]):
        grads = nan if t == 3 else jax.grad(loss)(w, batch(t, params_dtype))
        results = [
            tx.update(grads, state, w, fresh=jnp.array(fresh))
            for tx, state in zip((one, other), states, strict=True)
        ]
        (d, expected), states = zip(*results, strict=True)
        assert spec(d) == spec(expected)
        assert spec(states[0].direction) == spec(states[1].direction)
        assert_equal(d, expected)
        assert_equal(states[0].direction, states[1].direction)


def test_an_ema_remembered_holds_every_kth_gradient_only():
    k, decay, grads = 2, 0.9, [jnp.array([float(t + 1), -1.0]) for t in range(6)]
    direction = optim.remember(optax.ema(decay))
    state = direction.init(jnp.zeros(2))
    average, renewals = np.zeros(2), 0
    for t, g in enumerate(grads):
        d, state = direction.update(g, state, fresh=jnp.array(t % k == 0))
        if t % k == 0:
            average, renewals = decay * average + (1 - decay) * g, renewals + 1
        # optax.ema corrects its bias by the number of gradients that it has seen.
        np.testing.assert_allclose(d, average / (1 - decay**renewals), rtol=1e-5)
    assert state.inner.count == 3


def test_remembering_changes_nothing_where_every_gradient_is_fresh():
    bare = optax.chain(optax.ema(0.9), optim.l2_ball(0.1))
    tx = optax.chain(optim.sharpness_aware(bare), optax.sgd(0.1))
    expected = run(tx, params(), steps=5)
    assert_close(
        run(reusing(optim.remember(optax.ema(0.9)), k=1), params(), steps=5), expected, rtol=1e-6
    )


def test_friendly_remembered_takes_friendly_sams_steps():
    tx = reusing(optim.remember(optim.friendly(1.0, 0.4)), k=2)
    expected = run(optim.friendly_sam(optax.sgd(0.1), 0.1, 0.4, refresh_every=2), params(), steps=6)
    assert_close(run(tx, params(), steps=6), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "inner",
    [optax.ema(0.9), optax.scale_by_adam(), optax.add_noise(0.1, 0.5, key=0), optim.friendly()],
)
def test_a_gradient_that_is_not_finite_changes_nothing(inner, bad):
    direction, w = optim.remember(inner), {"a": jnp.ones(2), "b": jnp.ones(())}
    _, before = direction.update(w, direction.init(w), w)
    poisoned = {"a": jnp.array([1.0, bad]), "b": jnp.ones(())}
    d, after = direction.update(poisoned, before, w)
    assert_equal(d, before.direction)
    assert jax.tree.structure(after) == jax.tree.structure(before)
    for old, new in zip(*map(jax.tree.leaves, (before, after)), strict=True):
        same = old == new
        assert same.all() if hasattr(same, "all") else same
    d, _ = direction.update(jax.tree.map(lambda x: 2 * x, w), after, w)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(d))


def test_what_is_remembered_may_be_kept_in_bfloat16():
    direction = optim.remember(optax.ema(0.9), accumulator_dtype=jnp.bfloat16)
    state = direction.init(params())
    assert {leaf.dtype for leaf in jax.tree.leaves(state.direction)} == {jnp.dtype(jnp.bfloat16)}
    tx = reusing(direction, k=2)
    w, state = params(), tx.init(params())
    jitted = jax.jit(lambda g, s, w: tx.update(g, s, w, grad_fn=lambda p, i: p))
    _, new_state = jitted(w, state, w)
    assert spec(new_state) == spec(state)
    exact = run(reusing(optim.remember(optax.ema(0.9)), k=2), params(), steps=4)
    assert_close(run(tx, params(), steps=4), exact, rtol=1e-2, atol=1e-3)


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match=r"direction must be an optax transform.*0\.9"):
        optim.remember(0.9)
    with pytest.raises(ValueError, match="accumulator_dtype must be a floating-point dtype"):
        optim.remember(optax.ema(0.9), accumulator_dtype=jnp.int32)
