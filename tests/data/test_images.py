"""Image decoding against Pillow, the odd files of ImageNet, and damaged ones."""

import concurrent.futures
import io
import multiprocessing
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.data.photographs import (
    JPEG,
    OTHER,
    PHOTOGRAPH,
    PLAIN,
    by_pillow,
    encode,
    photograph,
    with_orientation,
)
from vasso_jax.data import images
from vasso_jax.data.images import decode, random_crop_box, random_resized_crop
from vasso_jax.data.images import resize_and_center_crop as center_crop
from vasso_jax.data.jpeg_header import plain_jpeg_frame


def png_16_bit(pixels):
    """A grey PNG of 16 bits by hand: Pillow writes none from every version."""
    height, width = pixels.shape

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


# Pillow warns of the damaged EXIF; `decode` does not read it.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", PLAIN | OTHER)
def test_every_kind_decodes_as_with_pillow(kind):
    encoded = (PLAIN | OTHER)[kind]
    pixels = decode(encoded)
    assert (plain_jpeg_frame(encoded) is not None) == (kind in PLAIN)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, by_pillow(encoded))


@pytest.mark.parametrize("kind", ["4:2:0", "grey", "CMYK", "PNG", "palette PNG"])
def test_the_picture_is_right_not_only_pillows(kind):
    expected = PHOTOGRAPH.astype(float)
    if kind == "grey":
        expected = np.repeat(expected @ [[0.299], [0.587], [0.114]], 3, axis=-1)
    error = np.abs(decode((PLAIN | OTHER)[kind]) - expected)
    # JPEG loses up to 5.2 here, the palette 13.9; a shift by one pixel makes 23, inversion 80.
    assert error.mean() < (16 if kind == "palette PNG" else 7)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_exif_orientation_is_undone(orientation, mode):
    # How the upright image must be stored for each orientation, by the EXIF standard.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation]
    upright = photograph(48, 64)
    encoded = encode(
        stored(upright), mode=mode, exif=with_orientation(orientation), quality=98, subsampling=0
    )
    pixels = decode(encoded)
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(float) - upright).mean() < 2
    crop = center_crop(encoded, 48, 48)
    assert np.abs(crop.astype(float) - upright[:, 8:56]).mean() < 2


def test_alpha_and_transparent_colours_are_dropped():
    rgba = np.dstack([PHOTOGRAPH, np.zeros((375, 500), np.uint8)])
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "PNG")
    np.testing.assert_array_equal(decode(file.getvalue()), PHOTOGRAPH)
    palette = encode(PHOTOGRAPH, "PNG", mode="P", transparency=bytes(range(256)))
    np.testing.assert_array_equal(decode(palette), decode(OTHER["palette PNG"]))


def test_16_bits_of_grey_keep_the_upper_8():
    grey = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    pixels = decode(png_16_bit(grey))
    np.testing.assert_array_equal(pixels, np.repeat((grey >> 8)[..., None], 3, axis=-1))
    # Pillow has the pixels of this format in 32 bits.
    pgm = b"P5 64 64 65535\n" + grey.astype(">u2").tobytes()
    np.testing.assert_array_equal(decode(pgm, 1)[..., 0], grey >> 8)


READERS = {
    "decode": decode,
    "center": lambda encoded: center_crop(encoded, 224, 224),
    # A small box whose rows end well above the damage.
    "random": lambda encoded: random_resized_crop(encoded, 64, np.random.default_rng(34)),
}


def test_the_random_reader_below_stops_early():
    box = random_crop_box(375, 500, np.random.default_rng(34))
    assert box.top + box.height < 200


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", PLAIN | {"CMYK": 0, "PNG": 0, "palette PNG": 0})
def test_a_truncated_file_is_refused(kind, reader):
    encoded = (PLAIN | OTHER)[kind]
    lost = (2, 20, 300, 700) if kind in PLAIN else (40, 300, 700)
    for kept in (1, 2, 3, 10, 300, len(encoded) // 3, *(len(encoded) - few for few in lost)):
        with pytest.raises(ValueError, match="not an image that can be decoded: "):
            READERS[reader](encoded[:kept])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "content", [b"", b"Not found\n", b"\xff\xd8\xff\xd9", b"\xff" * 99, b"GIF89a"]
)
def test_what_is_no_image_is_refused(content, reader):
    with pytest.raises(ValueError, match="not an image that can be decoded: ") as error:
        READERS[reader](content)
    assert "0x7" not in str(error.value)  # an object's address says nothing


@pytest.mark.parametrize("reader", READERS)
def test_damage_in_the_part_that_is_read_is_refused(reader):
    damaged = bytearray(JPEG)
    middle = len(JPEG) // 8
    damaged[middle : middle + 400] = b"\xff\xd9" * 200  # ends the image early
    with pytest.raises(ValueError, match="not an image that can be decoded"):
        READERS[reader](bytes(damaged))


def test_a_crop_decodes_no_rows_below_it_but_needs_a_whole_file():
    damaged = bytearray(JPEG)
    damaged[-9000:-2] = b"\xff\xd9" + bytes(8996)
    with pytest.raises(ValueError, match="not an image that can be decoded"):
        decode(bytes(damaged))
    read = READERS["random"]
    np.testing.assert_array_equal(read(bytes(damaged)), read(JPEG))


