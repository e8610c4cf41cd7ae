"""What any optax transform must do, for every recipe on every base optimizer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.optim.problems import (
    BASES,
    REUSING,
    assert_close,
    assert_equal,
    batch,
    loss,
    params,
    run,
    spec,
    step,
)
from vasso_jax import optim

every_recipe = pytest.mark.parametrize("recipe", REUSING)
every_base = pytest.mark.parametrize("base", BASES)


def make(recipe, base="momentum", **options):
    return REUSING[recipe](BASES[base](), **options)


@every_base
@every_recipe
def test_compiled_once_learns_and_keeps_its_state_in_shape(recipe, base):
    tx, w = make(recipe, base), params()
    jitted = jax.jit(lambda w, s, x: step(tx, w, s, x))
    state = first = tx.init(w)
    for i in range(20):
        w, state = jitted(w, state, batch(i))
    assert jitted._cache_size() == 1
    assert spec(state) == spec(first)
    assert spec(w) == spec(params())
    assert loss(w, batch()) < loss(params(), batch())


@every_recipe
def test_jitted_and_eager_steps_agree(recipe):
    tx, w = make(recipe), params()
    eager, _ = step(tx, w, tx.init(w), batch())
    assert_close(eager, run(tx, w, steps=1), rtol=1e-5, atol=1e-6)


@every_recipe
def test_a_fresh_state_can_be_donated(recipe):
    tx, w = make(recipe), params()
    donating = jax.jit(functools.partial(step, tx), donate_argnums=(0, 1))
    state = tx.init(w)
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.size]
    assert len(set(buffers)) == len(buffers)
    donating(w, state, batch())


@every_recipe
def test_unknown_extra_arguments_are_accepted(recipe):
    tx, w = make(recipe), params()
    grads = jax.grad(loss)(w, batch())
    updates, _ = tx.update(
        grads, tx.init(w), w, grad_fn=lambda p, i: jax.grad(loss)(p, batch()), value=1.0, other=None
    )
    assert spec(updates) == spec(w)


@pytest.mark.parametrize("axis", [None, "x"], ids=["replicated", "sharded"])
@every_recipe
def test_the_state_is_sharded_as_the_parameters_and_stays_so(recipe, axis):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    everywhere = NamedSharding(mesh, PartitionSpec())
    sharded = NamedSharding(mesh, PartitionSpec(axis))
    w = jax.device_put(params(), everywhere)
    w["w"] = jax.device_put(w["w"], sharded)
    tx = make(recipe, "adam")
    state = tx.init(w)
    moved, new_state = jax.jit(lambda w, s, x: step(tx, w, s, x))(w, state, batch())
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(new_state), strict=True):
        if old.shape == (8, 3):
            assert old.sharding.is_equivalent_to(sharded, 2)
            assert new.sharding.is_equivalent_to(sharded, 2)
        assert new.sharding.is_fully_replicated or old.shape == (8, 3)
    assert moved["w"].sharding.is_equivalent_to(sharded, 2)
    assert_close(moved, run(tx, params(), steps=1), rtol=1e-4, atol=1e-6)


@every_recipe
def test_bfloat16_parameters_keep_their_dtype_and_learn(recipe):
    w = params(jnp.bfloat16)
    moved = run(make(recipe, "sgd"), w, steps=8, dtype=jnp.bfloat16)
    assert spec(moved) == spec(w)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), (w, moved))
    assert loss(wide[1], batch()) < loss(wide[0], batch())


@every_recipe
def test_float64_is_the_same_method(recipe, x64):
    w = params(jnp.float64)
    moved = run(make(recipe), w, dtype=jnp.float64)
    assert spec(moved) == spec(w)
    narrow = run(make(recipe), jax.tree.map(lambda x: x.astype(jnp.float32), w))
    assert_close(narrow, moved, rtol=1e-3, atol=1e-4)


@every_recipe
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
    jitted = jax.jit(lambda w, s: step(tx, w, s, batch()))
    for name, value in numbers.items():
        np.testing.assert_allclose(state.hyperparams[name], value)
    fixed = recipe(optax.sgd(0.1), **numbers)
    assert_close(
        jitted(w, state)[0], step(fixed, w, fixed.init(w), batch())[0], rtol=1e-5, atol=1e-6
    )
    for _ in range(2):
        _, state = jitted(w, state)
    compiled = jitted._cache_size()
    state.hyperparams["rho"] = jnp.zeros_like(state.hyperparams["rho"])
    _, state = jitted(w, state)
    assert optax.tree.get(state, "perturbation_norm") == 0
    assert jitted._cache_size() == compiled


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


@every_recipe
def test_multi_steps_accumulates_the_clean_gradient(recipe):
    tx, w = optax.MultiSteps(make(recipe), 2), params()
    state = tx.init(w)
    one, state = step(tx, w, state, batch())
    assert_equal(one, w)
    two, state = step(tx, one, state, batch())
    assert_close(two, run(make(recipe), w, steps=1), rtol=1e-5, atol=1e-6)


MINE = {"w": True, "b": False, "scale": False, "empty": False, "none": None}


@every_recipe
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


@every_recipe
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


@every_recipe
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


@every_recipe
def test_scan_over_steps(recipe):
    tx, w = make(recipe), params()
    batches = jnp.stack([batch(i) for i in range(4)])
    (scanned, _), _ = jax.lax.scan(
        lambda carry, x: (step(tx, *carry, x), None), (w, tx.init(w)), batches
    )
    assert_close(scanned, run(tx, w), rtol=1e-5, atol=1e-6)


@every_recipe
def test_cond_around_a_step(recipe):
    tx, w = make(recipe), params()
    state = tx.init(w)
    guarded = jax.jit(
        lambda take: jax.lax.cond(take, lambda: step(tx, w, state, batch()), lambda: (w, state))
    )
    assert_equal(guarded(False), (w, state))
    assert_close(guarded(True)[0], run(tx, w, steps=1), rtol=1e-5, atol=1e-6)


@every_recipe
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


@every_recipe
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


@every_recipe
def test_a_zero_gradient_moves_nothing_and_makes_no_nan(recipe):
    tx, w = make(recipe, "sgd"), params()
    state = tx.init(w)
    zero = jax.tree.map(jnp.zeros_like, w)
    for _ in range(3):
        updates, state = tx.update(zero, state, w, grad_fn=lambda p, i: zero)
        assert_equal(updates, zero)
    assert optax.tree.get(state, "perturbation_norm") == 0
    assert optax.tree.get(state, "cosine") == 0


@every_recipe
def test_a_nan_gradient_leaves_every_memory_as_it_was(recipe):
    tx, w = make(recipe, "sgd"), params()
    _, state = step(tx, w, tx.init(w), batch())
    nan = jax.tree.map(lambda p: p * jnp.nan, w)
    kept = state
    for _ in range(2):
        _, state = tx.update(nan, state, w, grad_fn=lambda p, i: nan)
    memories = [(s[0].perturbation, s[0].memory) for s in (kept, state)]
    for old, new in zip(*map(jax.tree.leaves, memories), strict=True):
        if jnp.ndim(old):
            np.testing.assert_array_equal(new, old)
    for _ in range(2):
        moved, state = step(tx, w, state, batch())
        assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(moved))


@every_recipe
def test_an_empty_tree(recipe):
    tx = make(recipe)
    updates, _ = tx.update({}, tx.init({}), {}, grad_fn=lambda p, i: {})
    assert updates == {}


@every_recipe
def test_a_gradient_orthogonal_to_the_clean_one(recipe):
    # The perturbed gradient turns by exactly 90 degrees: every projection on the other vanishes.
    tx, w = make(recipe, "sgd"), jnp.zeros(2)
    state = tx.init(w)
    clean, turned = jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])
    updates, state = tx.update(clean, state, w, grad_fn=lambda p, i: turned)
    expected = turned - 0.2 * clean if "gsam" in recipe else turned
    np.testing.assert_allclose(updates, -0.1 * expected, atol=1e-7)


@every_recipe
def test_missing_arguments_are_named(recipe):
    tx, w = make(recipe), params()
    with pytest.raises(ValueError, match="needs grad_fn"):
        tx.update(w, tx.init(w), w)
    with pytest.raises(ValueError, match="needs params"):
        tx.update(w, tx.init(w), grad_fn=lambda p, i: p)
    with pytest.raises(TypeError, match=r"base must be an optax transform.*0\.1"):
        REUSING[recipe](0.1)
