"""Mixup and cutmix: what a mixed batch consists of, and how shares are distributed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vasso_jax.data.augmentation import Augmentation, Targets, mix
from vasso_jax.data.augmentation.mixing import cutmix_mask, symmetric_beta

HEIGHT, WIDTH = 12, 20
LABELS = np.arange(6) * 10


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).normal(size=(6, HEIGHT, WIDTH, 3)).astype(np.float32)


def many(function, count):
    """`function` of as many keys."""
    return np.asarray(jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(1), count)))


def mixing(**options):
    return jax.jit(functools.partial(mix, options=Augmentation(**options)))


def check_targets(targets):
    np.testing.assert_array_equal(targets.labels, LABELS)
    np.testing.assert_array_equal(targets.partners, [50, 0, 10, 20, 30, 40])
    assert targets.share.shape == (6,)
    assert len(set(np.asarray(targets.share).tolist())) == 1


def test_mixup_averages_each_image_with_the_one_before_it(pixels):
    mixed, targets = mixing(mixup_alpha=1.0)(jax.random.key(0), pixels, LABELS)
    check_targets(targets)
    share = float(targets.share[0])
    assert 0.01 < share < 0.99
    expected = share * pixels + (1 - share) * pixels[[5, 0, 1, 2, 3, 4]]
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
    assert mixed.dtype == jnp.float32


def test_cutmix_pastes_a_box_of_the_image_before(pixels):
    cutmix, shares = mixing(cutmix_alpha=1.0), set()
    for seed in range(5):
        mixed, targets = cutmix(jax.random.key(seed), pixels, LABELS)
        check_targets(targets)
        others = pixels[[5, 0, 1, 2, 3, 4]]
        pasted = (np.asarray(mixed) == others).all((0, 3))
        np.testing.assert_array_equal(mixed, np.where(pasted[:, :, None], others, pixels))
        # The same rectangle in every image, and the share is what is left of the own one.
        assert pasted.sum() == pasted.any(1).sum() * pasted.any(0).sum()
        np.testing.assert_allclose(targets.share, 1 - pasted.mean(), rtol=1e-6)
        shares.add(float(targets.share[0]))
    assert len(shares) == 5


def test_the_boxes_of_cutmix_have_the_sides_and_centres_of_the_paper():
    masks = many(lambda key: cutmix_mask(key, 1.0, HEIGHT, WIDTH), 8000) == 0
    lambdas = many(lambda key: symmetric_beta(jax.random.split(key, 3)[0], 1.0), 8000)
    heights, widths = masks.any(2).sum(1), masks.any(1).sum(1)
    np.testing.assert_array_equal(masks.sum((1, 2)), heights * widths)
    for found, length, covered in ((heights, HEIGHT, masks.any(2)), (widths, WIDTH, masks.any(1))):
        half = np.floor(np.sqrt(1 - lambdas) * length / 2).astype(int)
        assert np.all(found <= 2 * half)
        inner = ~covered[:, 0] & ~covered[:, -1] & (found > 0)  # not clipped
        assert inner.sum() > 1000
        np.testing.assert_array_equal(found[inner], 2 * half[inner])
        # How many centres cover the first, the middle and the last pixel.
        small = (half < length / 6) & (found > 0)
        often = covered[small].mean(0)[[0, length // 2, -1]] * length
        expected = [(1 + half[small]).mean(), 2 * half[small].mean(), half[small].mean()]
        np.testing.assert_allclose(often, expected, rtol=0.35)


def test_with_both_a_batch_takes_either_of_them():
    pixels, labels = np.arange(2.0, dtype=np.float32)[:, None, None, None], np.arange(2)
    pixels = np.broadcast_to(pixels, (2, 8, 8, 1))
    options = Augmentation(mixup_alpha=1.0, cutmix_alpha=1.0)
    mixed = many(lambda key: mix(key, pixels, labels, options=options)[0][1], 2000)
    averaged = ((mixed > 0) & (mixed < 1)).any((1, 2, 3))
    assert 900 < averaged.sum() < 1100
    # And each is drawn as it is alone: pixels are those of the first image or of the second.
    assert np.isin(mixed[~averaged], [0, 1]).all()


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 4.0])
def test_shares_are_from_the_beta_distribution(alpha):
    shares = many(lambda key: symmetric_beta(key, alpha), 40_000)
    assert shares.dtype == np.float32
    assert shares.min() >= 0
    assert shares.max() <= 1
    at = np.array([0.001, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 0.999])
    found = (shares[:, None] <= at).mean(0)
    expected = stats.beta(alpha, alpha).cdf(at)
    np.testing.assert_allclose(found, expected, atol=5 * 0.5 / np.sqrt(40_000))


def test_extreme_alphas_give_numbers():
    for alpha, apart in ((1e-6, 0.5), (1e6, 0.0)):
        shares = many(lambda key, alpha=alpha: symmetric_beta(key, alpha), 1000)
        np.testing.assert_allclose(abs(shares - 0.5), apart, atol=0.01)


def test_the_mean_is_shared_by_both_labels():
    targets = Targets(np.array([0, 1]), np.array([2, 0]), np.array([0.75, 0.5]))
    value = np.array([1.0, 10.0, 100.0])
    assert targets.mean(lambda labels: value[labels]) == (0.75 + 25 + 5 + 0.5) / 2
    assert Targets(targets.labels).mean(lambda labels: value[labels]) == 5.5
