"""ResNet (He et al., arXiv 1512.03385), for small images or (`imagenet`) in torchvision's form.

For small images, structure, initialisation (PyTorch's defaults) and names follow the authors'
network: 3x3 stem, no max pooling. torchvision's form (its "v1.5") has a 7x7 stem of stride 2 and
max pooling. Weights of both carry over one to one; see torch_weights.py.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vasso_jax.models.batch_norm import BatchNorm
from vasso_jax.models.layers import (
    Initializer,
    conv,
    fan_out_normal_init,
    global_average_pool,
    torch_default_init,
    torch_linear,
)
from vasso_jax.models.remat import rematerialized


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, or a bottleneck; a projected shortcut where the shape changes.

    Attributes:
        features: width of the 3x3 convolutions; a bottleneck returns four times as many.
        stride: of the first 3x3 convolution.
        bottleneck: 1x1, 3x3, 1x1 rather than 3x3, 3x3.
        kernel_init: of the convolutions.
        dtype: dtype of the arithmetic.
    """

    features: int
    stride: int
    bottleneck: bool
    kernel_init: Initializer
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        norm = partial(BatchNorm, dtype=self.dtype)
        block_conv = partial(conv, dtype=self.dtype, init=self.kernel_init)

        layers = [(self.features, 3, self.stride), (self.features, 3, 1)]
        if self.bottleneck:
            layers = [(self.features, 1, 1), layers[0], (4 * self.features, 1, 1)]
        y = x
        for i, layer in enumerate(layers, 1):
            y = norm(name=f"bn{i}")(block_conv(*layer, name=f"conv{i}")(y), train)
            y = nn.relu(y) if i < len(layers) else y
        if x.shape != y.shape:
            x = block_conv(y.shape[-1], 1, self.stride, name="shortcut_conv")(x)
            x = norm(name="shortcut_bn")(x, train)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet of basic or bottleneck blocks.

    Attributes:
        stage_sizes: blocks in each stage; the width starts at 64 and doubles with every stage.
        num_classes: size of the last layer.
        bottleneck: bottleneck blocks, as in ResNet-50 and deeper.
        imagenet: use torchvision's stem and initialisation instead of those for small images.
        dtype: dtype of the arithmetic.
        remat: a backward pass computes the activations inside each block again instead of keeping
            them. It needs less memory and more time; results are the same.
    """

    stage_sizes: Sequence[int]
    num_classes: int
    bottleneck: bool = False
    imagenet: bool = False
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] images -> [B, num_classes] float32 logits."""
        init = fan_out_normal_init if self.imagenet else torch_default_init
        size, stride = (7, 2) if self.imagenet else (3, 1)
        x = conv(64, size, stride, self.dtype, init, "conv1")(x)
        x = nn.relu(BatchNorm(dtype=self.dtype, name="bn1")(x, train))
        if self.imagenet:
            padding: Any = ((1, 1), (1, 1))  # flax annotates padding as str only
            x = nn.max_pool(x, (3, 3), (2, 2), padding)
        block_type = rematerialized(ResidualBlock, self.remat, static_argnums=(2,))
        for stage, blocks in enumerate(self.stage_sizes):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                x = block_type(
                    64 * 2**stage,
                    stride,
                    self.bottleneck,
                    init,
                    self.dtype,
                    name=f"layer{stage + 1}_{block}",
                )(x, train)
        x = global_average_pool(x)
        x = torch_linear(self.num_classes, x.shape[-1], self.dtype, "linear")(x)
        return x.astype(jnp.float32)
