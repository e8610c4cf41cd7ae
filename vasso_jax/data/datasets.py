"""What a data set is: its two splits, in memory or to be read image by image, and its figures."""

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np


class Split(NamedTuple):
    """A split in memory. images: uint8 [N, H, W, C]; labels: int32 [N]."""

    images: np.ndarray
    labels: np.ndarray


class EncodedExample(NamedTuple):
    """An image as its file has it, its label, and what to call it in an error message."""

    encoded: bytes
    label: int
    name: str


class EncodedSplit(Protocol):
    """A split on disk with random access. Picklable, as it goes to worker processes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> EncodedExample: ...


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Two splits for image classification.

    Attributes:
        name: as given to `load`.
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


@dataclasses.dataclass(frozen=True)
class StreamedDataset(Dataset):
    """Images of many sizes, or too many to hold, read from disk in every epoch."""

    train: EncodedSplit
    test: EncodedSplit

    @property
    def num_train(self) -> int:
        """Training images."""
        return len(self.train)

    @property
    def num_test(self) -> int:
        """Test images."""
        return len(self.test)


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, for pixels in [0, 1]; exact.

    A channel that never changes gets 1 for the latter, to be divided by.

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
