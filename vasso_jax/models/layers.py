"""Layers with PyTorch's semantics, shared by the convolutional networks.

Images are NHWC. Parameters and statistics are float32; `dtype` is the dtype of the arithmetic.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vasso_jax.models.convolution import conv_general_dilated
from vasso_jax.models.remat import keep

Initializer = Callable[..., jax.Array]

# PyTorch's default for convolution and linear weights: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
torch_default_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
# torch.nn.init.kaiming_normal_(mode="fan_out"): N(0, 2/fan_out), not truncated.
fan_out_normal_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, as `torch.nn.BatchNorm2d`.

    With `train`, it normalises by the statistics of the batch (under `jit` with a sharded batch: of
    the global batch; under `vmap`: of each batch by itself) and updates the running statistics. The
    output uses the biased variance, the running average the unbiased one; flax.linen.BatchNorm uses
    the biased one for both. The variance is exact to about 1e-7 times the squared distance of mean
    and running mean.

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
            axes = tuple(range(x.ndim - 1))
            count = x.size // x.shape[-1]
            # Both sums take one pass over x. They are of deviations from the running mean, as those
            # of x itself would cancel where the mean is large. The result does not depend on it.
            center = jax.lax.stop_gradient(running_mean.value)
            center = jnp.where(jnp.isfinite(center), center, 0)
            deviation = wide - center
            shift = keep(deviation.mean(axes))
            mean = center + shift
            mean_square = keep(jnp.square(deviation).mean(axes))
            var = jnp.maximum(mean_square - jnp.square(shift), 0)
            if not self.is_initializing():
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value += self.momentum * (mean - running_mean.value)
                running_var.value += self.momentum * (unbiased - running_var.value)
        else:
            mean, var = running_mean.value, running_var.value

        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        return (x * factor + (bias - mean * factor)).astype(self.dtype)


def conv(
    features: int,
    size: int,
    stride: int,
    dtype: Any,
    init: Initializer,
    name: str,
    use_bias: bool = False,
) -> nn.Conv:
    """A convolution with a square kernel of odd size and symmetric padding, as in PyTorch."""
    pad = (size - 1) // 2
    return nn.Conv(
        features,
        (size, size),
        strides=(stride, stride),
        padding=((pad, pad), (pad, pad)),
        use_bias=use_bias,
        kernel_init=init,
        dtype=dtype,
        conv_general_dilated=conv_general_dilated,
        name=name,
    )


def global_average_pool(x: jax.Array) -> jax.Array:
    """[B, H, W, C] -> [B, C], the mean over all positions."""
    return x.mean(axis=(1, 2))


def torch_linear(features: int, fan_in: int, dtype: Any, name: str) -> nn.Dense:
    """A dense layer with PyTorch's initialisation: all of it U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = fan_in**-0.5

    def bias_init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nn.Dense(
        features, kernel_init=torch_default_init, bias_init=bias_init, dtype=dtype, name=name
    )
