"""VGG with BatchNorm (Simonyan and Zisserman, arXiv 1409.1556).

Structure and names follow the authors' network, whose classifier takes 512 features: an image of
32x32 is reduced to one position, and a larger image is averaged over its positions. Layers are
numbered as in PyTorch's `Sequential`, so weights carry over one to one; see torch_weights.py.
Initialisation is torchvision's.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vasso_jax.models.batch_norm import BatchNorm
from vasso_jax.models.layers import conv, fan_out_normal_init, global_average_pool
from vasso_jax.models.remat import rematerialized


class VGG(nn.Module):
    """VGG-BN: five stages of 3x3 convolutions, each halving the image, then three dense layers.

    Attributes:
        stage_sizes: convolutions in each stage; widths are 64, 128, 256, 512, 512.
        num_classes: size of the last layer.
        dropout_rate: dropout rate of the two hidden dense layers. Units are dropped only with
            `train` and a `dropout` rng.
        hidden: width of the two hidden dense layers.
        dtype: dtype of the arithmetic.
        remat: a backward pass computes the activations inside each stage again instead of keeping
            them. It needs less memory and more time; results are the same.
    """

    stage_sizes: Sequence[int]
    num_classes: int
    dropout_rate: float = 0.5
    hidden: int = 4096
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] images -> [B, num_classes] float32 logits.

        Raises:
            ValueError: the image is too small to be halved in every stage.
        """
        if min(x.shape[1:3]) < 2 ** len(self.stage_sizes):
            raise ValueError(
                f"VGG halves the image {len(self.stage_sizes)} times and needs one of at least "
                f"{2 ** len(self.stage_sizes)} pixels per side, got {x.shape[1]}x{x.shape[2]}"
            )
        run_stage = rematerialized(VGG._stage, self.remat, static_argnums=(2, 3, 4, 5))
        index = 0
        for stage, convolutions in enumerate(self.stage_sizes):
            x = run_stage(self, x, train, min(64 * 2**stage, 512), convolutions, index)
            index += 3 * convolutions + 1

        x = global_average_pool(x)
        drop = train and self.has_rng("dropout")
        for index in (0, 3):
            x = nn.relu(self._dense(self.hidden, index)(x))
            x = nn.Dropout(self.dropout_rate, deterministic=not drop)(x)
        return self._dense(self.num_classes, 6)(x).astype(jnp.float32)

    def _stage(
        self, x: jax.Array, train: bool, features: int, convolutions: int, index: int
    ) -> jax.Array:
        """Convolutions with BatchNorm and ReLU, then the pooling; `index` is the first layer's."""
        for i in range(index, index + 3 * convolutions, 3):
            x = conv(
                features,
                3,
                1,
                self.dtype,
                fan_out_normal_init,
                f"features_{i}",
                use_bias=True,
            )(x)
            x = nn.relu(BatchNorm(dtype=self.dtype, name=f"features_{i + 1}")(x, train))
        return nn.max_pool(x, (2, 2), (2, 2))

    def _dense(self, features: int, index: int) -> nn.Dense:
        return nn.Dense(
            features,
            kernel_init=nn.initializers.normal(0.01),
            dtype=self.dtype,
            name=f"classifier_{index}",
        )
