"""A share of the training images held out, to choose settings and checkpoints by."""

import dataclasses
from typing import Any

import numpy as np

from vasso_jax.data.datasets import ImageDataset, StreamedDataset
from vasso_jax.data.subset import take

# Label noise of the same seed must not draw the same images, nor its order be the one of an epoch.
_STREAM = 0x76616C


@dataclasses.dataclass(frozen=True)
class Validation:
    """Which training images are held out.

    Each class gives the same share, up to rounding, where the labels are known without reading the
    images. Of a set that is read from disk, they are known if its split has `labels`.

    Attributes:
        share: of the training images, in (0, 1).
        seed: seed of the draw; the default keeps the same images for every seed of the run.

    Raises:
        ValueError: a value is out of range.
    """

    share: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"the share for validation must be in (0, 1), got {self.share}")
        if self.seed < 0:
            raise ValueError(f"the seed of the validation must be >= 0, got {self.seed}")


def hold_out(
    dataset: ImageDataset | StreamedDataset, validation: Validation
) -> ImageDataset | StreamedDataset:
    """The data set with part of its training split as its validation split.

    The statistics for normalisation stay as they are. Images in memory are copied.

    Raises:
        ValueError: it has a validation split already, or the share leaves one of the two empty.
    """
    if dataset.validation is not None:
        raise ValueError(
            f"{dataset.name} has a validation split of its own: leave the share for validation out"
        )
    train: Any = dataset.train
    n, labels = dataset.num_train, getattr(train, "labels", None)
    order = np.random.default_rng((validation.seed, _STREAM)).permutation(n)
    if labels is None:
        held_out = order[: round(validation.share * n)]
    else:
        held_out = _of_each_class(order, np.asarray(labels), validation.share)
    if not 0 < len(held_out) < n:
        raise ValueError(
            f"a share of {validation.share} of the {n} training images of {dataset.name} leaves "
            f"{n - len(held_out)} for training and {len(held_out)} for validation: neither may be 0"
        )
    is_held_out = np.zeros(n, bool)
    is_held_out[held_out] = True
    kept, held_out = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
    return dataclasses.replace(dataset, train=take(train, kept), validation=take(train, held_out))


def _of_each_class(order: np.ndarray, labels: np.ndarray, share: float) -> np.ndarray:
    """The first images of each class in `order`; together as close to the share as can be.

    Each class gives the whole part of its share, and those with the largest remainders one image
    more; but no class gives all that it has.
    """
    counts = np.bincount(labels)
    exact = share * counts
    quotas = np.floor(exact).astype(int)
    missing = round(share * len(labels)) - quotas.sum()
    by_remainder = np.argsort(quotas - exact, kind="stable")
    by_remainder = by_remainder[counts[by_remainder] > quotas[by_remainder] + 1]
    quotas[by_remainder[:missing]] += 1
    by_class = order[np.argsort(labels[order], kind="stable")]
    starts = np.cumsum(counts) - counts
    parts = [by_class[start : start + quota] for start, quota in zip(starts, quotas, strict=True)]
    return np.concatenate(parts)
