"""Image files that are small and all of one size: read once, to be held on the device."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vasso_jax.data.datasets import EncodedSplit, ImageDataset, from_arrays
from vasso_jax.data.images import decode

# Side in pixels up to which images are small, and what all of them may take in memory.
_LARGEST = 96
_MOST_BYTES = 2 << 30
# Of each split, so many images tell whether all may be of one size.
_SAMPLES = 32


def common_shape(splits: Sequence[EncodedSplit]) -> tuple[int, int, int] | None:
    """(H, W, C) of the images if all seem to be small, of one size and not too many, else None.

    Some images of each split are looked at. C is 1 if these are grey, else 3.
    """
    shapes = {_shape(split[int(i)].encoded) for split in splits for i in _spread(len(split))}
    if len({shape[:2] if shape else None for shape in shapes}) != 1 or None in shapes:
        return None
    height, width, _ = next(filter(None, shapes))
    channels = max(shape[2] for shape in shapes if shape)
    images = sum(map(len, splits))
    if max(height, width) > _LARGEST or images * height * width * channels > _MOST_BYTES:
        return None
    return height, width, channels


def _spread(size: int) -> np.ndarray:
    return np.unique(np.linspace(0, size - 1, _SAMPLES).astype(int)) if size else np.arange(0)


def _shape(encoded: bytes) -> tuple[int, int, int] | None:
    """None if it is no image that Pillow can open."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            is_grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I")
            return image.height, image.width, 1 if is_grey else 3
    except Exception:  # Pillow raises many kinds of error; reading the image tells which file it is
        return None


def read_all(
    name: str,
    class_names: Sequence[str],
    splits: Sequence[EncodedSplit],
    shape: tuple[int, int, int],
) -> ImageDataset:
    """Decodes every image.

    Args:
        name, class_names: of the data set.
        splits: train, test and, maybe, validation.
        shape: of `common_shape`.

    Raises:
        ValueError: an image is damaged, or has another size; the message names it.
        OSError: a file cannot be read.
    """
    train, test, *validation = [_read(split, shape) for split in splits]
    return from_arrays(name, train, test, class_names, *validation)


def _read(split: EncodedSplit, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    # Without threads: most of the work on a tiny image is Python, which only one thread runs at a
    # time, and to hand it from one to the next costs more than they gain.
    images = np.empty((len(split), *shape), np.uint8)
    labels = np.empty(len(split), np.int32)
    for i in range(len(split)):
        encoded, labels[i], name = split[i]
        images[i] = _decoded(encoded, name, shape)
    return images, labels


def _decoded(encoded: bytes, name: str, shape: tuple[int, int, int]) -> np.ndarray:
    height, width, channels = shape
    try:
        pixels = decode(encoded, channels)
    except ValueError as error:
        raise ValueError(f"{name} is {error}") from error
    if pixels.shape != shape:
        raise ValueError(
            f"{name} has {pixels.shape[0]}x{pixels.shape[1]} pixels, others have {height}x{width}: "
            "give --config.data.image_size, to which all are then resized"
        )
    return pixels
