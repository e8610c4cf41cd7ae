"""What any optax transform must do, for every recipe on every base optimizer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.optim.problems import (
    BASES,
    QUICK,
    REUSING,
    assert_close,
    assert_equal,
    batch,
    every_recipe,
    jit_counting,
    loss,
    make,
    of_recipe,
    params,
    run,
    spec,
    step,
)
from vasso_jax import optim


@pytest.mark.parametrize(
    ("recipe", "base"),
    [
        *((recipe, base) for recipe in QUICK for base in BASES),
        *(of_recipe(recipe, "adam") for recipe in REUSING if recipe not in QUICK),
    ],
)
def test_compiled_once_learns_and_keeps_its_state_in_shape(recipe, base):
    tx, w = make(recipe, base), params()
    jitted, traces = jit_counting(lambda w, s, x: step(tx, w, s, x))
    state = first = tx.init(w)
    for i in range(20):
        w, state = jitted(w, state, batch(i))
    assert len(traces) == 1
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


@pytest.mark.parametrize(
    ("recipe", "axis"),
    [
        *((recipe, axis) for recipe in QUICK for axis in (None, "x")),
        *(of_recipe(recipe, "x") for recipe in REUSING if recipe not in QUICK),
    ],
)
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


@pytest.mark.slow
@every_recipe
def test_bfloat16_parameters_keep_their_dtype_and_learn(recipe):
    w = params(jnp.bfloat16)
    moved = run(make(recipe, "sgd"), w, steps=8, dtype=jnp.bfloat16)
    assert spec(moved) == spec(w)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), (w, moved))
    assert loss(wide[1], batch()) < loss(wide[0], batch())


@pytest.mark.slow
@every_recipe
def test_float64_is_the_same_method(recipe, x64):
    w = params(jnp.float64)
    moved = run(make(recipe), w, dtype=jnp.float64)
    assert spec(moved) == spec(w)
    narrow = run(make(recipe), jax.tree.map(lambda x: x.astype(jnp.float32), w))
    assert_close(narrow, moved, rtol=1e-3, atol=1e-4)


@every_recipe
def test_a_zero_gradient_moves_nothing_and_makes_no_nan(recipe):
    tx, w = make(recipe, "sgd"), params()
    state = tx.init(w)
    zero = jax.tree.map(jnp.zeros_like, w)
    for _ in range(3):
        updates, state = tx.update(zero, state, w, grad_fn=lambda p, i: zero)
        assert_equal(updates, zero)
    passes, _, _ = optim.value_and_update(lambda w, i: 0 * loss(w, batch()), tx)(w, state)
    if passes.perturbed.taken:
        assert passes.perturbation_norm == 0
        assert jnp.isnan(passes.cosine) != passes.clean.taken


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
    expected = {
        "gsam": turned - 0.2 * clean,
        "vasso_gsam": turned - 0.2 * clean,
        "wsam": 1.5 * turned - 0.5 * clean,
        "vasso, window": clean,  # which opens at the next step
    }.get(recipe, turned)
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
