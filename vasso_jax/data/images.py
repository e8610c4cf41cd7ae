"""Photographs from their encoded bytes: decoded, cropped and resized on the host, in numpy.

Ordinary JPEGs take a fast path through libjpeg-turbo, which decodes only the rows and the
resolution that the crop needs. Everything else (CMYK, EXIF-rotated, PNG under any name) goes
through Pillow. No function keeps state: all can be used in threads and in worker processes.
"""

import contextlib
import io
import math
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from vasso_jax.data.resizing import Box, cropped, resize_box, with_channels

# Of the names of image files, in lower case.
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp"))
# Larger images are treated as decompression bombs; Pillow warns from this size on, too.
_MAX_PIXELS = 89_478_485
_RATIO = (3 / 4, 4 / 3)
_ORIENTATION = 0x0112  # EXIF tag: 1 is upright, 2 to 8 are mirrored or rotated
# libjpeg-turbo's warning when the header promises fewer rows than there are, or stray bytes follow
# the last one, and nothing else is wrong: the decoder did reach the end-of-image marker.
_ONLY_ROWS_LEFT = re.compile(r"\d+ extraneous bytes before marker 0xd9")
# Decoded rows below the crop, from which its last row's chroma is interpolated (two at 4:2:0).
_CONTEXT_ROWS = 4

# By default glibc returns the end of the heap to the kernel after each image, and page faults then
# take a third of the time of the next image. Once a block this large has been freed, glibc keeps up
# to twice as much (mallopt(3), M_MMAP_THRESHOLD). The block is never touched, so it costs nothing.
np.empty(16 << 20, np.uint8)


class _Frame(NamedTuple):
    """A JPEG's frame header: size in pixels, offset in the file, and whether it has one scan."""

    height: int
    width: int
    offset: int
    sequential: bool


def decode(encoded: bytes, channels: int = 3) -> np.ndarray:
    """Decodes a whole image.

    All kinds become RGB or grey as with Pillow's `convert`: alpha is dropped, not composited.
    Channels of 16 bits keep their upper 8 bits. An EXIF orientation is applied.

    Args:
        encoded: the image file's content.
        channels: 3: RGB; 1: grey.

    Returns:
        uint8 [H, W, channels], upright.

    Raises:
        ValueError: not an image, truncated, damaged, larger than 89 megapixels, or of pixels whose
            range is not known: floats, integers of 32 bits or with a sign.
    """
    frame = _plain_jpeg_frame(encoded)
    if frame is None:
        return _decode_other(encoded, channels)
    return with_channels(_decode_jpeg_rows(encoded, frame, frame.height, 1), channels)


def random_resized_crop(
    encoded: bytes, size: int, rng: np.random.Generator, min_area: float = 0.08
) -> np.ndarray:
    """A random part of the image (`random_crop_box`), resized to a square, antialiased bilinear.

    Args:
        encoded: the image file's content.
        size: side of the result in pixels.
        rng: draws the box; nothing else is random (there is no flip).
        min_area: smallest part of the image's area, in (0, 1].

    Returns:
        uint8 [size, size, 3], RGB.

    Raises:
        ValueError: as `decode`; or a size or area out of range.
    """
    if not 0 < min_area <= 1:
        raise ValueError(f"min_area must be in (0, 1], got {min_area}")

    def choose_box(height: int, width: int) -> Box:
        return random_crop_box(height, width, rng, min_area)

    return _crop_and_resize(encoded, size, choose_box, blend_outside=False)


def resize_and_center_crop(image: bytes | np.ndarray, size: int, resize: int) -> np.ndarray:
    """Resizes the image so that its shorter side has `resize` pixels, and crops the centre.

    Args:
        image: the image file's content, or uint8 [H, W, 3].
        size: side of the result in pixels.
        resize: length of the shorter side before the crop, at least `size`.

    Returns:
        uint8 [size, size, 3], RGB.

    Raises:
        ValueError: as `decode`; or `resize` below `size`.
    """
    if resize < size:
        raise ValueError(f"resize must be at least size ({size}), got {resize}")

    def choose_box(height: int, width: int) -> Box:
        shorter = min(height, width)
        rows, columns = resize * height // shorter, resize * width // shorter
        down, right = height / rows, width / columns  # pixels per resized pixel
        left, top = round((columns - size) / 2) * right, round((rows - size) / 2) * down
        return Box(left, top, size * right, size * down)

    return _crop_and_resize(image, size, choose_box, blend_outside=True)


