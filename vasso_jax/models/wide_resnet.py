"""Wide ResNet (Zagoruyko and Komodakis, arXiv 1605.07146), without dropout.

Structure, initialisation (normal, fan-out) and names follow the authors' network, so weights carry
over one to one; see torch_weights.py.
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
    torch_default_init,
)
from vasso_jax.models.remat import rematerialized


class PreActivationBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3x3 convolutions; projects where the width changes."""

    features: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = partial(BatchNorm, dtype=self.dtype)
        block_conv = partial(conv, dtype=self.dtype, init=fan_out_normal_init)

        y = nn.relu(norm(name="bn1")(x, train))
        # Where the width changes, the shortcut branches off after the activation.
        if x.shape[-1] != self.features:
            x = block_conv(self.features, 1, self.stride, name="shortcut")(y)
        y = block_conv(self.features, 3, self.stride, name="conv1")(y)
        y = nn.relu(norm(name="bn2")(y, train))
        y = block_conv(self.features, 3, 1, name="conv2")(y)
        return x + y


class WideResNet(nn.Module):
    """WRN-depth-width.

    Attributes:
        depth: number of convolutions, 6 n + 4 with n blocks in each of the three stages.
        width: factor by which the stage widths 16, 32, 64 are multiplied.
        num_classes: size of the last layer.
        dtype: dtype of the arithmetic.
        remat: a backward pass computes the activations inside each block again instead of keeping
            them. It needs less memory and more time; results are the same.
    """

    depth: int
    width: int
    num_classes: int
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] images -> [B, num_classes] float32 logits."""
        x = conv(16, 3, 1, self.dtype, fan_out_normal_init, "conv1")(x)
        block_type = rematerialized(PreActivationBlock, self.remat, static_argnums=(2,))
        for stage in range(3):
            for block in range((self.depth - 4) // 6):
                features = 16 * 2**stage * self.width
                stride = 2 if stage > 0 and block == 0 else 1
                # With width 1 the first stage keeps 16 channels; later stages always widen.
                name = f"block{stage + 1}_{block}"
                x = block_type(features, stride, self.dtype, name=name)(x, train)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(x, train))
        x = nn.Dense(self.num_classes, kernel_init=torch_default_init, dtype=self.dtype, name="fc")(
            global_average_pool(x)
        )
        return x.astype(jnp.float32)
