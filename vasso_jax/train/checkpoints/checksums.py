"""The checksum of an array, which does not depend on how it lies on devices.

The elements b_i, as unsigned integers of 32 bits, are mixed with their linear index i and summed:

    sum_i h(b_i + i g)  modulo 2^32

h is the finalizer of MurmurHash3, a bijection, and g is odd. So the sum differs whenever exactly
one element does; other changes go unnoticed once in 2^32. Integers are summed to the same value in
every order, so on any number of devices and processes.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

_GOLDEN = np.uint32(0x9E3779B9)  # 2^32 over the golden ratio


def survey(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What is to be known of an array, in one pass over it; to be jitted.

    Args:
        x: of any shape and dtype. A typed PRNG key counts as its data.

    Returns:
        Its checksum, a uint32 scalar, and another: 1 if an element is NaN, plus 2 if one is
        infinite.
    """
    bits = _as_uint32(x)
    index = jnp.zeros((), jnp.uint32)
    # Not of the flat array: to flatten one that is spread over devices would gather it.
    for axis in range(bits.ndim):
        stride = np.uint32(math.prod(bits.shape[axis + 1 :]) % 2**32)
        index += stride * jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
    flags = jnp.zeros(x.shape, jnp.uint32)
    if jnp.issubdtype(x.dtype, jnp.inexact):
        flags = jnp.isnan(x) + 2 * jnp.isinf(x).astype(jnp.uint32)
    halves = (1,) * (bits.ndim - x.ndim)
    operands = _mix(bits + _GOLDEN * index), flags.reshape(x.shape + halves)
    zero = np.uint32(0)
    # Not two reductions: XLA for CPUs would write down the operands of each.
    return jax.lax.reduce(
        tuple(jnp.broadcast_arrays(*operands)),
        (zero, zero),
        lambda left, right: (left[0] + right[0], left[1] | right[1]),
        tuple(range(bits.ndim)),
    )


def _as_uint32(x: jax.Array) -> jax.Array:
    """The bits of each element; of 64 bits as two halves, along a further axis."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if x.dtype == jnp.bool:
        return x.astype(jnp.uint32)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag], axis=-1)
    info = jnp.finfo if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo
    bits = min(info(x.dtype).bits, 32)
    return jax.lax.bitcast_convert_type(x, f"uint{bits}").astype(jnp.uint32)


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of the 32-bit integers, by which each bit of the result depends on all of `x`."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
