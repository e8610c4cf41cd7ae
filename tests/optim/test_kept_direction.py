"""The direction that an optimizer keeps, found in its state, and the cosine between two of them."""

import jax.numpy as jnp
import numpy as np
import optax
from hypothesis import given
from hypothesis import strategies as st

from vasso_jax import optim


def test_the_kept_direction_is_found_in_any_state():
    w, g = {"a": jnp.ones(3)}, {"a": jnp.array([1.0, 2.0, 2.0])}
    kept = optax.chain(optim.suppress_variance(0.5), optim.l2_ball(0.1))
    for tx in (
        optim.vasso(optax.adam(0.1)),
        optax.chain(optim.sharpness_aware(kept), optax.sgd(0.1)),
        optax.named_chain(("first", optim.vasso(optax.sgd(0.1))), ("then", optax.scale(1.0))),
    ):
        state = tx.init(w)
        assert not optim.kept_direction(state)["a"].any()
        _, state = tx.update(g, state, w, grad_fn=lambda w, i: g)
        np.testing.assert_array_equal(optim.kept_direction(state)["a"], g["a"])
    assert optim.kept_direction(optim.sam(optax.sgd(0.1)).init(w)) is None


@given(st.integers(0, 2**31 - 1), st.sampled_from(["float32", "bfloat16"]))
def test_the_cosine_is_that_of_two_vectors(seed, dtype):
    a, b = np.random.default_rng(seed).normal(size=(2, 7)).astype(np.float32)
    a, b = ({"x": jnp.array(v[:3], dtype), "y": jnp.array(v[3:], dtype)} for v in (a, b))
    flat = [np.concatenate([np.asarray(t[k], np.float64) for k in "xy"]) for t in (a, b)]
    expected = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    np.testing.assert_allclose(optim.cosine(a, b), expected, rtol=1e-4, atol=1e-5)
    assert optim.cosine(a, {k: 0 * v for k, v in b.items()}) == 0