def test_a_decompression_bomb_is_refused():
    blank = Image.new("L", (20_000, 20_000))
    png = io.BytesIO()
    blank.save(png, "PNG")
    jpeg = bytearray(JPEG)
    frame = plain_jpeg_frame(JPEG)
    jpeg[frame.offset + 5 : frame.offset + 9] = struct.pack(">HH", 65_000, 65_000)
    large = bytearray(JPEG)  # Pillow would only warn
    large[frame.offset + 5 : frame.offset + 9] = struct.pack(">HH", 10_000, 10_000)
    for encoded in (png.getvalue(), bytes(jpeg), bytes(large)):
        for read in READERS.values():
            with pytest.raises(ValueError, match="not an image that can be decoded"):
                read(encoded)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_where_pillow_only_warns_it_is_refused_too():
    frame = plain_jpeg_frame(JPEG)
    large = bytearray(JPEG)
    large[frame.offset + 5 : frame.offset + 9] = struct.pack(">HH", 10_000, 10_000)
    with pytest.raises(ValueError, match="10000 x 10000 pixels"):
        decode(bytes(large))


def blank(kind, side, mode="RGB", **options):
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "options", "more"),
    [
        ("WEBP", {}, True),
        ("JPEG2000", {}, True),
        ("JPEG", {"mode": "CMYK", "progressive": True}, True),
        ("JPEG", {"mode": "CMYK"}, False),
        ("TIFF", {}, True),
        ("PNG", {}, False),
    ],
)
def test_what_takes_more_memory_to_decode_must_be_smaller(kind, options, more, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 10_000)
    monkeypatch.setattr(images, "_MOST_OF_OTHERS", 2_500)
    most = 50 if more else 100
    assert decode(blank(kind, most, **options)).shape == (most, most, 3)
    with pytest.raises(ValueError, match=f"{most + 1} x {most + 1} pixels are more than the "):
        decode(blank(kind, most + 1, **options))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", OTHER)
def test_strips_of_a_large_image_join_without_a_seam(kind, channels, monkeypatch):
    whole = decode(OTHER[kind], channels)
    monkeypatch.setattr(images, "_STRIP_ROWS", 100)  # of 375
    np.testing.assert_array_equal(decode(OTHER[kind], channels), whole)


@pytest.mark.parametrize("kind", ["progressive", "rotated"])
def test_a_jpeg_of_very_many_scans_is_refused_at_once(kind):
    exif = with_orientation(6 if kind == "rotated" else 1)
    encoded = encode(photograph(48, 64), progressive=True, exif=exif)
    last = encoded.rindex(b"\xff\xda")
    many = encoded[:-2] + encoded[last:-2] * 600 + encoded[-2:]
    for read in READERS.values():
        with pytest.raises(ValueError, match="it has 610 scans, more than 500"):
            read(many)


def test_a_program_that_draws_an_image_is_not_run():
    file = io.BytesIO()
    Image.fromarray(PHOTOGRAPH[:9, :9]).save(file, "EPS")
    with pytest.raises(ValueError, match="PostScript program"):
        decode(file.getvalue())


def test_sizes_out_of_range_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="resize must be at least size"):
        center_crop(JPEG, 224, 223)
    with pytest.raises(ValueError, match="size must be >= 1"):
        random_resized_crop(JPEG, 0, rng)
    for min_area in (0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="min_area"):
            random_resized_crop(JPEG, 64, rng, min_area)


def test_threads_and_processes_give_the_same_pixels():
    expected = [center_crop(JPEG, size, 256) for size in range(100, 108)]
    arguments = ([JPEG] * 8, range(100, 108), [256] * 8)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for actual, wanted in zip(threads.map(center_crop, *arguments), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn) as processes:
        for actual, wanted in zip(processes.map(center_crop, *arguments), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)


def test_stray_bytes_before_the_end_do_no_harm():
    stray = JPEG[:-2] + b"\x12\x34" + JPEG[-2:]
    np.testing.assert_array_equal(decode(stray), decode(JPEG))
    np.testing.assert_array_equal(center_crop(stray, 224, 256), center_crop(JPEG, 224, 256))


def test_an_image_of_floats_is_refused():
    """Between 0 and 1 it would become black."""
    tiff = io.BytesIO()
    Image.fromarray(np.full((9, 9), 0.5, np.float32)).save(tiff, "TIFF")
    for read in READERS.values():
        with pytest.raises(ValueError, match="its pixels are floats: save it with 8 bits"):
            read(tiff.getvalue())


@pytest.mark.parametrize("pixels", [np.int32([[0, 255]]), np.int32([[0, 1 << 30]])])
def test_an_image_of_32_bit_integers_is_refused(pixels):
    """Its upper bits would be all black or all white."""
    tiff = io.BytesIO()
    Image.fromarray(pixels).save(tiff, "TIFF")
    for read in READERS.values():
        with pytest.raises(
            ValueError, match=r"its pixels are integers of 32 bits.*: save it with 8"
        ):
            read(tiff.getvalue())
