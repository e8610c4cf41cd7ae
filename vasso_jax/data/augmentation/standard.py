"""What is done to each image by itself, and in which order.

Pad with black, random crop, random flip, the policy, normalise, cutout (the hole has the mean
colour). Each image of a batch draws its own crop, flip, operations and hole. Crop, flip and cutout
are those of VaSSO's authors; the policy comes where torchvision's references have it.
"""

import jax
import jax.numpy as jnp

from vasso_jax.data.augmentation.options import Augmentation
from vasso_jax.data.augmentation.policies import apply_policy


def augment(
    key: jax.Array,
    images: jax.Array,
    *,
    options: Augmentation,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> jax.Array:
    """Augments and normalises a training batch.

    Args:
        key: PRNG key; the same key gives the same batch on any number of devices.
        images: uint8 [B, H, W, C].
        options: what to do.
        mean, std: per channel, for pixels in [0, 1].

    Returns:
        float32 [B, H, W, C].
    """
    crop_key, flip_key, cutout_key = jax.random.split(key, 3)
    if options.crop_padding:
        images = random_crop(crop_key, images, options.crop_padding)
    if options.flip:
        images = random_flip(flip_key, images)
    if options.policy:
        # The key after those above, which stay as they are without a policy.
        images = apply_policy(jax.random.fold_in(key, 3), images, options)
    pixels = normalize(images, mean, std)
    if options.cutout_size:
        pixels = cutout(cutout_key, pixels, options.cutout_size, options.cutout_probability)
    return pixels


def random_crop(key: jax.Array, images: jax.Array, padding: int) -> jax.Array:
    """Shifts each image by up to `padding` pixels each way; new pixels at the border are black."""
    batch, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    offsets = jax.random.randint(key, (batch, 2), 0, 2 * padding + 1)
    rows = offsets[:, :1] + jnp.arange(height)
    columns = offsets[:, 1:] + jnp.arange(width)
    padded = jnp.take_along_axis(padded, rows[:, :, None, None], axis=1)
    return jnp.take_along_axis(padded, columns[:, None, :, None], axis=2)


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability one half."""
    flipped = jax.random.bernoulli(key, 0.5, (images.shape[0], 1, 1, 1))
    return jnp.where(flipped, images[:, :, ::-1], images)


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """uint8 [B, H, W, C] in 0..255 -> float32 (pixel / 255 - mean) / std."""
    scaled = images.astype(jnp.float32) / 255
    return (scaled - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)


def cutout(key: jax.Array, pixels: jax.Array, size: int, probability: float) -> jax.Array:
    """Sets a square hole to zero in a share of the images (DeVries and Taylor, arXiv 1708.04552).

    The centre is uniform over the image, and the hole is clipped at the border, so it may be
    smaller. It covers rows centre - size // 2 up to, but not including, centre + size // 2, and
    likewise for columns.
    """
    batch, height, width, _ = pixels.shape
    chosen_key, row_key, column_key = jax.random.split(key, 3)
    chosen = jax.random.bernoulli(chosen_key, probability, (batch,))

    def inside(key: jax.Array, length: int) -> jax.Array:
        centre = jax.random.randint(key, (batch, 1), 0, length)
        offset = jnp.arange(length) - centre
        return (offset >= -(size // 2)) & (offset < size // 2)

    rows, columns = inside(row_key, height), inside(column_key, width)
    hole = chosen[:, None, None] & rows[:, :, None] & columns[:, None, :]
    return jnp.where(hole[..., None], 0, pixels)
