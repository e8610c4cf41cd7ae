"""Each operation against Pillow's."""

import jax
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from vasso_jax.data.augmentation.operations import Operation, Parameters, apply, parameters

_AFFINE = Image.Transform.AFFINE
_FACTORS = [0, 0.03, 0.27, -0.27, 0.9, -0.9, -0.99]
# Smallest steps, usual values, largest ones, and a quarter turn, which Pillow treats by itself.
MAGNITUDES = {
    Operation.IDENTITY: [0],
    Operation.SHEAR_X: [0.01, 0.09, -0.297, 0.99, -0.99],
    Operation.SHEAR_Y: [0.01, 0.09, -0.297, 0.99, -0.99],
    Operation.TRANSLATE_X: [0.9, 4.35, -9.7, 32, -32],
    Operation.TRANSLATE_Y: [0.9, 4.35, -9.7, 32, -32],
    Operation.ROTATE: [1, 9, -30, 67.5, 90, -90, 135, -135],
    Operation.BRIGHTNESS: _FACTORS,
    Operation.COLOR: _FACTORS,
    Operation.CONTRAST: _FACTORS,
    Operation.SHARPNESS: _FACTORS,
    Operation.POSTERIZE: [8, 7, 4, 2],
    Operation.SOLARIZE: [255, 178.5, 17, 0],
    Operation.AUTOCONTRAST: [0],
    Operation.EQUALIZE: [0],
}
# Pillow computes these with floats that are rounded otherwise.
ROUNDED = {
    *(Operation.COLOR, Operation.CONTRAST, Operation.SHARPNESS, Operation.BRIGHTNESS),
    Operation.AUTOCONTRAST,
}


def by_pillow(operation, magnitude, image):
    match operation:
        case Operation.IDENTITY:
            return image
        case Operation.SHEAR_X:
            return image.transform(image.size, _AFFINE, (1, magnitude, 0, 0, 1, 0))
        case Operation.SHEAR_Y:
            return image.transform(image.size, _AFFINE, (1, 0, 0, magnitude, 1, 0))
        case Operation.TRANSLATE_X:
            return image.transform(image.size, _AFFINE, (1, 0, -int(magnitude), 0, 1, 0))
        case Operation.TRANSLATE_Y:
            return image.transform(image.size, _AFFINE, (1, 0, 0, 0, 1, -int(magnitude)))
        case Operation.ROTATE:
            return image.rotate(magnitude)
        case Operation.BRIGHTNESS:
            return ImageEnhance.Brightness(image).enhance(1 + magnitude)
        case Operation.COLOR:
            return ImageEnhance.Color(image).enhance(1 + magnitude)
        case Operation.CONTRAST:
            return ImageEnhance.Contrast(image).enhance(1 + magnitude)
        case Operation.SHARPNESS:
            return ImageEnhance.Sharpness(image).enhance(1 + magnitude)
        case Operation.POSTERIZE:
            return ImageOps.posterize(image, magnitude)
        case Operation.SOLARIZE:
            return ImageOps.solarize(image, magnitude)
        case Operation.AUTOCONTRAST:
            return ImageOps.autocontrast(image)
        case Operation.EQUALIZE:
            return ImageOps.equalize(image)


def an_image(kind, shape):
    rng = np.random.default_rng(len(kind))
    if kind == "flat":
        return np.full(shape, 77, np.uint8)
    if kind == "two values":
        return rng.choice([90, 91], shape, p=[0.3, 0.7]).astype(np.uint8)  # a mean above .5
    # Neither 0 nor 255 in all channels.
    return (rng.beta(2, 3, shape) * [255, 180, 120][: shape[-1]] + 9).clip(0, 255).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("noise", (33, 33, 3)),
        ("noise", (20, 31, 3)),
        ("noise", (24, 24, 1)),
        ("flat", (20, 31, 3)),
        ("two values", (20, 31, 3)),
        ("noise", (2, 1, 3)),
    ],
    ids=str,
)
def test_every_operation_does_what_it_does_in_pillow(kind, shape):
    cases = [(operation, m) for operation, many in MAGNITUDES.items() for m in many]
    assert {operation for operation, _ in cases} == {*Operation}
    image = an_image(kind, shape)
    chosen = [parameters(*case, *shape[:2]) for case in cases]
    images = np.broadcast_to(image, (len(cases), *shape))
    stacked = Parameters(*map(np.stack, zip(*chosen, strict=True)))
    found = np.asarray(jax.jit(apply)(images, stacked))
    assert found.dtype == np.uint8
    pillows = Image.fromarray(image if shape[-1] == 3 else image[..., 0])
    for (operation, magnitude), ours in zip(cases, found, strict=True):
        expected = np.asarray(by_pillow(operation, magnitude, pillows)).reshape(shape)
        apart = np.abs(expected.astype(int) - ours)
        assert apart.max() <= (operation in ROUNDED), (operation, magnitude)
        assert (apart > 0).mean() < 0.02, (operation, magnitude)
