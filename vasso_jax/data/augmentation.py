"""The authors' CIFAR augmentation in pure jax.numpy, to run inside the jitted train step.

Order: pad with black, random crop, random flip, normalise, cutout (the hole has the mean colour).
Each image of a batch draws its own crop, flip and hole.
"""

import dataclasses

import jax
import jax.numpy as jnp

_CUTOUT_PROBABILITY = 0.5


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What `augment` does to a training image.

    Attributes:
        crop_padding: black pixels on each side before the random crop to H x W; 0: no crop.
        flip: mirror each image left to right with probability one half.
        cutout_size: side of the square hole in pixels, rounded down to an even number; 0: none.
        cutout_probability: share of images that get a hole.

    Raises:
        ValueError: a size below 0, a probability outside [0, 1], or a field without effect.
    """

    crop_padding: int = 0
    flip: bool = False
    cutout_size: int = 0
    cutout_probability: float = _CUTOUT_PROBABILITY

    def __post_init__(self) -> None:
        for field in ("crop_padding", "cutout_size"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} must be >= 0 (0: off), got {getattr(self, field)}")
        if not 0 <= self.cutout_probability <= 1:
            raise ValueError(f"cutout_probability must be in [0, 1], got {self.cutout_probability}")
        if self.cutout_size == 1:
            raise ValueError("cutout_size=1 makes no hole: it must be at least 2 (0: off)")
        if self.cutout_size and not self.cutout_probability:
            raise ValueError(
                f"cutout_size={self.cutout_size} has no effect while cutout_probability is 0: "
                "raise it, or set cutout_size=0"
            )
        if not self.cutout_size and self.cutout_probability != _CUTOUT_PROBABILITY:
            raise ValueError(
                f"cutout_probability={self.cutout_probability} has no effect while cutout_size is "
                "0: set cutout_size, or leave it out"
            )


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
