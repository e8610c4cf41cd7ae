"""Sums over all arrays of a pytree, beside NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vasso_jax.optim._numerics import inner, inners, norm_and_cosine, norm_of

DTYPES = ["float32", "bfloat16", "float16", "complex64"]
# Small arrays are joined, kernels of convolutions and large arrays are not.
SHAPES = [(), (3,), (2, 5), (4097,), (3, 3, 2, 4), (70, 90)]
trees = st.lists(
    st.tuples(st.sampled_from(SHAPES), st.sampled_from(DTYPES), st.sampled_from(DTYPES)),
    max_size=5,
)


def drawn(leaves, seed):
    """Two trees of these shapes and dtypes."""
    rng = np.random.default_rng(seed)

    def array(shape, dtype):
        x = rng.normal(size=shape) + (1j * rng.normal(size=shape) if dtype == "complex64" else 0)
        return jnp.asarray(x, dtype)

    return tuple([array(leaf[0], leaf[which]) for leaf in leaves] for which in (1, 2))


def exact(a, b):
    """The real part of the inner product, and the sum of the sizes of its terms."""
    wide = [(np.asarray(x, complex), np.asarray(y, complex)) for x, y in zip(a, b, strict=True)]
    terms = [(np.conj(x) * y).real for x, y in wide]
    return sum(map(np.sum, terms)), sum(np.sum(np.abs(t)) for t in terms)


@pytest.mark.slow
@settings(max_examples=30)  # each is compiled
@given(leaves=trees, seed=st.integers(0, 99))
def test_inner_products_of_any_arrays(leaves, seed):
    a, b = drawn(leaves, seed)
    for found, (wanted, size) in zip(
        (inner(a, b), inner(a, a), *inners((b, b), (a, b))),
        (exact(a, b), exact(a, a), exact(b, b), exact(a, b)),
        strict=True,
    ):
        assert abs(found * 2.0**48 - wanted) <= 2e-6 * size


@pytest.mark.slow
def test_inner_products_of_many_small_arrays():
    a, b = drawn([((i % 7 + 1,), "float32", "bfloat16") for i in range(203)], seed=0)
    for found, (wanted, size) in zip(
        inners((a, b), (b, b)), (exact(a, b), exact(b, b)), strict=True
    ):
        assert abs(found * 2.0**48 - wanted) <= 2e-6 * size


def test_norm_and_cosine():
    a = {"w": jnp.array([3.0, 4.0]), "b": jnp.zeros((70, 90))}
    b = {"w": jnp.array([0.0, 5.0]), "b": jnp.zeros((70, 90)).at[0, 0].set(12)}
    norm, cosine = norm_and_cosine(a, b)
    np.testing.assert_allclose([norm, cosine], [13, 20 / (5 * 13)], rtol=1e-6)
    zero = jax.tree.map(jnp.zeros_like, a)
    assert norm_and_cosine(a, zero) == (0, 0)


@pytest.mark.parametrize("size", [1e-8, 1e25])
def test_norms_far_from_one(size):
    x = {"w": jnp.array([3 * size, 4 * size])}
    np.testing.assert_allclose(norm_of(inner(x, x)), 5 * size, rtol=1e-6)
