"""Batch normalisation with PyTorch's semantics.

Each pass takes two sums over the batch: forwards those of the deviations and of their squares,
backwards those that the gradients of scale and bias need. A GPU takes a sum over many numbers in
two kernels. Here the first one makes both sums for each image, and the second one adds up both, so
that a layer needs two kernels instead of three, and devices exchange one array instead of two.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from vasso_jax.models.remat import keep


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, as `torch.nn.BatchNorm2d`.

    With `train`, it normalises by the statistics of the batch (under `jit` with a sharded batch: of
    the global batch; under `vmap`: of each batch by itself) and updates the running statistics. The
    output uses the biased variance, the running average the unbiased one; flax.linen.BatchNorm uses
    the biased one for both. The variance is exact to about 4e-7 times the squared distance of mean
    and running mean (float32; measured with up to 131,072 numbers a channel).

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
            total, squares = _sums_and_squares(wide - center)
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
        factor, offset = _for_each_image(x, factor, bias - mean * factor)
        return (x * factor + offset).astype(self.dtype)


@jax.custom_jvp
def _sums_and_squares(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The sums of x and x**2 over all axes but the last; [..., C] -> [C], [C]."""
    axes = tuple(range(1, x.ndim - 1))
    of_images = jnp.concatenate([x.sum(axes), jnp.square(x).sum(axes)], axis=-1)
    total, squares = jnp.split(of_images.sum(0), 2)
    return total, squares


# The derivative needs no sums backwards. That of the joined sums would join what is broadcast, by a
# kernel of its own.
@_sums_and_squares.defjvp
def _(primals: Any, tangents: Any) -> Any:
    (x,), (dx,) = primals, tangents
    axes = tuple(range(x.ndim - 1))
    return _sums_and_squares(x), (dx.sum(axes), (2 * x * dx).sum(axes))


def _for_each_image(x: jax.Array, a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`a` and `b` [C] as [B, 1, .., 1, C], so that their gradients are summed as above."""
    batch, *middle, channels = x.shape
    kind = jax.typeof(x).sharding
    split = NamedSharding(kind.mesh, PartitionSpec(kind.spec[0], None))
    both = jnp.broadcast_to(jnp.concatenate([a, b]), (batch, 2 * channels), out_sharding=split)
    shape = batch, *(1 for _ in middle), channels
    a, b = (each.reshape(shape) for each in jnp.split(both, 2, axis=1))
    return a, b
