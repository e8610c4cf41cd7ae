"""Batches in parts: one perturbation for all, one a microbatch, one a device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

from tests.optim.problems import RECIPES, assert_close, batch, loss, params, run, spec
from vasso_jax import optim

pytestmark = pytest.mark.slow

PERTURBATIONS = {
    "sam": lambda: optim.l2_ball(0.1),
    "vasso": lambda: optax.chain(optim.suppress_variance(0.4), optim.l2_ball(0.1)),
    "asam": lambda: optim.adaptive_ball(0.5),
    "friendly": lambda: optax.chain(optim.friendly(1.0, 0.4), optim.l2_ball(0.1)),
    "ssam": lambda: optax.chain(optim.l2_ball(0.1), optim.sparse_mask(0.5, every=2)),
    "random ssam": lambda: optax.chain(
        optim.l2_ball(0.1), optim.sparse_mask(0.5, choice="random", every=2)
    ),
}
every_perturbation = pytest.mark.parametrize("perturbation", PERTURBATIONS)


def parts(x, m):
    return x.reshape(m, -1, x.shape[-1])


def run_with(step, tx, steps=4):
    w = params()
    state = tx.init(w)
    step = jax.jit(step)
    for t in range(steps):
        w, state = step(w, state, batch(t))
    return w, state


def ask(tx, grad_fn_of_batch, w, state, x):
    """A step in which the optimizer asks for the clean gradient, too."""
    updates, state = tx.update(None, state, w, grad_fn=grad_fn_of_batch(x))
    return optax.apply_updates(w, updates), state


def microbatched(m):
    return lambda x: lambda w, i: jax.grad(loss)(w, parts(x, m)[i])


@pytest.mark.parametrize(
    ("recipe", "m"), [*((recipe, 4) for recipe in RECIPES), ("vasso", 1), ("looksam", 1)]
)
def test_microbatches_take_the_steps_of_the_whole_batch(recipe, m):
    tx = RECIPES[recipe](optax.sgd(0.1), microbatches=m)
    w, state = run_with(functools.partial(ask, tx, microbatched(m)), tx)
    assert_close(w, run(RECIPES[recipe](optax.sgd(0.1)), params()), rtol=1e-4, atol=1e-5)
    assert spec(state) == spec(tx.init(w))


def test_the_mean_over_bfloat16_microbatches_is_taken_in_float32():
    # In bfloat16 the sum of 512 ones would stop at 256.
    tx = optax.chain(optim.sharpness_aware(optim.l2_ball(0.1), microbatches=512), optax.sgd(1.0))
    w = jnp.zeros(2, jnp.bfloat16)
    updates, _ = tx.update(None, tx.init(w), w, grad_fn=lambda w, i: jnp.ones_like(w))
    assert updates.dtype == jnp.bfloat16
    np.testing.assert_array_equal(updates.astype(jnp.float32), -1)


def mean(trees):
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)


def m_sharpness_by_hand(perturbation, m, steps=4):
    """One perturbation a microbatch, all from one state, which the mean gradient then moves."""
    w = params()
    state = perturbation.init(w)
    update = jax.jit(perturbation.update)
    for t in range(steps):
        cleans, grads = [], []
        for part in parts(batch(t), m):
            clean = jax.grad(loss)(w, part)
            eps, _ = update(clean, state, w)
            cleans.append(clean)
            grads.append(jax.grad(loss)(optax.apply_updates(w, eps), part))
        _, state = update(mean(cleans), state, w)
        w = jax.tree.map(lambda p, g: p - 0.1 * g, w, mean(grads))
    return w, state


@every_perturbation
def test_one_perturbation_a_microbatch(perturbation):
    gradient = optim.m_sharpness_aware(PERTURBATIONS[perturbation](), microbatches=4)
    tx = optax.chain(gradient, optax.sgd(0.1))
    w, state = run_with(functools.partial(ask, tx, microbatched(4)), tx)
    expected = m_sharpness_by_hand(PERTURBATIONS[perturbation](), 4)
    assert_close((w, state[0].perturbation), expected, rtol=1e-4, atol=1e-5)
    assert spec(state) == spec(tx.init(w))


@pytest.mark.parametrize(
    ("perturbation", "check_vma"),
    [*((name, True) for name in PERTURBATIONS), ("vasso", False), ("random ssam", False)],
)
def test_one_perturbation_a_device(perturbation, check_vma):
    gradient = optim.m_sharpness_aware(PERTURBATIONS[perturbation](), axis_name="data")
    tx = optax.chain(gradient, optax.sgd(0.1))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    step = jax.shard_map(
        functools.partial(ask, tx, lambda x: lambda w, i: jax.grad(loss)(w, x)),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec(),
        check_vma=check_vma,
    )
    w, state = run_with(step, tx)
    expected = m_sharpness_by_hand(PERTURBATIONS[perturbation](), 4)
    assert_close((w, state[0].perturbation), expected, rtol=1e-4, atol=1e-5)


def test_one_perturbation_for_each_microbatch_of_each_device():
    gradient = optim.m_sharpness_aware(PERTURBATIONS["vasso"](), microbatches=2, axis_name="data")
    tx = optax.chain(gradient, optax.sgd(0.1))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    step = jax.shard_map(
        functools.partial(ask, tx, microbatched(2)),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec(),
    )
    w, state = run_with(step, tx)
    expected = m_sharpness_by_hand(PERTURBATIONS["vasso"](), 8)
    assert_close((w, state[0].perturbation), expected, rtol=1e-4, atol=1e-5)


def test_one_perturbation_for_each_element_of_a_vmapped_axis():
    gradient = optim.m_sharpness_aware(PERTURBATIONS["vasso"](), axis_name="parts")
    tx = optax.chain(gradient, optax.sgd(0.1))

    def step(w, state, x):
        one = functools.partial(ask, tx, lambda x: lambda w, i: jax.grad(loss)(w, x))
        many = jax.vmap(one, in_axes=(None, None, 0), axis_name="parts")(w, state, parts(x, 4))
        return jax.tree.map(lambda y: y[0], many)

    w, _ = run_with(step, tx)
    assert_close(w, m_sharpness_by_hand(PERTURBATIONS["vasso"](), 4)[0], rtol=1e-4, atol=1e-5)


def test_one_part_is_the_global_perturbation():
    tx = optax.chain(optim.m_sharpness_aware(PERTURBATIONS["vasso"]()), optax.sgd(0.1))
    w, _ = run_with(functools.partial(ask, tx, microbatched(1)), tx)
    assert_close(w, run(optim.vasso(optax.sgd(0.1), 0.1, 0.4), params()), rtol=1e-5, atol=1e-6)


def test_each_part_descends_by_its_own_rule():
    gap = optim.surrogate_gap(0.5)
    gradient = optim.m_sharpness_aware(optim.l2_ball(0.5), descent=gap, microbatches=2)
    targets = jnp.array([[1.0, 0.0], [1.0, 3.0]])
    curvature = jnp.array([1.0, 4.0])

    def grad_fn(w, i):
        return curvature * (w - targets[i])

    w = jnp.zeros(2)
    updates, _ = gradient.update(None, gradient.init(w), w, grad_fn=grad_fn)
    each = []
    for i in range(2):
        g = grad_fn(w, i)
        each.append(gap(g, grad_fn(w + 0.5 * g / jnp.linalg.norm(g), i)))
    np.testing.assert_allclose(updates, sum(each) / 2, rtol=1e-5)


def test_a_nan_in_one_part_leaves_the_average_as_it_was():
    gradient = optim.m_sharpness_aware(PERTURBATIONS["vasso"](), microbatches=2)
    w = jnp.ones(2)
    _, before = gradient.update(None, gradient.init(w), w, grad_fn=lambda w, i: w)
    _, after = gradient.update(
        None, before, w, grad_fn=lambda w, i: jnp.where(i == 1, jnp.nan, 3 * w)
    )
    np.testing.assert_array_equal(after.perturbation[0].direction, before.perturbation[0].direction)


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_counts_out_of_range_are_refused(count):
    for make in (
        lambda: optim.sam(optax.sgd(0.1), microbatches=count),
        lambda: optim.sam(optax.sgd(0.1), refresh_every=count),
        lambda: optim.m_sharpness_aware(optim.l2_ball(0.1), microbatches=count),
        lambda: optim.looksam(optax.sgd(0.1), look_every=count),
        lambda: optim.ssam(optax.sgd(0.1), mask_every=count),
    ):
        with pytest.raises(ValueError, match="must be an integer >= 1"):
            make()


def test_a_traced_number_of_microbatches_is_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"static_args=\('microbatches',\)"):
        optax.inject_hyperparams(optim.sam)(optax.sgd(0.1), microbatches=2).init(jnp.ones(2))
