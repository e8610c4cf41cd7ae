"""The convolution of the package and that of jax.lax, and what is computed with both."""

import jax
import jax.numpy as jnp
import numpy as np

from vasso_jax.models.convolution import conv_general_dilated

ORDER = ("NHWC", "HWIO", "NHWC")


def ours(strides, padding, **kwargs):
    def conv(x, k):
        return conv_general_dilated(x, k, strides, padding, dimension_numbers=ORDER, **kwargs)

    return conv


def derived(strides, padding, **kwargs):
    def conv(x, k):
        return jax.lax.conv_general_dilated(
            x, k, strides, padding, dimension_numbers=ORDER, **kwargs
        )

    return conv


def draw(image=(8, 8), window=(3, 3), dtype="float32", batch=4, channels=3, features=5):
    """Random x [batch, *image, channels] and k [*window, channels, features]."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, *image, channels))
    k = rng.normal(size=(*window, channels, features))
    return jnp.asarray(x, dtype), jnp.asarray(k, dtype)


def gradients(conv):
    """(x, k) -> (y, dx, dk) for a dy that depends on the position."""

    @jax.jit
    def of(x, k):
        y, vjp = jax.vjp(conv, x, k)
        return y, *vjp(jnp.cos(y))

    return of


def curvatures(conv):
    """(x, k) -> the Hessian of a loss times a vector, in x and in k: reverse over reverse."""

    def slope(x, k):
        grads = jax.grad(lambda x, k: jnp.sin(conv(x, k)).sum(), (0, 1))(x, k)
        return jnp.vdot(grads[0], jnp.cos(x)) + jnp.vdot(grads[1], jnp.cos(k))

    return jax.jit(jax.grad(slope, (0, 1)))


def both_orders(conv):
    return jax.jit(lambda x, k: (*gradients(conv)(x, k), *curvatures(conv)(x, k)))


def forward_mode(conv):
    """(x, k) -> tangents of y by jvp and by linearize, and the Hessian times the same vector.

    The Hessian is that of a loss. It is taken forward over reverse, and reverse over forward.
    """

    def loss(x, k):
        return jnp.sin(conv(x, k)).sum()

    @jax.jit
    def of(x, k):
        inputs, tangents = (x, k), (jnp.cos(x), jnp.cos(k))
        dy = jax.jvp(conv, inputs, tangents)[1]
        same_dy = jax.linearize(conv, *inputs)[1](*tangents)
        products = jax.jvp(jax.grad(loss, (0, 1)), inputs, tangents)[1]
        same_products = jax.grad(lambda *at: jax.jvp(loss, at, tangents)[1], (0, 1))(*inputs)
        return dy, same_dy, *products, *same_products

    return of


def assert_equal(actual, expected, tolerance):
    """Up to rounding, relative to the largest entry: the two sides may sum in different orders."""
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * np.abs(other).max())