def random_crop_box(
    height: int, width: int, rng: np.random.Generator, min_area: float = 0.08
) -> Box:
    """Draws a box as Inception and torchvision do (Szegedy et al., arXiv 1409.4842).

    Its share of the area is uniform in [min_area, 1], and its width over height log-uniform in
    [3/4, 4/3]. If ten boxes in a row do not fit, the result is the largest central box with a ratio
    in that range.
    """
    low, high = _RATIO
    for _ in range(10):
        area = height * width * rng.uniform(min_area, 1)
        ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            top = int(rng.integers(height - rows + 1))
            return Box(int(rng.integers(width - columns + 1)), top, columns, rows)
    columns, rows = min(width, round(height * high)), min(height, round(width / low))
    return Box((width - columns) // 2, (height - rows) // 2, columns, rows)


def _crop_and_resize(
    image: bytes | np.ndarray, size: int, choose_box: Callable[[int, int], Box], blend_outside: bool
) -> np.ndarray:
    """Resizes the box that `choose_box(height, width)` returns to [size, size, 3].

    blend_outside: True: pixels just outside the box count at its border, as if the whole image had
        been resized and then cropped. False: as if the image had been cropped first.
    """
    if size < 1:
        raise ValueError(f"size must be >= 1, got {size}")
    encoded = image if isinstance(image, bytes) else b""
    frame, divisor = _plain_jpeg_frame(encoded), 1
    if frame is None:
        pixels = image if isinstance(image, np.ndarray) else _decode_other(encoded)
        box = choose_box(*pixels.shape[:2])
    else:
        box = choose_box(frame.height, frame.width)
        # libjpeg-turbo has fast code for these scales; the others take longer than full size.
        while divisor < 8 and min(box.width, box.height) >= 2 * divisor * size:
            divisor *= 2
        filter_reach = box.height / size if blend_outside else 0
        rows = math.ceil(box.top + box.height + filter_reach)
        pixels = _decode_jpeg_rows(encoded, frame, rows, divisor)
        box = Box(*(length / divisor for length in box))
    if not blend_outside:
        pixels, box = cropped(pixels, box)
    return resize_box(pixels, box, size, size)


def _plain_jpeg_frame(encoded: bytes) -> _Frame | None:
    """The frame header of an upright grey or RGB JPEG of 8 bits; None for anything else."""
    if encoded[:2] != b"\xff\xd8":
        return None
    offset = 2
    while len(encoded) >= offset + 10 and encoded[offset] == 0xFF:
        marker, length = encoded[offset + 1], int.from_bytes(encoded[offset + 2 : offset + 4])
        if marker in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive
            precision, components = encoded[offset + 4], encoded[offset + 9]
            height = int.from_bytes(encoded[offset + 5 : offset + 7])
            width = int.from_bytes(encoded[offset + 7 : offset + 9])
            plain = precision == 8 and components in (1, 3) and 0 < height * width <= _MAX_PIXELS
            return _Frame(height, width, offset, marker != 0xC2) if plain else None
        if marker == 0xE1 and _is_rotated(encoded[offset + 4 : offset + 2 + length]):
            return None
        # Fill bytes, or a marker that does not belong in a header: leave the file to Pillow.
        if marker in (0xFF, 0x00, 0x01) or 0xD0 <= marker <= 0xDA:
            return None
        offset += 2 + length
    return None


def _is_rotated(segment: bytes) -> bool:
    """Whether the EXIF data in an APP1 segment of a JPEG says that the image is not upright.

    Parsed by hand, since Pillow warns about every damaged tag and takes longer.
    """
    if segment[:6] != b"Exif\0\0":
        return False
    order = "little" if segment[6:8] == b"II" else "big"

    def number(offset: int, length: int) -> int:
        return int.from_bytes(segment[6 + offset : 6 + offset + length], order)

    start = number(4, 4)
    for entry in range(start + 2, start + 2 + 12 * number(start, 2), 12):
        if number(entry, 2) == _ORIENTATION:
            return number(entry + 8, 2) in range(2, 9)
    return False


def _decode_jpeg_rows(encoded: bytes, frame: _Frame, rows: int, divisor: int) -> np.ndarray:
    """The first `rows` rows (or more) of a plain JPEG, with 1 / divisor of the pixels each way.

    Decoding stops there because the header is changed to promise no more rows. Damaged pixels
    further down then go unnoticed, but the file must not be truncated.
    """
    height = min(rows + _CONTEXT_ROWS * divisor, frame.height)
    shortened: bytes | bytearray = encoded
    if height < frame.height and frame.sequential:
        shortened = bytearray(encoded)
        shortened[frame.offset + 5 : frame.offset + 7] = height.to_bytes(2)
    else:
        height = frame.height
    # simplejpeg takes the smallest scale that gives at least this height and width.
    shape = (-(-height // divisor), -(-frame.width // divisor))
    pixels = np.empty((*shape, 3), np.uint8)
    try:
        return simplejpeg.decode_jpeg(
            shortened, min_height=shape[0], min_width=shape[1], buffer=pixels
        )
    except ValueError as error:
        if _ONLY_ROWS_LEFT.search(str(error)):
            return pixels
        if shortened is encoded:
            raise _undecodable(error) from error
    # An error due to the changed header, such as about restart markers: decode the whole file.
    return _decode_jpeg_rows(encoded, frame, frame.height, divisor)


def _decode_other(encoded: bytes, channels: int = 3) -> np.ndarray:
    """Any format and kind that Pillow knows: uint8 [H, W, channels], writable."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            # The darkest and brightest value are not known; convert would clip to 0 and 255.
            if image.mode == "F":
                raise ValueError("its pixels are floats: save it with 8 bits a channel")
            # Of a PGM file, Pillow scales what has more than 8 bits to 16.
            if image.mode == "I" and image.format != "PPM":
                raise ValueError(
                    "its pixels are integers of 32 bits, or with a sign: save it with 8 bits a "
                    "channel"
                )
            image.load()
            with contextlib.suppress(Exception):  # damaged EXIF does not make the image unusable
                ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I"):  # 16 bits of grey; convert would clip them
                grey = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
                image = Image.fromarray(grey)
            image.info.pop("transparency", None)  # or Pillow warns that it drops it
            mode = "RGB" if channels == 3 else "L"
            pixels = np.array(image if image.mode == mode else image.convert(mode))
            return pixels.reshape(image.height, image.width, channels)
    except MemoryError:
        raise  # not the fault of the file
    except Exception as error:  # Pillow raises many kinds of error for a damaged file
        raise _undecodable(error) from error


def _undecodable(error: Exception) -> ValueError:
    message = re.sub(r" <_io\S* object at \w+>", "", str(error)) or type(error).__name__
    return ValueError(f"not an image that can be decoded: {message}")
