"""The operations of AutoAugment (arXiv 1805.09501) on a batch, each image with its own.

They do what Pillow does: black where nothing is, the nearest pixel, integer arithmetic, truncation.
A `jax.lax.switch` over a batch would compute all of them for every image. Here each image passes
through three stages, and an operation is the parameters of the stage that it needs; those of the
others change nothing:

    warp      shear, translate, rotate: where each pixel of the result lies in the image
    table     posterize, solarize, autocontrast, equalize: 256 new values per channel
    blend     brightness, contrast, color, sharpness: between another image and this one
"""

import enum
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Pillow's maps of coordinates are in units of 1/65536 pixels.
_BITS = 16
# Pillow's weights of red, green and blue, which sum to 65536.
_LUMA = (19595, 38470, 7471)


class Operation(enum.IntEnum):
    """What can be done to an image; torchvision's set for RandAugment and TrivialAugment."""

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    ROTATE = 5
    BRIGHTNESS = 6
    COLOR = 7
    CONTRAST = 8
    SHARPNESS = 9
    POSTERIZE = 10
    SOLARIZE = 11
    AUTOCONTRAST = 12
    EQUALIZE = 13


_BLENDS = (Operation.BRIGHTNESS, Operation.COLOR, Operation.CONTRAST, Operation.SHARPNESS)


class Parameters(NamedTuple):
    """Of all stages; arrays of NumPy or JAX, perhaps with more axes before those given here.

    Attributes:
        operation: int32, an Operation.
        matrix: int32 [6], (a, b, c, d, e, f) in units of 1/65536: pixel (x, y) of the result is
            pixel (a x + b y + c, d x + e y + f) of the image, rounded down.
        mask: int32, the bits of a value that posterize keeps.
        threshold: int32, the least value that solarize inverts.
        factor: float32, of the blend; 1 is the image itself.
    """

    operation: Any
    matrix: Any
    mask: Any
    threshold: Any
    factor: Any


def parameters(operation: Operation, magnitude: float, height: int, width: int) -> Parameters:
    """The parameters by which one image goes through the stages.

    Args:
        operation: what is to be done.
        magnitude: of it; negative in the other direction: pixels per pixel for a shear, pixels
            (rounded towards zero) for a translation, degrees counterclockwise, the change of the
            factor for a blend, bits kept for posterize, the threshold for solarize; else not used.
        height, width: of the image.
    """
    kept = int(magnitude) if operation == Operation.POSTERIZE else 8
    threshold = math.ceil(magnitude) if operation == Operation.SOLARIZE else 256
    return Parameters(
        operation=np.int32(operation),
        matrix=_fixed_point(_coordinates(operation, magnitude, height, width)),
        mask=np.int32(256 - 2 ** (8 - kept)),
        threshold=np.int32(threshold),
        factor=np.float32(1 + magnitude if operation in _BLENDS else 1),
    )


def apply(images: jax.Array, chosen: Parameters) -> jax.Array:
    """Does to each image what was chosen for it.

    Args:
        images: uint8 [B, H, W, C], grey or RGB.
        chosen: one for each image.

    Returns:
        uint8 [B, H, W, C].
    """
    images = warp(images, chosen.matrix)
    # Else XLA may compute an entry of a table anew for each pixel that looks it up.
    tables = jax.lax.optimization_barrier(new_values(images, chosen))
    images = look_up(images, tables)
    return blend(degenerate(images, chosen.operation), images, chosen.factor)


def warp(images: jax.Array, matrices: jax.Array) -> jax.Array:
    """Moves pixels; black where the image does not reach.

    Args:
        images: uint8 [B, H, W, C].
        matrices: int32 [B, 6]; see Parameters.
    """
    batch, height, width, channels = images.shape
    a, b, c, d, e, f = (jnp.asarray(matrices)[:, i, None, None] for i in range(6))
    x, y = jnp.arange(width), jnp.arange(height)[:, None]
    column, row = (a * x + b * y + c) >> _BITS, (d * x + e * y + f) >> _BITS
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = jnp.where(inside, row * width + column, 0).reshape(batch, -1, 1)
    moved = _take(images.reshape(batch, -1, channels), index).reshape(images.shape)
    return jnp.where(inside[..., None], moved, 0)


def look_up(images: jax.Array, tables: jax.Array) -> jax.Array:
    """Replaces each value v of a channel by `tables[:, v]` of it.

    Args:
        images: uint8 [B, H, W, C].
        tables: uint8 [B, 256, C].
    """
    batch, *_, channels = images.shape
    values = images.reshape(batch, -1, channels).astype(jnp.int32)
    return _take(tables, values).reshape(images.shape)


def blend(others: jax.Array, images: jax.Array, factors: jax.Array) -> jax.Array:
    """other + factor (image - other), rounded down and clipped, as Pillow's `Image.blend`.

    Args:
        others: int32 [B, H, W, C].
        images: uint8 [B, H, W, C].
        factors: float32 [B].
    """
    factors = jnp.asarray(factors)[:, None, None, None]
    blended = others + factors * (images.astype(jnp.int32) - others).astype(jnp.float32)
    return jnp.clip(blended, 0, 255).astype(jnp.uint8)


