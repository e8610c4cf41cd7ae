"""ResNet for small images (He et al., arXiv 1512.03385): 3x3 stem, no max pooling.

Structure, initialisation (PyTorch's defaults) and names follow the authors' network, so weights
carry over one to one; see torch_weights.py.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vasso_jax.models.layers import (
    BatchNorm,
    conv,
    global_average_pool,
    torch_default_init,
    uniform_init,
)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; a projected shortcut where the shape changes."""

    features: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = partial(BatchNorm, dtype=self.dtype)
        block_conv = partial(conv, dtype=self.dtype, init=torch_default_init)

        y = block_conv(self.features, 3, self.stride, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(y, train))
        y = block_conv(self.features, 3, 1, name="conv2")(y)
        y = norm(name="bn2")(y, train)
        if x.shape != y.shape:
            x = block_conv(self.features, 1, self.stride, name="shortcut_conv")(x)
            x = norm(name="shortcut_bn")(x, train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet of basic blocks.

    Attributes:
        stage_sizes: blocks in each of the four stages.
        num_classes: size of the last layer.
        dtype: dtype of the arithmetic.
    """

    stage_sizes: Sequence[int]
    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] images -> [B, num_classes] float32 logits."""
        x = conv(64, 3, 1, self.dtype, torch_default_init, "conv1")(x)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(x, train))
        for stage, blocks in enumerate(self.stage_sizes):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"layer{stage + 1}_{block}"
                x = BasicBlock(64 * 2**stage, stride, self.dtype, name=name)(x, train)
        x = global_average_pool(x)
        x = nn.Dense(
            self.num_classes,
            kernel_init=torch_default_init,
            bias_init=uniform_init(x.shape[-1] ** -0.5),
            dtype=self.dtype,
            name="linear",
        )(x)
        return x.astype(jnp.float32)
