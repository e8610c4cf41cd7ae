"""Vision transformer in the form of Beyer et al., "Better plain ViT baselines" (arXiv 2205.01580).

As in big_vision: fixed sine-cosine positions, global average pooling, no dropout, and a linear head
initialised to zero.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vasso_jax.models.convolution import conv_general_dilated
from vasso_jax.models.remat import rematerialized

_norm = partial(nn.LayerNorm, epsilon=1e-6)
_kernel_init = nn.initializers.xavier_uniform()


class EncoderBlock(nn.Module):
    """Self-attention, then two dense layers with a hidden width four times as large."""

    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, tokens, width] -> the same."""
        dense = partial(
            nn.Dense,
            kernel_init=_kernel_init,
            bias_init=nn.initializers.normal(1e-6),
            dtype=self.dtype,
        )
        y = _norm(dtype=self.dtype, name="norm1")(x)
        x = x + nn.MultiHeadDotProductAttention(
            self.heads, kernel_init=_kernel_init, dtype=self.dtype, name="attention"
        )(y)
        y = _norm(dtype=self.dtype, name="norm2")(x)
        y = nn.gelu(dense(4 * x.shape[-1], name="dense1")(y))  # the tanh approximation
        return x + dense(x.shape[-1], name="dense2")(y)


class ViT(nn.Module):
    """Plain vision transformer, without batch statistics; `train` has no effect.

    Attributes:
        patch: side of the square patches, in pixels.
        width: features of a token, divisible by 4 and by `heads`.
        depth: number of encoder blocks.
        heads: attention heads per block.
        num_classes: size of the last layer.
        dtype: dtype of the arithmetic.
        remat: a backward pass computes the activations inside each block again instead of keeping
            them. It needs less memory and more time; results are the same.
    """

    patch: int
    width: int
    depth: int
    heads: int
    num_classes: int
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] images -> [B, num_classes] float32 logits.

        Raises:
            ValueError: H or W is not a multiple of the patch.
        """
        del train
        height, width = x.shape[1:3]
        if not height or not width or height % self.patch or width % self.patch:
            raise ValueError(
                f"this ViT cuts images into patches of {self.patch}x{self.patch} and needs sides "
                f"that are multiples of {self.patch}, got {height}x{width}"
            )
        x = nn.Conv(
            self.width,
            (self.patch, self.patch),
            strides=(self.patch, self.patch),
            padding="VALID",
            dtype=self.dtype,
            conv_general_dilated=conv_general_dilated,
            name="embedding",
        )(x)
        x = x + jnp.asarray(_positions(*x.shape[1:]), x.dtype)
        x = x.reshape(x.shape[0], -1, self.width)
        block_type = rematerialized(EncoderBlock, self.remat)
        for block in range(self.depth):
            x = block_type(self.heads, self.dtype, name=f"block{block}")(x)
        x = _norm(dtype=self.dtype, name="norm")(x).mean(axis=1)
        x = nn.Dense(
            self.num_classes, kernel_init=nn.initializers.zeros, dtype=self.dtype, name="head"
        )(x)
        return x.astype(jnp.float32)


def _positions(rows: int, columns: int, width: int) -> np.ndarray:
    """[rows, columns, width]: sines and cosines of the column, then of the row.

    Each takes a quarter of the features, with angular frequencies that fall from 1 to 1/10000 as in
    MoCo v3 (arXiv 2104.02057).
    """
    frequencies = np.logspace(0, -4, width // 4)
    row = np.arange(rows)[:, None, None] * frequencies  # [rows, 1, width / 4]
    column = np.arange(columns)[None, :, None] * frequencies
    waves = [np.sin(column), np.cos(column), np.sin(row), np.cos(row)]
    shape = (rows, columns, width // 4)
    return np.concatenate([np.broadcast_to(wave, shape) for wave in waves], axis=-1)
