"""scikit-learn's handwritten digits, which need no download."""

import contextlib
import dataclasses
import pathlib
from importlib.util import find_spec
from typing import Any

import numpy as np

from vasso_jax.data.datasets import ImageDataset, Split, channel_statistics
from vasso_jax.data.sources.source import Source

# Share held out for testing; scikit-learn has no official split.
_TEST_FRACTION = 0.2
_SHAPE = (1797, 65)


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
        table = _table()
        # Grey levels 0..16 in the package.
        images = np.round(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
        labels = table[:, -1].astype(np.int32)
        order = np.random.default_rng(self.split_seed).permutation(len(images))
        held_out = round(len(images) * _TEST_FRACTION)
        test, train = order[:held_out], order[held_out:]
        return ImageDataset(
            "digits",
            tuple(map(str, range(10))),
            *channel_statistics(images[train]),
            Split(images[train], labels[train]),
            Split(images[test], labels[test]),
        )


def _table() -> np.ndarray:
    """float64 [1797, 65]: 64 grey levels and the digit.

    Raises:
        ValueError: scikit-learn is missing or damaged.
    """
    # Importing scikit-learn for this file would be a quarter of a cached start.
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        path = pathlib.Path(folder, "datasets", "data", "digits.csv.gz")
        # Of whatever kind the damage is, scikit-learn's own function has to say it.
        with contextlib.suppress(Exception):
            if path.exists() and (table := np.loadtxt(path, delimiter=",")).shape == _SHAPE:
                return table
    try:
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"the digits of scikit-learn cannot be read ({reason}): pip install --force-reinstall "
            "scikit-learn"
        ) from error
    return np.column_stack([digits.data, digits.target])
