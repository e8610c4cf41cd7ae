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

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from vasso_jax.data.jpeg_header import MAX_PIXELS, MAX_SCANS, Frame, plain_jpeg_frame, scans
from vasso_jax.data.resizing import Box, cropped, resize_box, with_channels
from vasso_jax.files import reason

# Of the names of image files, in lower case.
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".ppm", ".tif", ".tiff", ".webp"))
_STRIP_ROWS = 1024
# Formats that Pillow decodes with at most 10 bytes of memory per pixel. Others take up to 25 (JPEG
# 2000; WebP 16, TIFF 13), and 12 a progressive JPEG of four channels: fewer pixels then.
_LEAN = frozenset(("BMP", "GIF", "JPEG", "MPO", "PNG", "PPM"))
_MOST_OF_OTHERS = 36_000_000
_RATIO = (3 / 4, 4 / 3)
# libjpeg-turbo's warning when the header promises fewer rows than there are, or stray bytes follow
# the last one, and nothing else is wrong: the decoder did reach the end-of-image marker.
_ONLY_ROWS_LEFT = re.compile(r"\d+ extraneous bytes before marker 0xd9")
# Decoded rows below the crop, from which its last row's chroma is interpolated (two at 4:2:0).
_CONTEXT_ROWS = 4

# By default glibc returns the end of the heap to the kernel after each image, and page faults then
# take a third of the time of the next image. Once a block this large has been freed, glibc keeps up
# to twice as much (mallopt(3), M_MMAP_THRESHOLD). The block is never touched, so it costs nothing.
np.empty(16 << 20, np.uint8)


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
        ValueError: not an image, truncated, damaged, larger than 89 megapixels (36 of some kinds),
            or of pixels whose range is not known: floats, integers of 32 bits or with a sign.
    """
    frame = plain_jpeg_frame(encoded)
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
    frame, divisor = plain_jpeg_frame(encoded), 1
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


def _decode_jpeg_rows(encoded: bytes, frame: Frame, rows: int, divisor: int) -> np.ndarray:
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
            if image.width * image.height > (most := _most_pixels(image)):
                raise ValueError(
                    f"{image.width} x {image.height} pixels are more than the {most:,} that are "
                    "decoded of its kind: make it smaller"
                )
            if image.format == "EPS":
                raise ValueError("it is a PostScript program, which would be run")
            if image.info.get("progressive") and scans(encoded) > MAX_SCANS:
                raise ValueError(f"it has {scans(encoded):,} scans, more than {MAX_SCANS}")
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
            image.info.pop("transparency", None)  # or Pillow warns that it drops it
            return _pixels(image, channels)
    except MemoryError:
        raise  # not the fault of the file
    except Exception as error:  # Pillow raises many kinds of error for a damaged file
        raise _undecodable(error) from error


def _most_pixels(image: Image.Image) -> int:
    four_at_once = image.mode == "CMYK" and image.info.get("progressive")
    lean = image.format in _LEAN and not four_at_once
    return MAX_PIXELS if lean else _MOST_OF_OTHERS


def _pixels(image: Image.Image, channels: int) -> np.ndarray:
    """A decoded image as uint8 [H, W, channels].

    Converted strip by strip: a large image has no room in memory for several copies.
    """
    mode = "RGB" if channels == 3 else "L"
    pixels = np.empty((image.height, image.width, channels), np.uint8)
    for top in range(0, image.height, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, image.height)
        whole = image.height <= _STRIP_ROWS
        strip = image if whole else image.crop((0, top, image.width, bottom))
        if strip.mode.startswith("I"):  # 16 bits of grey; convert would clip them
            grey = (np.asarray(strip) >> 8).clip(0, 255).astype(np.uint8)
            strip = Image.fromarray(grey)
        converted = np.asarray(strip if strip.mode == mode else strip.convert(mode))
        pixels[top:bottom] = converted.reshape(bottom - top, image.width, channels)
    return pixels


def _undecodable(error: Exception) -> ValueError:
    message = re.sub(r" <_io\S* object at \w+>", "", reason(error))
    return ValueError(f"not an image that can be decoded: {message}")
