"""Whole data sets as uint8 arrays: `load(name)`."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from vasso_jax.choices import check_choice
from vasso_jax.data.tfds_reader import read_tfds

# Per-channel statistics that the authors use for CIFAR-10 and CIFAR-100 alike, of 255.
_CIFAR_MEAN = (125.3, 123.0, 113.9)
_CIFAR_STD = (63.0, 62.1, 66.7)
# Share of the digits that is held out; scikit-learn has no official split.
_DIGITS_TEST_FRACTION = 0.2

DATASETS = ("digits", "cifar10", "cifar100")


class Split(NamedTuple):
    """images: uint8 [N, H, W, C]; labels: int32 [N]."""

    images: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A data set in memory. `mean` and `std` are per channel, for pixels in [0, 1]."""

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def load(name: str, data_dir: str = "", split_seed: int = 0) -> ImageDataset:
    """Loads the data set `name`.

    Args:
        name: `digits` (scikit-learn's 1,797 handwritten digits, 8x8 grey, part of its package),
            `cifar10` or `cifar100` (a copy prepared by tensorflow-datasets).
        data_dir: where the tensorflow-datasets copies are; empty: $TFDS_DATA_DIR, or
            ~/tensorflow_datasets.
        split_seed: draws the held-out fifth of `digits`; the other sets have a fixed test split.

    Raises:
        ValueError: unknown name, or the files found are not such a data set.
        FileNotFoundError: no prepared copy; the message says where it looked and what to do.
    """
    check_choice("dataset", name, DATASETS)
    if name == "digits":
        return _load_digits(split_seed)
    copy = read_tfds(name, data_dir)
    return ImageDataset(
        name=name,
        train=Split(*copy.splits["train"]),
        test=Split(*copy.splits["test"]),
        class_names=copy.class_names,
        mean=tuple(value / 255 for value in _CIFAR_MEAN),
        std=tuple(value / 255 for value in _CIFAR_STD),
    )


def _load_digits(split_seed: int) -> ImageDataset:
    if split_seed < 0:
        raise ValueError(f"split_seed must be >= 0, got {split_seed}")
    # Local: scikit-learn takes most of a second to import and only this set needs it.
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    # Grey levels 0..16 in the package.
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int32)
    order = np.random.default_rng(split_seed).permutation(len(images))
    held_out = round(len(images) * _DIGITS_TEST_FRACTION)
    test, train = order[:held_out], order[held_out:]
    pixels = images[train] / 255
    return ImageDataset(
        name="digits",
        train=Split(images[train], labels[train]),
        test=Split(images[test], labels[test]),
        class_names=tuple(str(digit) for digit in digits.target_names),
        mean=(float(pixels.mean()),),
        std=(float(pixels.std()),),
    )
