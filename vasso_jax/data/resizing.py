"""Images as arrays: resized, and with another number of channels."""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

try:  # Pillow's filter with SIMD, four times as fast; not available on every platform
    import cykooz_resizer
except ImportError:
    cykooz_resizer = None


class Box(NamedTuple):
    """A rectangle in pixels; `left` and `top` are 0 at the image's corner."""

    left: float
    top: float
    width: float
    height: float


def resize_box(pixels: np.ndarray, box: Box, height: int, width: int) -> np.ndarray:
    """The part of an image in `box`, resized: antialiased, bilinear.

    The two implementations differ by at most one grey level.

    Args:
        pixels: uint8 [H, W, C].
        box: within the image.
        height, width: of the result.

    Returns:
        uint8 [height, width, C].
    """
    rows, columns, channels = pixels.shape
    # A box computed in floating point may exceed the border by a rounding error.
    right, bottom = min(box.left + box.width, columns), min(box.top + box.height, rows)
    if cykooz_resizer is None or channels != 3:
        corners = (max(box.left, 0), max(box.top, 0), right, bottom)
        planes = [
            np.asarray(
                Image.fromarray(np.ascontiguousarray(plane)).resize(
                    (width, height), Image.Resampling.BILINEAR, box=corners
                )
            )
            for plane in np.moveaxis(pixels, -1, 0)
        ]
        return np.stack(planes, axis=-1)
    kind = cykooz_resizer.PixelType.U8x3
    source = cykooz_resizer.ImageData(columns, rows, kind, pixels.tobytes())
    result = cykooz_resizer.ImageData(width, height, kind)
    options = cykooz_resizer.ResizeOptions(
        resize_alg=cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.bilinear),
        crop_box=cykooz_resizer.CropBox(box.left, box.top, right - box.left, bottom - box.top),
    )
    cykooz_resizer.Resizer().resize(source, result, options)
    return np.frombuffer(bytearray(result.get_buffer()), np.uint8).reshape(height, width, 3)


def resize_to_cover(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest central part of the image in these proportions, resized.

    Args:
        pixels: uint8 [H, W, C].
        height, width: of the result, in pixels.

    Returns:
        uint8 [height, width, C]; `pixels` itself if it has that size.
    """
    rows, columns = pixels.shape[:2]
    if (rows, columns) == (height, width):
        return pixels
    scale = min(rows / height, columns / width)  # pixels per resized pixel
    box_height, box_width = height * scale, width * scale
    box = Box((columns - box_width) / 2, (rows - box_height) / 2, box_width, box_height)
    return resize_box(*cropped(pixels, box), height, width)


def cropped(pixels: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    """The pixels that a box touches, and the box within them; others then cannot blend in."""
    left, top = math.floor(box.left), math.floor(box.top)
    right, bottom = math.ceil(box.left + box.width), math.ceil(box.top + box.height)
    return pixels[top:bottom, left:right], box._replace(left=box.left - left, top=box.top - top)


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """An image as one of grey (1) or RGB (3).

    Args:
        pixels: uint8 [H, W] or [H, W, C]: grey, RGB, or one of them with alpha, which is dropped;
            with as many channels as wanted, it stays as it is.
        channels: wanted.

    Returns:
        uint8 [H, W, channels], which may be a view that cannot be written.

    Raises:
        ValueError: that is not possible.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[-1] == channels:
        return pixels
    if pixels.shape[-1] not in (1, 2, 3, 4) or channels not in (1, 3):
        raise ValueError(f"an image of {pixels.shape[-1]} channels cannot become one of {channels}")
    colours = pixels[..., : 3 if pixels.shape[-1] > 2 else 1]
    if channels == 3:
        return np.broadcast_to(colours, (*colours.shape[:2], 3))
    if colours.shape[-1] == 1:
        return colours
    return np.asarray(Image.fromarray(np.ascontiguousarray(colours)).convert("L"))[..., None]