def degenerate(images: jax.Array, operations: jax.Array) -> jax.Array:
    """What an image is blended with: black, its mean grey, itself in grey, or smoothed.

    Args:
        images: uint8 [B, H, W, C].
        operations: int32 [B].

    Returns:
        int32, of a shape that broadcasts to that of the images.
    """
    operations = jnp.asarray(operations)[:, None, None, None]
    values = images.astype(jnp.int32)
    grey = _grey(values)
    pixels = grey.shape[1] * grey.shape[2]
    mean = (2 * grey.sum((1, 2, 3), keepdims=True) + pixels) // (2 * pixels)
    flat = jnp.where(operations == Operation.CONTRAST, mean, 0)
    varied = jnp.where(operations == Operation.COLOR, grey, flat)
    return jnp.where(operations == Operation.SHARPNESS, _smooth(values), varied)


def new_values(images: jax.Array, chosen: Parameters) -> jax.Array:
    """The new value of each value, by channel.

    Args:
        images: uint8 [B, H, W, C].
        chosen: one for each image; only what concerns tables is used.

    Returns:
        uint8 [B, 256, C].
    """
    operation, mask, threshold = (
        jnp.asarray(x)[:, None, None] for x in (chosen.operation, chosen.mask, chosen.threshold)
    )
    values = jnp.arange(256)[:, None]
    plain = values & mask
    plain = jnp.where(values >= threshold, 255 - plain, plain)
    counts = _histogram(images)
    table = jnp.where(operation == Operation.AUTOCONTRAST, _stretched(counts), plain)
    table = jnp.where(operation == Operation.EQUALIZE, _equalized(counts), table)
    return table.astype(jnp.uint8)


def _stretched(counts: jax.Array) -> jax.Array:
    """Tables that map the least and the largest value of a channel to 0 and 255."""
    values = jnp.arange(256)[:, None]
    low = jnp.argmax(counts > 0, axis=1, keepdims=True)
    high = 255 - jnp.argmax(counts[:, ::-1] > 0, axis=1, keepdims=True)
    stretched = jnp.clip((values - low) * 255 // jnp.maximum(high - low, 1), 0, 255)
    return jnp.where(high > low, stretched, values)


def _equalized(counts: jax.Array) -> jax.Array:
    """Tables after which the values of a channel are about equally frequent.

    With as many pixels per new value as `step`, a value is mapped to the number of pixels below it,
    over `step`. Pillow leaves the pixels of the largest value out of `step`.
    """
    values = jnp.arange(256)[:, None]
    up_to = jnp.cumsum(counts, axis=1)
    pixels = up_to[:, -1:]
    below_largest = jnp.max(jnp.where(up_to < pixels, up_to, 0), axis=1, keepdims=True)
    step = below_largest // 255
    table = (up_to - counts + step // 2) // jnp.maximum(step, 1)
    return jnp.where(step > 0, jnp.minimum(table, 255), values)


def _histogram(images: jax.Array) -> jax.Array:
    """How often a channel has each value, int32 [B, 256, C]."""
    batch, *_, channels = images.shape
    values = images.reshape(batch, -1, channels).astype(jnp.int32)
    bins = values + 256 * jnp.arange(channels)

    def count(bins: jax.Array) -> jax.Array:
        zeros = jnp.zeros(256 * channels, jnp.int32)
        return zeros.at[bins].add(1, mode="promise_in_bounds")

    counts = jax.vmap(count)(bins.reshape(batch, -1))
    return counts.reshape(batch, channels, 256).swapaxes(1, 2)


def _grey(values: jax.Array) -> jax.Array:
    """int32 [B, H, W, C] -> [B, H, W, 1], as Pillow's mode L."""
    if values.shape[-1] == 1:
        return values
    red, green, blue = (values[..., i : i + 1] * weight for i, weight in enumerate(_LUMA))
    return (red + green + blue + (1 << (_BITS - 1))) >> _BITS


def _smooth(values: jax.Array) -> jax.Array:
    """The mean of 3x3 pixels, with weight 5 for the one in the middle; the border stays."""
    rows = values[:, :-2] + values[:, 1:-1] + values[:, 2:]
    sums = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * values[:, 1:-1, 1:-1]
    return values.at[:, 1:-1, 1:-1].set((2 * sums + 13) // 26)


def _take(rows: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(rows, index, axis=1, mode="promise_in_bounds")


def _coordinates(
    operation: Operation, magnitude: float, height: int, width: int
) -> tuple[float, ...]:
    """The matrix of a warp on continuous coordinates, where pixel (x, y) is at (x + .5, y + .5)."""
    match operation:
        case Operation.SHEAR_X:
            return 1, magnitude, 0, 0, 1, 0
        case Operation.SHEAR_Y:
            return 1, 0, 0, magnitude, 1, 0
        case Operation.TRANSLATE_X:
            return 1, 0, -int(magnitude), 0, 1, 0
        case Operation.TRANSLATE_Y:
            return 1, 0, 0, 0, 1, -int(magnitude)
        case Operation.ROTATE:
            # As in Pillow, so that 90 degrees are exact.
            cos = round(math.cos(math.radians(magnitude)), 15)
            sin = round(math.sin(math.radians(magnitude)), 15)
            x, y = width / 2, height / 2
            return cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y
        case _:
            return 1, 0, 0, 0, 1, 0


def _fixed_point(matrix: tuple[float, ...]) -> np.ndarray:
    """The matrix for the numbers of pixels."""
    a, b, c, d, e, f = matrix
    centred = (a, b, c + (a + b) / 2, d, e, f + (d + e) / 2)
    return np.floor(np.array(centred) * (1 << _BITS) + 0.5).astype(np.int32)
