"""What other code hands to these optimizers, and what they hand to it: one short test each."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

from tests.optim.problems import assert_close, assert_equal, batch, loss, params, plain_loss, run
from vasso_jax import optim


def descends(tx, steps=10, w=None, options=None):
    """Runs jitted steps, asserts that the loss falls, and returns the last passes."""
    w = params() if w is None else w
    first, state = loss(w, batch()), tx.init(w)
    one = jax.jit(optim.value_and_update(plain_loss, tx))
    for _ in range(steps):
        passes, updates, state = one(w, state, batch())
        w = optax.apply_updates(w, updates)
    assert loss(w, batch()) < first
    return passes


def without_none():
    w = params()
    del w["none"], w["empty"]
    return w


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


def test_a_base_that_needs_the_loss_turns_asking_off_where_the_clean_pass_is_not_always_made():
    for options in ({"refresh": "descent"}, {"refresh_every": 3}):
        tx, w = optim.vasso(optax.contrib.momo(0.1), 0.05, 0.4, **options), without_none()
        assert not optim.can_ask(tx, w)
        assert not optim.is_single_pass(tx, w)
        passes, _, _ = optim.value_and_update(plain_loss, tx)(w, tx.init(w), batch())
        assert passes.clean.taken
        assert not passes.perturbed.taken


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
