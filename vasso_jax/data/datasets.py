"""Data sets: two splits, in memory or read image by image, with class names and statistics."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from vasso_jax.names import check_choice

ON_DAMAGED = ("stop", "skip")
# Per-channel mean and standard deviation of ImageNet, for pixels in [0, 1], as networks trained on
# it expect.
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Split(NamedTuple):
    """A split in memory. images: uint8 [N, H, W, C]; labels: int32 [N]."""

    images: np.ndarray
    labels: np.ndarray


class EncodedExample(NamedTuple):
    """The bytes of an image file, the label, and a name of the image for error messages."""

    encoded: bytes
    label: int
    name: str


class EncodedSplit(Protocol):
    """A split on disk with random access. Picklable, since it is sent to worker processes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> EncodedExample: ...


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Two splits for image classification.

    Attributes:
        name: of the data set.
        class_names: by label.
        mean, std: per channel, for pixels in [0, 1].
    """

    name: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class ImageDataset(Dataset):
    """Images of one size, in memory."""

    train: Split
    test: Split

    @property
    def num_train(self) -> int:
        """Training images."""
        return len(self.train.labels)

    @property
    def num_test(self) -> int:
        """Test images."""
        return len(self.test.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.train.images.shape[1:]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Streaming:
    """How images are read from disk.

    Attributes:
        image_size: side of the square crop, in pixels.
        crop_min_area: training crops cover at least this share of the image, in (0, 1].
        eval_crop: side of the central crop for evaluation, relative to the image's shorter side, in
            (0, 1].
        on_damaged: what to do with an image that cannot be decoded: `stop` the run, or `skip` the
            image and report how many were skipped. Another training image takes its place; a test
            image is left out of the accuracy.
        workers: processes that read and decode; 0: threads of this process.

    Raises:
        ValueError: a value is out of range.
    """

    image_size: int = 224
    crop_min_area: float = 0.08
    eval_crop: float = 0.875
    on_damaged: str = "stop"
    workers: int = 0

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"image_size must be at least 1, got {self.image_size}")
        for field in ("crop_min_area", "eval_crop"):
            if not 0 < getattr(self, field) <= 1:
                raise ValueError(f"{field} must be in (0, 1], got {getattr(self, field)}")
        check_choice("on_damaged", self.on_damaged, ON_DAMAGED)
        if self.workers < 0:
            raise ValueError(f"workers must be >= 0 (0: threads), got {self.workers}")

    @property
    def skips(self) -> bool:
        """Whether damaged images are left out."""
        return self.on_damaged == "skip"


@dataclasses.dataclass(frozen=True)
class StreamedDataset(Dataset):
    """Images of many sizes, or too many to hold, read from disk in every epoch.

    Attributes:
        streaming: how they are read.
    """

    train: EncodedSplit
    test: EncodedSplit
    streaming: Streaming = Streaming()

    @property
    def num_train(self) -> int:
        """Training images."""
        return len(self.train)

    @property
    def num_test(self) -> int:
        """Test images."""
        return len(self.test)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the crops."""
        return (self.streaming.image_size, self.streaming.image_size, 3)


def from_arrays(
    name: str,
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    class_names: Sequence[str] | None = None,
) -> ImageDataset:
    """Checks arrays and makes a data set of them, with the statistics of the training images.

    Args:
        name: of the data set, as it is shown to users.
        train: `images` uint8 [N, H, W, C] and `labels`, integers 0, 1, ... [N].
        test: the same, with images of the same shape.
        class_names: by label; None: the labels as strings.

    Raises:
        ValueError: an array has another dtype or shape, or a label is out of range.
    """
    return checked(name, {f"{name}, train": train, f"{name}, test": test}, class_names)


def checked(
    name: str, splits: Mapping[str, tuple[Any, Any]], class_names: Sequence[str] | None
) -> ImageDataset:
    """`from_arrays`, of two splits by the names to use in messages, training split first."""
    arrays = {where: Split(*map(np.asarray, split)) for where, split in splits.items()}
    for where, split in arrays.items():
        _check_arrays(where, *split)
    train, test = arrays.values()
    if class_names is None:
        class_names = tuple(map(str, range(int(train.labels.max()) + 1)))
    for where, split in arrays.items():
        low, high = split.labels.min(), split.labels.max()
        if low < 0 or high >= len(class_names):
            raise ValueError(
                f"{where}: labels run from {low} to {high}, the {len(class_names)} classes from 0 "
                f"to {len(class_names) - 1}"
            )
    if train.images.shape[1:] != test.images.shape[1:]:
        first, second = arrays
        raise ValueError(
            f"{first} has images of shape {train.images.shape[1:]}, but {second} of "
            f"{test.images.shape[1:]}"
        )
    train, test = (Split(s.images, s.labels.astype(np.int32)) for s in (train, test))
    return ImageDataset(name, tuple(class_names), *channel_statistics(train.images), train, test)


def _check_arrays(where: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Raises ValueError, with a message that begins with `where`, unless the arrays are valid."""
    if images.dtype != np.uint8:
        raise ValueError(f"{where}: images must be uint8, 0 to 255, got {images.dtype}")
    if images.ndim != 4 or not images.size:
        raise ValueError(f"{where}: images must be [N, H, W, C], got shape {images.shape}")
    if images.shape[-1] > 4 and images.shape[1] <= 4:
        raise ValueError(
            f"{where}: images must be [N, H, W, C], but {images.shape} is [N, C, H, W]"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{where}: labels must be integers, one per image; got {labels.dtype} of shape "
            f"{labels.shape} for {len(images)} images"
        )


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Exact mean and standard deviation per channel, for pixels in [0, 1].

    A constant channel gets standard deviation 1, so that it can be divided by.

    Args:
        images: uint8 [N, H, W, C].
    """
    levels = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[-1]):
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        mean = np.average(levels, weights=counts)
        means.append(float(mean))
        variance = np.average((levels - mean) ** 2, weights=counts)
        deviations.append(float(np.sqrt(variance)) if np.count_nonzero(counts) > 1 else 1.0)
    return tuple(means), tuple(deviations)
