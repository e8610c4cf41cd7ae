"""PyramidNet (Han et al., arXiv 1610.02915) of basic blocks, for small images.

Structure, initialisation (normal, fan-out) and names follow the PyTorch code of its authors, so
weights carry over one to one; see torch_weights.py.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vasso_jax.models.batch_norm import BatchNorm
from vasso_jax.models.layers import (
    conv,
    fan_out_normal_init,
    global_average_pool,
    torch_linear,
)
from vasso_jax.models.remat import rematerialized


class PyramidBlock(nn.Module):
    """BatchNorm around two 3x3 convolutions, one ReLU between; the shortcut has no parameters."""

    features: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = partial(BatchNorm, dtype=self.dtype)
        block_conv = partial(conv, dtype=self.dtype, init=fan_out_normal_init)

        y = norm(name="bn1")(x, train)
        y = block_conv(self.features, 3, self.stride, name="conv1")(y)
        y = nn.relu(norm(name="bn2")(y, train))
        y = block_conv(self.features, 3, 1, name="conv2")(y)
        y = norm(name="bn3")(y, train)
        if self.stride > 1:
            # An odd last row or column is averaged alone, so that sizes match the convolution.
            padding: Any = [(0, -size % self.stride) for size in x.shape[1:3]]
            window = (self.stride, self.stride)
            x = nn.avg_pool(x, window, window, padding, count_include_pad=False)
        # The shortcut's missing channels are zero.
        return y + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))


class PyramidNet(nn.Module):
    """PyramidNet-depth with widening factor alpha.

    Attributes:
        depth: number of layers, 6 n + 2 with n blocks in each of the three stages.
        alpha: the width grows from 16 to 16 + alpha, by the same amount in each block.
        num_classes: size of the last layer.
        dtype: dtype of the arithmetic.
        remat: a backward pass computes the activations inside each block again instead of keeping
            them. It needs less memory and more time; results are the same.
    """

    depth: int
    alpha: int
    num_classes: int
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] images -> [B, num_classes] float32 logits."""
        x = conv(16, 3, 1, self.dtype, fan_out_normal_init, "conv1")(x)
        x = BatchNorm(dtype=self.dtype, name="bn1")(x, train)
        block_type = rematerialized(PyramidBlock, self.remat, static_argnums=(2,))
        blocks = (self.depth - 2) // 6
        width = 16.0
        for stage in range(3):
            for block in range(blocks):
                # Rounded to nearest as in its authors' code, so that weights fit; the paper floors.
                width += self.alpha / (3 * blocks)
                stride = 2 if stage > 0 and block == 0 else 1
                name = f"layer{stage + 1}_{block}"
                x = block_type(round(width), stride, self.dtype, name=name)(x, train)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="bn_final")(x, train))
        x = global_average_pool(x)
        x = torch_linear(self.num_classes, x.shape[-1], self.dtype, "fc")(x)
        return x.astype(jnp.float32)
