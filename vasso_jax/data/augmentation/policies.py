"""Which operations an image gets: RandAugment and TrivialAugment.

RandAugment (Cubuk et al., arXiv 1909.13719) does several operations one after the other, each with
the same magnitude. TrivialAugment (Müller and Hutter, arXiv 2103.10158) does one, with a random
magnitude. Operations are drawn with equal probability. Magnitudes are numbers from 0 to 30, which
mean for each operation what they mean in torchvision's `RandAugment` and `TrivialAugmentWide`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vasso_jax.data.augmentation.operations import Operation, Parameters, apply, parameters
from vasso_jax.data.augmentation.options import MAX_MAGNITUDE, Augmentation


class Largest(NamedTuple):
    """What the largest magnitude is; smaller ones are proportional.

    Attributes:
        shear: pixels per pixel.
        translation: (x, y), in pixels.
        rotation: in degrees.
        change: of the factor of a blend, which is 1 for no change.
        bits: that posterize removes.
    """

    shear: float
    translation: tuple[float, float]
    rotation: float
    change: float
    bits: int


def apply_policy(key: jax.Array, images: jax.Array, options: Augmentation) -> jax.Array:
    """Does the random operations of `options.policy` to each image.

    Args:
        key: PRNG key.
        images: uint8 [B, H, W, C], grey or RGB.
        options: with a policy.

    Returns:
        uint8 [B, H, W, C].
    """
    batch, height, width, _ = images.shape
    numbers, layers = [options.magnitude], options.operations
    if options.policy == "trivialaugment":
        numbers, layers = range(MAX_MAGNITUDE + 1), 1
    table = parameter_table(options.policy, numbers, height, width)
    for layer_key in jax.random.split(key, layers):
        images = apply(images, draw(layer_key, batch, table))
    return images


def parameter_table(policy: str, numbers: Sequence[int], height: int, width: int) -> Parameters:
    """The parameters of every operation, magnitude and direction.

    Args:
        policy: what the magnitudes are of.
        numbers: the magnitudes, from 0 to 30.
        height, width: of the images.

    Returns:
        NumPy arrays of shape [operations, magnitudes, 2, ...]. In the second direction, shears,
        translations, rotations and changes of a factor have the other sign.
    """
    largest = _largest(policy, height, width)
    rows = [
        parameters(operation, _magnitude(operation, number, sign, largest), height, width)
        for operation in Operation
        for number in numbers
        for sign in (1, -1)
    ]
    shape = (len(Operation), len(numbers), 2)
    return Parameters(*(np.reshape(x, (*shape, *np.shape(x[0]))) for x in zip(*rows, strict=True)))


def draw(key: jax.Array, batch: int, table: Parameters) -> Parameters:
    """An operation, magnitude and direction for each image, all equally likely.

    Args:
        key: PRNG key.
        batch: number of images.
        table: of `parameter_table`.

    Returns:
        Arrays of shape [batch, ...].
    """
    keys = jax.random.split(key, 3)
    shape = (len(Operation), len(table.factor[0]), 2)
    index = tuple(
        jax.random.randint(key, (batch,), 0, size) for key, size in zip(keys, shape, strict=True)
    )
    return Parameters(*(jnp.asarray(x)[index] for x in table))


def _largest(policy: str, height: int, width: int) -> Largest:
    if policy == "trivialaugment":  # its wide set
        return Largest(0.99, (32, 32), 135, 0.99, 6)
    # Translations were chosen for 331 pixels.
    return Largest(0.3, (150 / 331 * width, 150 / 331 * height), 30, 0.9, 4)


def _magnitude(operation: Operation, number: int, sign: int, largest: Largest) -> float:
    part = number / MAX_MAGNITUDE
    match operation:
        case Operation.SHEAR_X | Operation.SHEAR_Y:
            return sign * part * largest.shear
        case Operation.TRANSLATE_X:
            return sign * number * largest.translation[0] / MAX_MAGNITUDE
        case Operation.TRANSLATE_Y:
            return sign * number * largest.translation[1] / MAX_MAGNITUDE
        case Operation.ROTATE:
            return sign * part * largest.rotation
        case Operation.POSTERIZE:
            return 8 - round(part * largest.bits)
        case Operation.SOLARIZE:
            return 255 * (1 - part)
        case _:
            return sign * part * largest.change
