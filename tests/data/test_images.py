"""Image decoding against Pillow, the odd files of ImageNet, and damaged ones."""

import concurrent.futures
import io
import multiprocessing
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vasso_jax.data import images
from vasso_jax.data.images import decode, random_crop_box, random_resized_crop
from vasso_jax.data.images import resize_and_center_crop as center_crop


def photograph(height, width, seed=0):
    """Noise with a photograph's 1/f spectrum: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((4, height, width))) / frequency
    noise = np.fft.irfft2(spectrum, (height, width))
    pixels = noise[:1] + 0.3 * noise[1:]  # mostly grey, as photographs are
    pixels = 128 + 50 * pixels / pixels.std()
    return pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0)


def encode(pixels, kind="JPEG", mode="RGB", **options):
    if kind == "JPEG":
        options = {"quality": 92} | options
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


def by_pillow(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def with_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


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


PHOTOGRAPH = photograph(375, 500)
JPEG = encode(PHOTOGRAPH)
# What is plain to libjpeg-turbo, and what goes through Pillow.
PLAIN = {
    "4:2:0": JPEG,
    "4:4:4": encode(PHOTOGRAPH, subsampling=0),
    "progressive": encode(PHOTOGRAPH, progressive=True),
    "restart markers": encode(PHOTOGRAPH, restart_marker_rows=1),
    "grey": encode(PHOTOGRAPH, mode="L"),
    "upright by EXIF": encode(PHOTOGRAPH, exif=with_orientation(1)),
    "damaged EXIF": encode(PHOTOGRAPH, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
}
OTHER = {
    "CMYK": encode(PHOTOGRAPH, mode="CMYK"),
    "PNG": encode(PHOTOGRAPH, "PNG"),
    "palette PNG": encode(PHOTOGRAPH, "PNG", mode="P"),
    "RGBA PNG": encode(PHOTOGRAPH, "PNG", mode="RGBA"),
    "grey PNG": encode(PHOTOGRAPH, "PNG", mode="L"),
    "bilevel PNG": encode(PHOTOGRAPH, "PNG", mode="1"),
    "GIF": encode(PHOTOGRAPH, "GIF"),
    "BMP": encode(PHOTOGRAPH, "BMP"),
}


# Pillow warns of the damaged EXIF; `decode` does not read it.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", PLAIN | OTHER)
def test_every_kind_decodes_as_with_pillow(kind):
    encoded = (PLAIN | OTHER)[kind]
    pixels = decode(encoded)
    assert (images._plain_jpeg_frame(encoded) is not None) == (kind in PLAIN)
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


def reference(pixels, box, size):
    """Cropped, then resized by Pillow, from an integral box."""
    left, top, width, height = box
    crop = Image.fromarray(pixels[top : top + height, left : left + width])
    return np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR)).astype(float)


@pytest.mark.parametrize("resizer", ["cykooz_resizer", "Pillow"])
@pytest.mark.parametrize("kind", ["4:2:0", "4:4:4", "progressive", "restart markers", "CMYK"])
def test_random_crops_are_pillows_to_a_grey_level(kind, resizer, monkeypatch):
    if resizer == "Pillow":
        monkeypatch.setattr(images, "cykooz_resizer", None)
    encoded = (PLAIN | OTHER)[kind]
    pixels = by_pillow(encoded)
    for seed in range(12):
        crop = random_resized_crop(encoded, 224, np.random.default_rng(seed))
        box = random_crop_box(375, 500, np.random.default_rng(seed))
        assert np.abs(crop - reference(pixels, box, 224)).max() <= 1


@pytest.mark.parametrize("divisor", [2, 4, 8])
def test_crops_from_a_scaled_decode_are_near_pillows(divisor):
    encoded = encode(photograph(700, 800, seed=1))
    pixels, size = by_pillow(encoded), 448 // divisor
    for seed in range(4):
        crop = random_resized_crop(encoded, size, np.random.default_rng(seed), min_area=0.7)
        box = random_crop_box(700, 800, np.random.default_rng(seed), min_area=0.7)
        assert min(box.width, box.height) >= divisor * size  # so it was scaled
        error = np.abs(crop - reference(pixels, box, size))
        # Its low pass is sharper than the bilinear filter: up to 2.03 and 7 were measured.
        assert error.mean() < 3
        assert np.percentile(error, 99) < 12


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (256, 256), (300, 301)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_center_crop_is_that_of_the_whole_image_resized(shape, kind):
    encoded = encode(photograph(*shape), kind)
    height, width = shape
    rows, columns = 256 * height // min(shape), 256 * width // min(shape)
    whole = Image.fromarray(by_pillow(encoded)).resize((columns, rows), Image.Resampling.BILINEAR)
    left, top = round((columns - 224) / 2), round((rows - 224) / 2)
    expected = np.asarray(whole)[top : top + 224, left : left + 224].astype(float)
    assert np.abs(center_crop(encoded, 224, 256) - expected).max() <= 1


def test_a_center_crop_from_a_scaled_decode_is_near_that_too():
    encoded = encode(photograph(700, 800, seed=1))
    whole = Image.fromarray(by_pillow(encoded)).resize((125, 110), Image.Resampling.BILINEAR)
    expected = np.asarray(whole)[5:105, 12:112].astype(float)
    # 1.57 was measured; a shift by one pixel makes 16.
    assert np.abs(center_crop(encoded, 100, 110) - expected).mean() < 3


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0.01, 1), st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_boxes_lie_inside_and_have_the_area_and_ratio_asked_for(height, width, min_area, seed):
    box = random_crop_box(height, width, np.random.default_rng(seed), min_area)
    assert all(isinstance(length, int) for length in box)
    assert box.left >= 0
    assert box.top >= 0
    assert 1 <= box.width <= width - box.left
    assert 1 <= box.height <= height - box.top
    # Sides are rounded to whole pixels.
    assert (box.width - 0.5) / (box.height + 0.5) <= 4 / 3
    assert (box.width + 0.5) / (box.height - 0.5) >= 3 / 4
    fallback = box.width == width or box.height == height
    assert fallback or (box.width + 0.5) * (box.height + 0.5) >= min_area * height * width


def test_boxes_are_uniform_in_area_and_log_ratio_and_place():
    rng = np.random.default_rng(0)
    # Every ratio fits up to this area, so nothing is drawn again.
    boxes = np.array([random_crop_box(1000, 1000, rng, 0.08) for _ in range(4000)], float)
    left, top, width, height = boxes.T
    small = width * height < 0.7e6
    area = (width * height / 1e6)[small]
    np.testing.assert_allclose(
        np.quantile(area, [0.25, 0.5, 0.75]), [0.235, 0.39, 0.545], atol=0.02
    )
    ratio = np.log(width / height)[small] / np.log(4 / 3)
    np.testing.assert_allclose(np.quantile(ratio, [0.25, 0.5, 0.75]), [-0.5, 0, 0.5], atol=0.06)
    for start, length in ((left, width), (top, height)):
        place = (start / (1000 - length + 1))[small]
        np.testing.assert_allclose(
            np.quantile(place, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.04
        )


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [(10, 1000, (493, 0, 13, 10)), (1000, 10, (0, 493, 10, 13)), (1, 1, (0, 0, 1, 1))],
)
def test_an_image_too_long_for_any_box_gives_its_centre(height, width, box):
    assert random_crop_box(height, width, np.random.default_rng(0), min_area=1) == box


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_any_size_of_image_gives_the_shape_asked_for(height, width, size, seed):
    encoded = encode(np.full((height, width, 3), 90, np.uint8))
    for crop in (
        random_resized_crop(encoded, size, np.random.default_rng(seed)),
        center_crop(encoded, size, size + 3),
    ):
        assert crop.shape == (size, size, 3)
        assert crop.dtype == np.uint8
        assert np.abs(crop - 90.0).max() <= 2


def test_the_same_generator_gives_the_same_crop_and_another_another():
    first, again, other = (
        random_resized_crop(JPEG, 64, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


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
    frame = images._plain_jpeg_frame(JPEG)
    jpeg[frame.offset + 5 : frame.offset + 9] = struct.pack(">HH", 65_000, 65_000)
    large = bytearray(JPEG)  # Pillow would only warn
    large[frame.offset + 5 : frame.offset + 9] = struct.pack(">HH", 10_000, 10_000)
    for encoded in (png.getvalue(), bytes(jpeg), bytes(large)):
        for read in READERS.values():
            with pytest.raises(ValueError, match="not an image that can be decoded"):
                read(encoded)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_where_pillow_only_warns_it_is_refused_too():
    frame = images._plain_jpeg_frame(JPEG)
    large = bytearray(JPEG)
    large[frame.offset + 5 : frame.offset + 9] = struct.pack(">HH", 10_000, 10_000)
    with pytest.raises(ValueError, match="10000 x 10000 pixels"):
        decode(bytes(large))


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
