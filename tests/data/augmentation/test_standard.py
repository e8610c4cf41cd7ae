"""Crop, flip, cutout, normalisation: what each must leave and may change. The order of all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vasso_jax.data.augmentation import standard
from vasso_jax.data.augmentation.options import Augmentation
from vasso_jax.data.augmentation.standard import (
    augment,
    cutout,
    normalize,
    random_crop,
    random_flip,
)

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(1, 256, (64, 32, 32, 3)).astype(np.uint8)


def test_every_crop_is_a_window_of_the_black_padded_image(images):
    cropped = np.asarray(random_crop(jax.random.key(0), images, 4))
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    offsets = set()
    for image, crop in zip(padded, cropped, strict=True):
        found = [
            (r, c)
            for r in range(9)
            for c in range(9)
            if np.array_equal(image[r : r + 32, c : c + 32], crop)
        ]
        assert len(found) == 1
        offsets.update(found)
    assert {r for r, _ in offsets} == {c for _, c in offsets} == set(range(9))


def test_a_flip_mirrors_about_half_of_the_images(images):
    flipped = np.asarray(random_flip(jax.random.key(0), images))
    mirrored = [np.array_equal(f, i[:, ::-1]) for f, i in zip(flipped, images, strict=True)]
    untouched = [np.array_equal(f, i) for f, i in zip(flipped, images, strict=True)]
    assert all(m != u for m, u in zip(mirrored, untouched, strict=True))
    assert 20 < sum(mirrored) < 44


def test_normalisation(images):
    expected = (images / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(normalize(images, MEAN, STD), expected, rtol=1e-5, atol=1e-6)


def test_cutout_is_a_clipped_square_of_zeros():
    pixels = jnp.ones((2000, 32, 32, 3))
    holes = np.asarray(cutout(jax.random.key(0), pixels, 16, 0.5)) == 0
    assert np.array_equal(holes[..., 0], holes[..., 1])
    assert np.array_equal(holes[..., 0], holes[..., 2])
    hit = holes.any((1, 2, 3))
    assert 900 < hit.sum() < 1100
    heights, widths = holes[hit][..., 0].any(2).sum(1), holes[hit][..., 0].any(1).sum(1)
    np.testing.assert_array_equal(holes[hit][..., 0].sum((1, 2)), heights * widths)
    # Centre 0 keeps rows 0..7, centre 31 rows 23..31.
    assert set(heights) == set(widths) == set(range(8, 17))


def test_same_key_same_batch_and_off_switches(images):
    everything = Augmentation(crop_padding=4, flip=True, cutout_size=16, cutout_probability=0.5)
    key = jax.random.key(3)
    once, again, other = (
        augment(k, images, options=everything, mean=MEAN, std=STD)
        for k in (key, key, jax.random.key(4))
    )
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)
    nothing = Augmentation(crop_padding=0, flip=False, cutout_size=0, cutout_probability=0.5)
    plain = augment(key, images, options=nothing, mean=MEAN, std=STD)
    np.testing.assert_array_equal(plain, normalize(images, MEAN, STD))


def test_the_policy_comes_after_the_flip_and_leaves_the_other_draws_as_they_are(
    images, monkeypatch
):
    def invert(key, images, options):
        assert key == jax.random.split(jax.random.key(1), 4)[3]
        assert options.magnitude == 7
        return 255 - images

    monkeypatch.setattr(standard, "apply_policy", invert)
    options = Augmentation(
        crop_padding=4, flip=True, policy="randaugment", magnitude=7, cutout_size=16
    )
    crop_key, flip_key, cutout_key = jax.random.split(jax.random.key(1), 3)
    expected = 255 - random_flip(flip_key, random_crop(crop_key, images, 4))
    expected = cutout(cutout_key, normalize(expected, MEAN, STD), 16, 0.5)
    found = augment(jax.random.key(1), images, options=options, mean=MEAN, std=STD)
    np.testing.assert_array_equal(found, expected)
