"""Layers with PyTorch's semantics, shared by the convolutional networks.

Images are NHWC. Parameters and statistics are float32; `dtype` is the dtype of the arithmetic.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vasso_jax.models.convolution import conv_general_dilated

Initializer = Callable[..., jax.Array]

# PyTorch's default for convolution and linear weights: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
torch_default_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
# torch.nn.init.kaiming_normal_(mode="fan_out"): N(0, 2/fan_out), not truncated.
fan_out_normal_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


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
