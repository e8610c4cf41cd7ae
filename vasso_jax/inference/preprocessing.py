"""What the network of a run is given: images brought to its size as they were for its test."""

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vasso_jax.data.checks import valid_statistics
from vasso_jax.data.images import decode, resize_and_center_crop
from vasso_jax.data.resizing import resize_to_cover, with_channels
from vasso_jax.files import read_file

# Of what the network is given: more than of any image that is decoded.
_MOST_VALUES = 1 << 28

# One image: the path of its file, or uint8 [H, W] or [H, W, C].
Image = str | os.PathLike[str] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How images become what the network is given.

    Attributes:
        image_shape: (H, W, C) of what the network is given.
        mean, std: per channel, for pixels in [0, 1].
        eval_crop: of a run that read its images from disk: side of the central crop relative to the
            image's shorter side; None for a run on images of one size, in memory.
    """

    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    eval_crop: float | None

    @classmethod
    def of(cls, facts: Mapping[str, Any], settings: Mapping[str, Any]) -> "Preprocessing":
        """That of a run, from its dataset.json and config.json.

        Raises:
            KeyError: a fact is missing.
            ValueError: a fact is not as the trainer writes it.
        """
        height, width, channels = _checked_shape(facts["image_shape"])
        mean, std = valid_statistics("the data set", facts["mean"], facts["std"], channels)
        # Earlier runs have it among their settings only.
        section = settings.get("data")
        crop = facts.get(
            "eval_crop", section.get("eval_crop") if isinstance(section, dict) else None
        )
        if not facts["streamed"]:
            return cls((height, width, channels), mean, std, None)
        if crop is None:
            raise KeyError("eval_crop")
        if not isinstance(crop, int | float) or not 0 < crop <= 1:
            raise ValueError(f"eval_crop must be in (0, 1], got {crop!r}")
        return cls((height, width, channels), mean, std, crop)

    def resized(self, images: np.ndarray | Iterable[Image]) -> np.ndarray:
        """Images as the network is given them, before they are normalised.

        With `eval_crop` they are resized and cropped as the test images were. Otherwise an image of
        another size is resized to cover the network's, and its centre is taken. Grey becomes RGB or
        RGB grey, and alpha is dropped.

        Args:
            images: uint8 [N, H, W, C], or images of any size, each uint8 [H, W] or [H, W, C], or
                the path of an image file.

        Returns:
            uint8 [N, H, W, C].

        Raises:
            ValueError: one is no image, or has a number of channels that cannot be used.
            OSError: a file cannot be read.
        """
        prepared = [self._resized(image) for image in as_images(images)]
        return np.stack(prepared) if prepared else np.zeros((0, *self.image_shape), np.uint8)

    def _resized(self, image: Image) -> np.ndarray:
        if not isinstance(image, str | os.PathLike):
            return self._of_pixels(np.asarray(image))
        encoded = read_file(image)
        try:
            cropped = self.eval_crop is not None
            return self._cropped(encoded) if cropped else self._of_pixels(decode(encoded))
        except ValueError as error:
            raise ValueError(f"{image}: {error}") from error

    def _of_pixels(self, pixels: np.ndarray) -> np.ndarray:
        height, width, channels = self.image_shape
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
            raise ValueError(
                "an image must be uint8 [H, W] or [H, W, C], or the path of a file; got "
                f"{pixels.dtype} of shape {pixels.shape}"
            )
        if 0 in pixels.shape:
            raise ValueError(f"an image has no pixels: its shape is {pixels.shape}")
        pixels = with_channels(pixels, channels)
        if self.eval_crop is not None:
            return self._cropped(np.ascontiguousarray(pixels))
        return resize_to_cover(pixels, height, width)

    def _cropped(self, image: bytes | np.ndarray) -> np.ndarray:
        size = self.image_shape[0]
        return resize_and_center_crop(image, size, round(size / (self.eval_crop or 1)))


def _checked_shape(shape: Any) -> tuple[int, int, int]:
    """(H, W, C); ValueError unless an image can have that shape."""
    sizes: Any = shape if isinstance(shape, list | tuple) else ()
    are_sizes = [type(size) for size in sizes] == [int] * 3 and min(sizes) > 0
    if not are_sizes or math.prod(sizes) > _MOST_VALUES:
        raise ValueError(
            f"image_shape must be three sizes, of {_MOST_VALUES:,} values at most, got {shape!r}"
        )
    return sizes[0], sizes[1], sizes[2]


def as_images(images: Any) -> Sequence[Image]:
    """What can be sliced and iterated over, image by image.

    Raises:
        ValueError: it is a single image, or nothing of the kind.
    """
    if isinstance(images, str | os.PathLike):
        raise ValueError(f"images must be several: give [{str(images)!r}]")
    if isinstance(images, list | tuple):
        return images
    if hasattr(images, "ndim"):  # of NumPy, JAX or PyTorch
        array = np.asarray(images)
        if array.ndim != 4:
            raise ValueError(
                f"images must be [N, H, W, C], got an array of shape {array.shape}: of one image "
                "give image[None], of several grey ones images[..., None]"
            )
        return list(array)
    if isinstance(images, Iterable):
        return list(images)
    raise ValueError(f"images must be an array or a list of images, got a {type(images).__name__}")
