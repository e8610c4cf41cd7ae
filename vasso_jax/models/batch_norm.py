"""Batch normalisation with PyTorch's semantics."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vasso_jax.models.remat import keep


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, as `torch.nn.BatchNorm2d`.

    With `train`, it normalises by the statistics of the batch (under `jit` with a sharded batch: of
    the global batch; under `vmap`: of each batch by itself) and updates the running statistics. The
    output uses the biased variance, the running average the unbiased one; flax.linen.BatchNorm uses
    the biased one for both. In float32 on a CPU the variance is exact to about 4e-7 times the
    squared distance of mean and running mean.

    Attributes:
        momentum: weight of the new statistics in the running statistics.
        epsilon: added to the variance.
        dtype: dtype of the output; statistics are computed in at least float32.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)

        if train:
            wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            count = x.size // x.shape[-1]
            # Both sums take one pass over x. They are of deviations from the running mean, as those
            # of x itself would cancel where the mean is large. The result does not depend on it.
            center = jax.lax.stop_gradient(running_mean.value)
            center = jnp.where(jnp.isfinite(center), center, 0)
            total, squares = sums_and_squares(wide - center)
            shift, mean_square = keep(total / count), keep(squares / count)
            mean = center + shift
            var = jnp.maximum(mean_square - jnp.square(shift), 0)
            if not self.is_initializing():
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value += self.momentum * (mean - running_mean.value)
                running_var.value += self.momentum * (unbiased - running_var.value)
        else:
            mean, var = running_mean.value, running_var.value

        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        return (x * factor + (bias - mean * factor)).astype(self.dtype)


@jax.custom_jvp
def sums_and_squares(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sums of x and x**2 over all axes but the last; [..., C] -> [C], [C]."""
    # XLA:GPU takes a sum of many numbers in two kernels. Of two sums that are one operation, both
    # kernels take both; XLA:CPU would add up one number after the other, and lose digits.
    return jax.lax.platform_dependent(x, cuda=two_sums_in_one, default=_two_sums)


# `jax.lax.reduce` of several arrays has no derivative rule. The backward pass of this one needs no
# sums.
@sums_and_squares.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (x,), (dx,) = primals, tangents
    axes = _all_but_the_last(x)
    return sums_and_squares(x), (dx.sum(axes), (2 * x * dx).sum(axes))


def _two_sums(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    axes = _all_but_the_last(x)
    return x.sum(axes), jnp.square(x).sum(axes)


def two_sums_in_one(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`sums_and_squares` by one operation."""
    zero = jnp.zeros((), x.dtype)

    def add(a: Any, b: Any) -> tuple[jax.Array, jax.Array]:
        return a[0] + b[0], a[1] + b[1]

    return jax.lax.reduce((x, jnp.square(x)), (zero, zero), add, _all_but_the_last(x))


def _all_but_the_last(x: jax.Array) -> tuple[int, ...]:
    return tuple(range(x.ndim - 1))
