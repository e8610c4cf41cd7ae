"""Data sets: their splits, in memory or read image by image, with class names and statistics."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from vasso_jax.data.checks import (
    check_arrays,
    check_encoded,
    check_fit,
    count_classes,
    valid_names,
    valid_statistics,
)
from vasso_jax.names import check_choice

ON_DAMAGED = ("stop", "skip")
# Per-channel mean and standard deviation of ImageNet, for pixels in [0, 1], as networks trained on
# it expect.
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Split(NamedTuple):
    """A split in memory. images: uint8 [N, H, W, C]; labels: integers 0, 1, ... [N]."""

    images: np.ndarray
    labels: np.ndarray


class EncodedExample(NamedTuple):
    """The bytes of an image file, the label, and a name of the image for error messages."""

    encoded: bytes
    label: int
    name: str


class EncodedSplit(Protocol):
    """A split on disk with random access. Picklable, since it is sent to worker processes.

    It may have `labels`, integers [N], for what needs all of them, and no images.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> EncodedExample: ...


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Splits for image classification.

    Attributes:
        name: of the data set.
        class_names: by label.
        mean, std: per channel, for pixels in [0, 1]; the images are normalised with them.
    """

    name: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def _check_description(self, channels: int) -> None:
        """Raises ValueError unless names and statistics fit.

        They become tuples of Python's types, which the run folder can hold.
        """
        mean, std = valid_statistics(self.name, self.mean, self.std, channels)
        names = valid_names(self.name, self.class_names)
        for field, value in (("class_names", names), ("mean", mean), ("std", std)):
            object.__setattr__(self, field, value)  # the class is frozen


@dataclasses.dataclass(frozen=True)
class ImageDataset(Dataset):
    """Images of one size, in memory. `from_arrays` makes one, with its statistics.

    Attributes:
        train, test: of NumPy arrays, which may be memory-mapped, or of JAX arrays. The checks read
            the labels, but no pixels.
        validation: to choose settings and checkpoints by, if there is such a split.

    Raises:
        ValueError: an array has another dtype or shape, a label is out of range, or names or
            statistics do not fit.
    """

    train: Split
    test: Split
    validation: Split | None = None

    def __post_init__(self) -> None:
        splits = {f"{self.name}, train": self.train, f"{self.name}, test": self.test}
        if self.validation is not None:
            splits[f"{self.name}, validation"] = self.validation
        for where, split in splits.items():
            if not isinstance(split, Split):
                raise ValueError(
                    f"{where}: must be a vasso_jax.data.Split(images, labels), got a "
                    f"{type(split).__name__}"
                )
            check_arrays(where, *split)
        self._check_description(self.image_shape[-1])
        check_fit(splits, len(self.class_names))

    @property
    def num_train(self) -> int:
        """Training images."""
        return len(self.train.labels)

    @property
    def num_test(self) -> int:
        """Test images."""
        return len(self.test.labels)

    @property
    def num_validation(self) -> int:
        """Validation images."""
        return 0 if self.validation is None else len(self.validation.labels)

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
        validation: to choose settings and checkpoints by, if there is such a split.

    Raises:
        ValueError: a split is empty or is no `EncodedSplit`, or names or statistics do not fit.
    """

    train: EncodedSplit
    test: EncodedSplit
    streaming: Streaming = Streaming()
    validation: EncodedSplit | None = None

    def __post_init__(self) -> None:
        check_encoded(f"{self.name}, train", self.train)
        check_encoded(f"{self.name}, test", self.test)
        if self.validation is not None:
            check_encoded(f"{self.name}, validation", self.validation)
        self._check_description(self.image_shape[-1])

    @property
    def num_train(self) -> int:
        """Training images."""
        return len(self.train)

    @property
    def num_test(self) -> int:
        """Test images."""
        return len(self.test)

    @property
    def num_validation(self) -> int:
        """Validation images."""
        return 0 if self.validation is None else len(self.validation)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C) of the crops."""
        return (self.streaming.image_size, self.streaming.image_size, 3)


def from_arrays(
    name: str,
    train: tuple[Any, Any],
    test: tuple[Any, Any],
    class_names: Sequence[str] | None = None,
    validation: tuple[Any, Any] | None = None,
) -> ImageDataset:
    """Checks arrays and makes a data set of them, with the statistics of the training images.

    Args:
        name: of the data set, as it is shown to users.
        train: `images` uint8 [N, H, W, C] and `labels`, integers 0, 1, ... [N].
        test: the same, with images of the same shape.
        class_names: by label; None: the labels as strings.
        validation: a third split, to choose settings and checkpoints by.

    Raises:
        ValueError: an array has another dtype or shape, or a label is out of range.
        TypeError: the name is no text.
    """
    if not isinstance(name, str):
        raise TypeError(f"the first argument is the data set's name, got a {type(name).__name__}")
    splits = {f"{name}, train": train, f"{name}, test": test}
    if validation is not None:
        splits[f"{name}, validation"] = validation
    return checked(name, splits, class_names)


def checked(
    name: str, splits: Mapping[str, tuple[Any, Any]], class_names: Sequence[str] | None
) -> ImageDataset:
    """`from_arrays` by the names to use in messages: train, test and, maybe, validation."""
    arrays = {where: _as_split(where, split) for where, split in splits.items()}
    for where, split in arrays.items():
        check_arrays(where, *split)
    first, train = next(iter(arrays.items()))
    if class_names is None:
        class_names = tuple(map(str, range(count_classes(first, train.labels))))
    check_fit(arrays, len(class_names))
    mean, std = channel_statistics(train.images)
    checked_splits = [Split(s.images, s.labels.astype(np.int32)) for s in arrays.values()]
    return ImageDataset(name, tuple(class_names), mean, std, *checked_splits)


def _as_split(where: str, pair: Any) -> Split:
    try:
        images, labels = pair
    except (TypeError, ValueError) as error:
        size = f" of {len(pair)}" if isinstance(pair, tuple | list) else ""
        raise ValueError(
            f"{where}: must be a pair (images, labels), got a {type(pair).__name__}{size}"
        ) from error
    return Split(np.asarray(images), np.asarray(labels))


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
