"""Crops of decoded images against Pillow, and where they lie."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.data.photographs import JPEG, OTHER, PLAIN, by_pillow, encode, photograph
from vasso_jax.data import resizing
from vasso_jax.data.images import random_crop_box, random_resized_crop
from vasso_jax.data.images import resize_and_center_crop as center_crop


def reference(pixels, box, size):
    """Cropped, then resized by Pillow, from an integral box."""
    left, top, width, height = box
    crop = Image.fromarray(pixels[top : top + height, left : left + width])
    return np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR)).astype(float)


@pytest.mark.parametrize("resizer", ["cykooz_resizer", "Pillow"])
@pytest.mark.parametrize("kind", ["4:2:0", "4:4:4", "progressive", "restart markers", "CMYK"])
def test_random_crops_are_pillows_to_a_grey_level(kind, resizer, monkeypatch):
    if resizer == "Pillow":
        monkeypatch.setattr(resizing, "cykooz_resizer", None)
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
@settings(max_examples=300)
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
@settings(max_examples=40)
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
