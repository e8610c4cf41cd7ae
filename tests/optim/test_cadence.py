"""When parameters are perturbed, and by what: a window, one evaluation per step, several moves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.optim.problems import assert_close, assert_equal, batch, loss, params, plain_loss
from vasso_jax import optim

LR = 0.1
RECIPES = {
    "sam": lambda **options: optim.sam(optax.sgd(LR, 0.9), 0.1, **options),
    "vasso": lambda **options: optim.vasso(optax.sgd(LR, 0.9), 0.1, 0.4, **options),
    "asam": lambda **options: optim.asam(optax.sgd(LR, 0.9), 0.5, **options),
    "friendly_sam": lambda **options: optim.friendly_sam(optax.sgd(LR, 0.9), 0.1, 0.4, **options),
    "ssam": lambda **options: optim.ssam(optax.sgd(LR, 0.9), 0.1, mask_every=2, **options),
    "lesam": lambda **options: optim.lesam(optax.sgd(LR, 0.9), 0.1, **options),
    "vasso_asam": lambda **options: optim.vasso_asam(optax.sgd(LR, 0.9), 0.5, 0.4, **options),
}
WINDOWED = RECIPES | {
    "gsam": lambda **options: optim.gsam(optax.sgd(LR, 0.9), 0.1, **options),
    "vasso, refreshed": lambda **options: optim.vasso(
        optax.sgd(LR, 0.9), 0.1, 0.4, refresh_every=2, **options
    ),
    "vasso, one pass": lambda **options: optim.vasso(
        optax.sgd(LR, 0.9), 0.1, 0.4, refresh="descent", **options
    ),
}


def quick_first(recipes, *more):
    """Parameters of a test: those that differ from VaSSO in another part take part less often."""
    marks = {"vasso": [], "ssam": pytest.mark.slow, "gsam": pytest.mark.slow}
    return [
        pytest.param(name, *more, marks=marks.get(name, pytest.mark.weekly)) for name in recipes
    ]


every_windowed = pytest.mark.parametrize("recipe", quick_first(WINDOWED))


@functools.lru_cache(maxsize=4)
def compiled(tx):
    """One step; what goes on from a state takes the same one."""
    return jax.jit(optim.value_and_update(plain_loss, tx))


def steps(tx, count, w=None, state=None, start=0):
    """Passes, parameters and optimizer state after each of `count` jitted steps."""
    w = params() if w is None else w
    state = tx.init(w) if state is None else state
    one = compiled(tx)
    taken = []
    for t in range(start, start + count):
        passes, updates, state = one(w, state, batch(t))
        w = optax.apply_updates(w, updates)
        taken.append((passes, w, state))
    return taken


def evaluations(tx, count, plain=False):
    """How often `count` jitted steps evaluate the loss, counted where that is executed."""
    counted = []

    def counting(w, i, x):
        jax.debug.callback(lambda: counted.append(1))
        return loss(w, x)

    w = params()
    state = tx.init(w)
    one = jax.jit(optim.value_and_update(counting, tx))
    if plain:
        one = jax.jit(
            lambda w, state, x: (
                None,
                *tx.update(None, state, w, grad_fn=lambda p, i: jax.grad(counting)(p, i, x)),
            )
        )
    for t in range(count):
        _, updates, state = one(w, state, batch(t))
        w = optax.apply_updates(w, updates)
    jax.effects_barrier()
    return len(counted)


@pytest.mark.weekly
@every_windowed
def test_outside_of_the_window_the_step_is_that_of_the_base(recipe):
    tx, base = WINDOWED[recipe](active=(3, None)), optax.sgd(LR, 0.9)
    for (passes, w, _), (_, expected, _) in zip(steps(tx, 3), steps(base, 3), strict=True):
        assert_close(w, expected, rtol=1e-5, atol=1e-6)
        assert passes.clean.taken
        assert not passes.perturbed.taken
        assert jnp.isnan(passes.perturbation_norm)


@pytest.mark.parametrize(
    ("recipe", "active"),
    [
        ("vasso", (0, 9)),
        ("vasso", lambda t: t >= 0),
        *quick_first(WINDOWED, (0, None)),
    ],
)
def test_a_window_that_is_always_open_changes_nothing(recipe, active):
    ends = [steps(WINDOWED[recipe](**options), 4)[-1] for options in ({}, {"active": active})]
    assert_close(ends[1], ends[0], rtol=1e-5, atol=1e-6)


def test_at_the_switch_the_direction_is_the_average_of_all_gradients():
    taken = steps(WINDOWED["vasso"](active=(3, 5)), 6)
    average, w, points = None, params(), []
    for t in range(6):
        g = jax.grad(loss)(w, batch(t))
        average = g if t == 0 else jax.tree.map(lambda d, g: 0.6 * d + 0.4 * g, average, g)
        eps = optax.tree.scale(0.1 / optax.tree.norm(average), average)
        inside = 3 <= t < 5
        points.append(optax.apply_updates(w, eps) if inside else w)
        passes, w, state = taken[t]
        assert_close(optax.tree.get(state, "direction"), average, rtol=1e-4, atol=1e-5)
        assert passes.perturbed.taken == inside
        if inside:
            np.testing.assert_allclose(
                passes.perturbed.value, loss(points[-1], batch(t)), rtol=1e-5
            )


def test_a_schedule_of_rho_is_read_at_the_step_inside_of_the_window():
    rho = optax.linear_schedule(0.0, 1.0, 10)
    taken = steps(optim.vasso(optax.sgd(LR), rho, 0.4, active=(3, None)), 5)
    norms = [float(passes.perturbation_norm) for passes, _, _ in taken]
    np.testing.assert_allclose(norms, [np.nan] * 3 + [0.3, 0.4], rtol=1e-4)


@every_windowed
def test_a_window_is_resumed_from_the_state(recipe):
    tx = WINDOWED[recipe](active=(2, 4))
    whole = steps(tx, 6)
    for cut in (1, 2, 3, 5):
        _, w, state = whole[cut - 1]
        rest = steps(tx, 6 - cut, w, jax.tree.map(np.asarray, state), start=cut)
        assert_equal(rest[-1], whole[-1])


@pytest.mark.slow
@pytest.mark.parametrize("plain", [False, True], ids=["value_and_update", "update"])
def test_evaluations_of_a_window(plain):
    # The first of each pair: 8 steps at one evaluation, and 2 at two.
    assert evaluations(WINDOWED["vasso"](active=(8, None)), 10, plain) == 12
    assert evaluations(WINDOWED["gsam"](active=(0, 3)), 10, plain) == 13
    # Refreshed every second step inside, at steps 6 and 8.
    assert evaluations(WINDOWED["vasso, refreshed"](active=(6, None)), 10, plain) == 6 + 4 + 2


@pytest.mark.parametrize(
    ("recipe", "plain"),
    [
        ("vasso", True),
        pytest.param("ssam", True, marks=pytest.mark.weekly),
        *quick_first(RECIPES, False),
    ],
)
def test_fed_by_the_descent_a_step_is_one_evaluation(recipe, plain):
    assert evaluations(RECIPES[recipe](refresh="descent"), 10, plain) == 10
    assert evaluations(RECIPES[recipe](refresh="descent", active=(5, 8)), 10, plain) == 10


def test_momentum_sam_is_one_evaluation():
    for base in (optax.sgd(LR, 0.9), optax.adamw(LR)):
        assert evaluations(optim.momentum_sam(base, 0.3), 10) == 10
        assert evaluations(optim.momentum_sam(base, 0.3), 10, plain=True) == 10


def test_vasso_fed_by_the_descent_by_hand():
    theta, rho, w, d = 0.4, 0.1, params(), None
    for t, (passes, actual, state) in enumerate(
        steps(optim.vasso(optax.sgd(LR), rho, theta, refresh="descent"), 4)
    ):
        scale = 0 if d is None else rho / optax.tree.norm(d)
        w_eps = w if d is None else jax.tree.map(lambda p, d, s=scale: p + s * d, w, d)
        np.testing.assert_allclose(passes.perturbed.value, loss(w_eps, batch(t)), rtol=1e-5)
        assert passes.perturbed.taken
        assert not passes.clean.taken
        g = jax.grad(loss)(w_eps, batch(t))
        d = g if d is None else jax.tree.map(lambda d, g: (1 - theta) * d + theta * g, d, g)
        w = jax.tree.map(lambda p, g: p - LR * g, w, g)
        assert_close(actual, w, rtol=1e-5, atol=1e-6)
        assert_close(optax.tree.get(state, "direction"), d, rtol=1e-4, atol=1e-5)


def test_a_gradient_that_is_not_finite_leaves_the_fed_direction():
    tx, w = optim.vasso(optax.sgd(LR), 0.1, 0.4, refresh="descent"), params()
    one = jax.jit(optim.value_and_update(plain_loss, tx))
    _, _, state = one(w, tx.init(w), batch())
    _, _, after = one(w, state, batch() * jnp.nan)
    assert_equal(optax.tree.get(after, "direction"), optax.tree.get(state, "direction"))
    assert optim.is_single_pass(tx, w)
    assert not optim.is_single_pass(optax.sgd(0.1), w)
    assert not optim.is_single_pass(RECIPES["vasso"](refresh_every=2), w)


def test_the_first_evaluation_of_every_step_is_reported():
    def loss_with_aux(params, i, x):
        value = plain_loss(params, i, x)
        return value, 2 * value

    def first(tx):
        w = params()
        state = tx.init(w)
        for t in range(2):
            passes, _, state = optim.value_and_update(loss_with_aux, tx, has_aux=True)(
                w, state, batch(t)
            )
        return passes, passes.first

    passes, found = first(RECIPES["vasso"](refresh="descent"))
    assert found == passes.perturbed
    assert np.isnan(passes.clean.value)
    passes, found = first(RECIPES["vasso"](refresh_every=2))  # the second step makes no clean pass
    assert (found.value, found.aux) == (passes.perturbed.value, passes.perturbed.aux)
    passes, found = first(RECIPES["vasso"]())
    assert found == passes.clean
    passes, found = first(optax.sgd(LR))
    assert found == passes.clean
    assert all(value == loss_with_aux(params(), 0, batch(1)) for value in [found[1:]])


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3])
def test_ascent_steps_by_hand(count):
    (passes, w, _), *_ = steps(optim.sam(optax.sgd(LR), 0.1, ascent_steps=count), 1)
    w_eps = params()
    for _ in range(count):
        g = jax.grad(loss)(w_eps, batch())
        scale = 0.1 / optax.tree.norm(g)
        w_eps = jax.tree.map(lambda p, d, s=scale: p + s * d, w_eps, g)
    np.testing.assert_allclose(passes.perturbed.value, loss(w_eps, batch()), rtol=1e-5)
    expected = jax.tree.map(lambda p, g: p - LR * g, params(), jax.grad(loss)(w_eps, batch()))
    assert_close(w, expected, rtol=1e-5, atol=1e-6)
    assert evaluations(RECIPES["sam"](ascent_steps=count), 3) == 3 * (count + 1)


def test_ascent_steps_are_those_of_optax():
    adversary = optax.chain(optax.contrib.normalize(), optax.sgd(0.1))
    theirs = optax.contrib.sam(optax.sgd(LR), adversary, sync_period=4, opaque_mode=True)
    ours, w = optim.sam(optax.sgd(LR), 0.1, ascent_steps=3), params()
    del w["none"]
    one = [
        tx.update(
            jax.grad(loss)(w, batch()),
            tx.init(w),
            w,
            grad_fn=lambda p, i: jax.grad(loss)(p, batch()),
        )[0]
        for tx in (theirs, ours)
    ]
    assert_close(*one, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"active": (3, 3)}, r"active must be \(start, end\)"),
        ({"active": (-1, 3)}, "active must be"),
        ({"active": (0.5, 3)}, "active must be"),
        ({"active": 7}, "active must be"),
        ({"active": (1, 2, 3)}, "active must be"),
        ({"ascent_steps": 0}, "ascent_steps must be an integer >= 1"),
        ({"refresh": "both"}, "refresh must be 'clean' or 'descent'"),
        ({"refresh": "descent", "refresh_every": 2}, "refresh_every has no effect"),
        ({"refresh": "descent", "ascent_steps": 2}, "ascent_steps has no effect"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        optim.vasso(optax.sgd(0.1), **options)


def test_a_base_without_momentum_is_refused():
    for base in (optax.sgd(0.1), optax.chain(optax.trace(0.9), optax.adam(0.1))):
        with pytest.raises(ValueError, match="needs a base with one momentum"):
            optim.momentum_sam(base).init(params())
    with pytest.raises(ValueError, match="one evaluation needs a perturbation that remembers"):
        optim.single_pass_sharpness_aware(optim.l2_ball(0.1)).init(params())
