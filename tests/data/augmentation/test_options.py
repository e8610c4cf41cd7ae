"""Which options are refused, alone and for given images."""

import math

import pytest

from vasso_jax.data.augmentation import Augmentation


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_padding": -1}, "crop_padding must be >= 0"),
        ({"cutout_size": -1}, "cutout_size must be >= 0"),
        ({"cutout_probability": 1.5}, "cutout_probability must be in"),
        ({"policy": "randaug"}, "there is no policy 'randaug'. Did you mean randaugment?"),
        ({"policy": "randaugment", "operations": 0}, "operations must be at least 1, got 0"),
        ({"policy": "randaugment", "magnitude": 31}, r"magnitude must be in \[0, 30\], got 31"),
        ({"policy": "randaugment", "magnitude": -1}, "magnitude must be in"),
        ({"operations": 1}, "operations=1 has no effect without policy=randaugment"),
        ({"policy": "trivialaugment", "magnitude": 30}, "magnitude=30 has no effect without"),
        ({"mixup_alpha": -0.1}, "mixup_alpha must be a finite number >= 0"),
        ({"mixup_alpha": math.nan}, "mixup_alpha must be a finite number >= 0"),
        ({"cutmix_alpha": math.inf}, "cutmix_alpha must be a finite number >= 0"),
    ],
)
def test_options_out_of_range_or_without_effect_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)


def test_options_that_do_not_fit_the_images_are_refused():
    policy, mixing = Augmentation(policy="trivialaugment"), Augmentation(cutmix_alpha=1.0)
    with pytest.raises(ValueError, match="but these have 4 channels: leave policy out"):
        policy.check_fit((8, 8, 4), 128)
    with pytest.raises(ValueError, match="no effect on a batch of one image: raise batch_size"):
        mixing.check_fit((8, 8, 3), 1)
    mixing.check_fit((8, 8, 4), 2)
    for channels in (1, 3):
        policy.check_fit((8, 8, channels), 1)


def test_padding_and_cutout_are_smaller_than_the_image():
    with pytest.raises(
        ValueError, match=r"crop_padding=6 gives crops without any of the image, .*8x6"
    ):
        Augmentation(crop_padding=6).check_fit((8, 6, 3), 2)
    with pytest.raises(ValueError, match="cutout_size=7 exceeds the image of 8x6 pixels"):
        Augmentation(cutout_size=7).check_fit((8, 6, 3), 2)
    Augmentation(crop_padding=5, cutout_size=6).check_fit((8, 6, 3), 2)
