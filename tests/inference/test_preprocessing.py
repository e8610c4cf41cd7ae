"""Images of any size and kind brought to what a network is given."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vasso_jax.data.images import resize_and_center_crop
from vasso_jax.inference import Preprocessing


def of(height, width, channels, eval_crop=None):
    half = (0.5,) * channels
    return Preprocessing((height, width, channels), half, half, eval_crop)


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    wanted=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.sampled_from([None, 1, 2, 3, 4]),
    wanted_channels=st.sampled_from([1, 3]),
    level=st.integers(0, 255),
)
def test_any_image_of_one_grey_stays_that_grey(size, wanted, channels, wanted_channels, level):
    shape = size if channels is None else (*size, channels)
    image = np.full(shape, level, np.uint8)
    if channels in (2, 4):
        image[..., -1] = 7  # alpha, which is dropped
    resized = of(*wanted, wanted_channels).resized([image])
    assert resized.shape == (1, *wanted, wanted_channels)
    assert resized.dtype == np.uint8
    assert np.all(resized == level)


def test_an_image_of_the_right_size_is_not_touched():
    images = np.random.default_rng(0).integers(0, 256, (3, 6, 4, 2)).astype(np.uint8)
    np.testing.assert_array_equal(of(6, 4, 2).resized(images), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_another_size_is_the_centre_as_pillow_resizes_it(channels):
    image = np.random.default_rng(0).integers(0, 256, (30, 48, channels)).astype(np.uint8)
    (resized,) = of(10, 8, channels).resized([image])
    # 10 x 8 out of 30 x 48 pixels: all rows, and 24 columns in the middle.
    planes = [
        Image.fromarray(image[:, 12:36, i]).resize((8, 10), Image.Resampling.BILINEAR)
        for i in range(channels)
    ]
    assert np.abs(resized.astype(int) - np.stack(planes, -1)).max() <= 1


def test_a_file_is_read_as_the_pixels_in_it(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    for preprocessing in (of(5, 5, 3), of(4, 4, 3), of(4, 4, 3, 0.8), of(5, 5, 1)):
        from_file, from_array = preprocessing.resized([tmp_path / "image.png", image])
        np.testing.assert_array_equal(from_file, from_array)


def test_with_an_evaluation_crop_images_are_those_of_the_test(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    encoded = (tmp_path / "image.png").read_bytes()
    (resized,) = of(8, 8, 3, 0.5).resized([image])
    np.testing.assert_array_equal(resized, resize_and_center_crop(encoded, 8, 16))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3)), "must be uint8"),
        (np.zeros((1, 4, 4, 3), np.uint8), "must be uint8"),
        (np.zeros((0, 4, 3), np.uint8), "has no pixels"),
        (np.zeros((4, 4, 5), np.uint8), "5 channels cannot become one of 3"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(ValueError, match=message):
        of(4, 4, 3).resized([image])


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"image_shape": [8, 8]}, "image_shape must be three sizes"),
        ({"image_shape": 8}, "image_shape must be three sizes"),
        ({"image_shape": [8, 8.0, 1]}, "image_shape must be three sizes"),
        ({"image_shape": [8, 0, 1]}, "image_shape must be three sizes"),
        ({"image_shape": [1 << 20, 1 << 20, 1]}, "of 268,435,456 values at most"),
        ({"mean": None}, "mean must be 1 numbers"),
        ({"mean": [0.5, 0.5]}, "mean must be 1 numbers"),
        ({"std": [0]}, "std must be 1 numbers > 0"),
        ({"streamed": True, "eval_crop": "large"}, r"eval_crop must be in \(0, 1\]"),
        ({"streamed": True, "eval_crop": 0}, r"eval_crop must be in \(0, 1\]"),
    ],
)
def test_facts_that_cannot_be_are_refused(facts, message):
    usual = {"image_shape": [8, 8, 1], "mean": [0.5], "std": [0.25], "streamed": False}
    assert Preprocessing.of(usual, {}).eval_crop is None
    with pytest.raises(ValueError, match=message):
        Preprocessing.of(usual | facts, {"data": None})


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "text.png").write_text("text")
    for preprocessing in (of(4, 4, 3), of(4, 4, 3, 0.875)):
        with pytest.raises(ValueError, match=r"text\.png: not an image"):
            preprocessing.resized([tmp_path / "text.png"])
    with pytest.raises(ValueError, match=r"give \['image\.png'\]"):
        of(4, 4, 3).resized("image.png")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "colour.png")
    with pytest.raises(ValueError, match=r"colour\.png: an image of 3 channels cannot"):
        of(4, 4, 2).resized([tmp_path / "colour.png"])
