"""Inside optax's wrappers, JAX's transformations and a checkpoint, for every recipe."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from tests.optim.problems import (
    REUSING,
    assert_close,
    assert_equal,
    batch,
    every_kind,
    jit_counting,
    loss,
    make,
    params,
    run,
    spec,
    step,
)
from vasso_jax import optim

pytestmark = pytest.mark.slow


@every_kind
def test_inside_a_chain_what_follows_sees_its_updates(recipe):
    tx = optax.chain(make(recipe, "sgd"), optax.scale(2.0))
    w = params()
    once, _ = step(make(recipe, "sgd"), w, make(recipe, "sgd").init(w), batch())
    twice, _ = step(tx, w, tx.init(w), batch())
    assert_close(
        jax.tree.map(jnp.subtract, twice, w),
        jax.tree.map(lambda a, b: 2 * (a - b), once, w),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("recipe", "numbers"),
    [
        (optim.sam, {"rho": 0.1}),
        (optim.vasso, {"rho": 0.1, "theta": 0.4}),
        (optim.asam, {"rho": 0.1, "eta": 0.01}),
        (optim.vasso_asam, {"rho": 0.1, "theta": 0.4}),
        (optim.friendly_sam, {"rho": 0.1, "theta": 0.4, "sigma": 1.0}),
        (optim.gsam, {"rho": 0.1, "alpha": 0.4}),
        (optim.vasso_gsam, {"rho": 0.1, "theta": 0.4, "alpha": 0.2}),
        (optim.looksam, {"rho": 0.1, "alpha": 0.4}),
        (optim.ssam, {"rho": 0.1}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_hyperparameters_as_state(recipe, numbers):
    tx, w = optax.inject_hyperparams(recipe)(optax.sgd(0.1), **numbers), params()
    state = tx.init(w)
    jitted, traces = jit_counting(lambda w, s: step(tx, w, s, batch()))
    for name, value in numbers.items():
        np.testing.assert_allclose(state.hyperparams[name], value)
    fixed = recipe(optax.sgd(0.1), **numbers)
    assert_close(
        jitted(w, state)[0], step(fixed, w, fixed.init(w), batch())[0], rtol=1e-5, atol=1e-6
    )
    for _ in range(2):
        _, state = jitted(w, state)
    traced = len(traces)
    state.hyperparams["rho"] = jnp.zeros_like(state.hyperparams["rho"])
    _, state = jitted(w, state)
    passes, _, _ = optim.value_and_update(loss_on_batch, tx)(w, state)
    assert passes.perturbation_norm == 0 or not passes.perturbed.taken
    assert len(traces) == traced


SCHEDULED = {
    "sam": (optim.sam, {"rho": 0.2}),
    "vasso": (optim.vasso, {"rho": 0.2, "theta": 0.4}),
    "asam": (optim.asam, {"rho": 0.5}),
    "vasso_asam": (optim.vasso_asam, {"rho": 0.5, "theta": 0.4}),
    "friendly_sam": (optim.friendly_sam, {"rho": 0.2, "theta": 0.4, "sigma": 0.7}),
    "gsam": (optim.gsam, {"rho": 0.2}),
    "vasso_gsam": (optim.vasso_gsam, {"rho": 0.2, "theta": 0.4}),
    "looksam": (functools.partial(optim.looksam, look_every=2), {"rho": 0.2, "alpha": 0.7}),
    "ssam": (optim.ssam, {"rho": 0.2}),
}


@pytest.mark.parametrize("recipe", SCHEDULED)
def test_hyperparameters_follow_schedules_of_the_step(recipe):
    make_with, numbers = SCHEDULED[recipe]
    schedules = {
        name: optax.piecewise_constant_schedule(value, {3: 0.5}) for name, value in numbers.items()
    }
    scheduled = make_with(optax.sgd(0.02), **schedules)
    before = make_with(optax.sgd(0.02), **numbers)
    after = make_with(optax.sgd(0.02), **{name: value / 2 for name, value in numbers.items()})
    w, state = params(), scheduled.init(params())
    expected, expected_state = params(), before.init(params())
    jitted = [jax.jit(functools.partial(step, tx)) for tx in (scheduled, before, after)]
    for t in range(5):
        w, state = jitted[0](w, state, batch(t))
        expected, expected_state = jitted[1 if t < 3 else 2](expected, expected_state, batch(t))
    # Schedules are read at the same step by all parts, whatever their own counts.
    assert_close(w, expected, rtol=1e-4, atol=1e-5)
    unscheduled = run(before, params(), steps=5)
    assert jnp.any(jnp.abs(unscheduled["w"] - w["w"]) > 1e-5)


@every_kind
def test_multi_steps_accumulates_the_clean_gradient(recipe):
    tx, w = optax.MultiSteps(make(recipe), 2), params()
    state = tx.init(w)
    one, state = step(tx, w, state, batch())
    assert_equal(one, w)
    two, state = step(tx, one, state, batch())
    assert_close(two, run(make(recipe), w, steps=1), rtol=1e-5, atol=1e-6)


MINE = {"w": True, "b": False, "scale": False, "empty": False, "none": None}


@every_kind
def test_masked_perturbs_and_moves_its_own_parameters_only(recipe):
    w = params()
    others = jax.tree.map(lambda mine: not mine, MINE)
    tx = optax.chain(
        optax.masked(make(recipe, "sgd"), MINE), optax.masked(optax.set_to_zero(), others)
    )
    whole = REUSING[recipe](optax.sgd(0.1), mask=MINE)
    _, updates, _ = jax.jit(optim.value_and_update(loss_on_batch, tx))(w, tx.init(w))
    _, expected, _ = jax.jit(optim.value_and_update(loss_on_batch, whole))(w, whole.init(w))
    assert_equal(updates["b"], jnp.zeros(3))
    # GSAM projects, and SSAM counts, over the parameters that it has.
    if recipe not in ("gsam", "vasso_gsam", "ssam"):
        assert_close(updates["w"], expected["w"], rtol=1e-5, atol=1e-7)
    assert jnp.any(updates["w"] != 0)


@every_kind
def test_partition_gives_each_part_its_own_optimizer(recipe):
    w = params()
    labels = jax.tree.map(lambda mine: "sharp" if mine else "plain", MINE)
    tx = optax.partition({"sharp": make(recipe, "sgd"), "plain": optax.sgd(0.1)}, labels)
    alone = optax.masked(make(recipe, "sgd"), MINE)
    _, updates, _ = jax.jit(optim.value_and_update(loss_on_batch, tx))(w, tx.init(w))
    _, expected, _ = jax.jit(optim.value_and_update(loss_on_batch, alone))(w, alone.init(w))
    assert_close(updates["w"], expected["w"], rtol=1e-5, atol=1e-7)
    assert_close(updates["b"], -0.1 * jax.grad(loss)(w, batch())["b"], rtol=1e-5)


def loss_on_batch(w, i):
    return loss(w, batch())


@every_kind
def test_vmap_over_seeds(recipe):
    tx = make(recipe)
    seeds = jnp.stack([batch(0), batch(1)])
    w = params()
    state = jax.vmap(lambda _: tx.init(w))(jnp.arange(2))
    many = jax.tree.map(lambda x: jnp.stack([x, x]), w)
    for _ in range(3):
        many, state = jax.jit(jax.vmap(functools.partial(step, tx)))(many, state, seeds)
    for i in range(2):
        one, state = w, tx.init(w)
        for _ in range(3):
            one, state = step(tx, one, state, seeds[i])
        assert_close(jax.tree.map(lambda x, i=i: x[i], many), one, rtol=1e-4, atol=1e-5)


@every_kind
def test_scan_over_steps(recipe):
    tx, w = make(recipe), params()
    batches = jnp.stack([batch(i) for i in range(4)])
    (scanned, _), _ = jax.lax.scan(
        lambda carry, x: (step(tx, *carry, x), None), (w, tx.init(w)), batches
    )
    assert_close(scanned, run(tx, w), rtol=1e-5, atol=1e-6)


@every_kind
def test_cond_around_a_step(recipe):
    tx, w = make(recipe), params()
    state = tx.init(w)
    guarded = jax.jit(
        lambda take: jax.lax.cond(take, lambda: step(tx, w, state, batch()), lambda: (w, state))
    )
    assert_equal(guarded(False), (w, state))
    assert_close(guarded(True)[0], run(tx, w, steps=1), rtol=1e-5, atol=1e-6)


@every_kind
def test_map_params_finds_what_is_shaped_like_the_parameters(recipe):
    tx, w = make(recipe, "adam"), params()
    state = tx.init(w)
    marked = optax.tree.map_params(tx, lambda _: "p", state, transform_non_params=lambda _: "n")
    marks = jax.tree.leaves(marked)
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    # Of the four leaves of the parameters, only the scalar looks like something else.
    assert all(mark == "p" for mark, shape in zip(marks, shapes, strict=True) if shape)
    assert marks.count("p") == 4 * shapes.count((8, 3))
    assert "n" in marks


@every_kind
def test_saved_and_restored_by_orbax(recipe, tmp_path):
    tx, w = make(recipe), params()
    del w["empty"]  # orbax refuses arrays of size zero
    w, state = step(tx, w, tx.init(w), batch())
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "saved", (w, state))
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(
            tmp_path / "saved", jax.tree.map(jnp.zeros_like, (w, state))
        )
    assert spec(restored) == spec((w, state))
    assert_equal(step(tx, *restored, batch(1)), step(tx, w, state, batch(1)))
