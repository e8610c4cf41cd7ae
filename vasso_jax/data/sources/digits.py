"""scikit-learn's handwritten digits, which need no download."""

import dataclasses
from typing import Any

import numpy as np

from vasso_jax.data.datasets import ImageDataset, Split, channel_statistics
from vasso_jax.data.sources.source import Source

# Share held out for testing; scikit-learn has no official split.
_TEST_FRACTION = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """scikit-learn's 1,797 handwritten digits, 8x8 grey, part of its package.

    Attributes:
        split_seed: draws the fifth of the images that is held out for testing; independent of the
            seed of the run.

    Raises:
        ValueError: split_seed is below 0.
    """

    split_seed: int = 0

    def __post_init__(self) -> None:
        if self.split_seed < 0:
            raise ValueError(f"split_seed must be >= 0, got {self.split_seed}")

    def load(self) -> ImageDataset:
        """All images, with the statistics of the training images."""
        # Local: scikit-learn takes most of a second to import and only this set needs it.
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
        # Grey levels 0..16 in the package.
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
        labels = digits.target.astype(np.int32)
        order = np.random.default_rng(self.split_seed).permutation(len(images))
        held_out = round(len(images) * _TEST_FRACTION)
        test, train = order[:held_out], order[held_out:]
        return ImageDataset(
            "digits",
            tuple(str(digit) for digit in digits.target_names),
            *channel_statistics(images[train]),
            Split(images[train], labels[train]),
            Split(images[test], labels[test]),
        )
