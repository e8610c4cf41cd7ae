"""The balls: projections, and the directions in which a linear loss grows most."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vasso_jax.sharpness import norms, trees

# XLA takes subnormal numbers for zero.
numbers = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)


@settings(max_examples=40)
@given(
    z=st.lists(numbers, min_size=6, max_size=6),
    other=st.lists(numbers, min_size=6, max_size=6),
    radius=st.floats(0.0009765625, 100, width=32),
    norm=st.sampled_from(["l2", "linf"]),
)
def test_the_projection_is_the_nearest_point_of_the_ball(z, other, radius, norm):
    z, other = (np.array(x, np.float32).reshape(2, 3) for x in (z, other))

    def length(x):
        return np.linalg.norm(x.ravel().astype(np.float64), ord=2 if norm == "l2" else np.inf)

    y = np.asarray(norms.project({"z": z}, radius, norm)["z"])
    assert length(y) <= radius * (1 + 1e-6)
    np.testing.assert_allclose(norms.size({"z": y}, norm), length(y), rtol=1e-6)
    if length(z) < radius * (1 - 1e-6):
        np.testing.assert_array_equal(y, z)
    # No other point of the ball is on the side of z: <z - y, x - y> <= 0 for all of these.
    x = other * min(1, radius / max(length(other), 1e-30))
    slack = 1e-5 * np.abs(z - y).sum() * (np.abs(x).max() + np.abs(y).max())
    assert ((z - y).astype(np.float64) * (x - y)).sum() <= slack


def test_the_steepest_direction_has_norm_1_and_the_slope_of_the_dual_norm():
    g = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[-4.0]])}
    for norm, expected in (("l2", 5.0), ("linf", 7.0)):
        assert float(norms.size(norms.steepest(g, norm), norm)) == 1.0
        assert float(norms.slope(g, norm)) == pytest.approx(expected)
    zero = jax.tree.map(jnp.zeros_like, g)
    assert float(norms.size(norms.steepest(zero, "l2"), "l2")) == 0.0


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_norms_neither_overflow_nor_vanish(scale):
    z = {"a": jnp.array([3.0]) * scale, "b": jnp.array([[0.0, 4.0]]) * scale}
    np.testing.assert_allclose(trees.norm(z), 5 * scale, rtol=1e-6)
    np.testing.assert_allclose(trees.unit(z)["b"], [[0, 0.8]], rtol=1e-6)
    inside = norms.project(z, 2.5 * scale, "l2")
    np.testing.assert_allclose(inside["a"], [1.5 * scale], rtol=1e-6)
