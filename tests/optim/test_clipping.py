"""Clipping by the norm over all arrays: as optax's, for any arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vasso_jax.optim import clip_by_global_norm


@pytest.mark.slow
@given(
    sizes=st.lists(st.sampled_from([1, 3, 5000]), min_size=1, max_size=4),
    norm=st.floats(1e-3, 1e3),
    bound=st.floats(1e-3, 1e3),
    seed=st.integers(0, 99),
)
def test_it_is_that_of_optax(sizes, norm, bound, seed):
    rng = np.random.default_rng(seed)
    tree = [rng.normal(size=n).astype(np.float32) for n in sizes]
    tree = jax.tree.map(lambda x: x * (norm / optax.tree.norm(tree)), tree)
    found, wanted = (
        clip(bound).update(tree, ())[0] for clip in (clip_by_global_norm, optax.clip_by_global_norm)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), found, wanted)


def test_what_is_within_the_bound_keeps_its_bits_and_dtype():
    tree = {"w": jnp.array([0.3, 0.1], jnp.bfloat16), "b": jnp.array([0.7])}
    found, _ = clip_by_global_norm(1.0).update(tree, ())
    jax.tree.map(np.testing.assert_array_equal, found, tree)
    assert found["w"].dtype == jnp.bfloat16


@pytest.mark.parametrize("number", [jnp.nan, jnp.inf, 1e30])
def test_what_is_not_finite_is_as_in_optax(number):
    tree = {"w": jnp.array([number, 1]), "b": jnp.ones(2)}
    found, wanted = (
        clip(1.0).update(tree, ())[0] for clip in (clip_by_global_norm, optax.clip_by_global_norm)
    )
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_the_bound_can_be_a_hyperparameter():
    tx = optax.inject_hyperparams(clip_by_global_norm)(max_norm=1.0)
    updates = {"w": jnp.array([3.0, 4.0])}
    found, _ = jax.jit(tx.update)(updates, tx.init(updates))
    np.testing.assert_allclose(found["w"], [0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize("bound", [-1.0, float("nan"), float("inf"), "1", lambda step: 1.0])
def test_a_bound_that_is_none_is_refused(bound):
    with pytest.raises(ValueError, match=r"max_norm must be a number >= 0.0, got"):
        clip_by_global_norm(bound)
