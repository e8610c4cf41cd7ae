"""Some images of a split, in memory: the same ones for all runs of a data set."""

import dataclasses
from typing import Any

import numpy as np

from vasso_jax.data.datasets import (
    EncodedExample,
    EncodedSplit,
    ImageDataset,
    Split,
    StreamedDataset,
)
from vasso_jax.data.streaming import evaluation_batches

SPLITS = ("train", "test", "validation")
# Another draw than that of the validation images and of label noise with the same seed.
_STREAM = 0x737562
_READ_AT_ONCE = 64


def draw(dataset: ImageDataset | StreamedDataset, split: str, examples: int, seed: int) -> Split:
    """Images of a split, drawn without replacement, in the order of the draw.

    The draw depends on the size of the split and the seed, and on nothing else. Fewer examples are
    the first of more.

    Args:
        dataset: in memory, or read from disk; then the images are cropped as those of a test.
        split: `train`, `test` or `validation`.
        examples: how many; of a smaller split, all.
        seed: of the draw, >= 0.

    Raises:
        ValueError: there is no such split, a number is out of range, or an image is damaged and
            that is to stop the run. Where damaged images are skipped, they are left out.
    """
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}: choose one of {', '.join(SPLITS)}")
    whole: Any = getattr(dataset, split)
    if whole is None:
        raise ValueError(f"{dataset.name} has no {split} split")
    for name, value, least in (("examples", examples, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    size = len(whole.labels) if isinstance(whole, Split) else len(whole)
    indices = np.random.default_rng((seed, _STREAM)).permutation(size)[:examples]
    chosen = take(whole, indices)
    return _read(dataset, chosen) if isinstance(dataset, StreamedDataset) else chosen


def take(split: Split | EncodedSplit, indices: np.ndarray) -> Any:
    """The images of these indices, in this order: copied, or of a split on disk to be read."""
    if isinstance(split, Split):
        return Split(split.images[indices], split.labels[indices])
    return _Taken(split, indices)


@dataclasses.dataclass(frozen=True)
class _Taken:
    """Some images of a split on disk."""

    split: EncodedSplit
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> EncodedExample:
        return self.split[int(self.indices[index])]


def _read(dataset: StreamedDataset, split: EncodedSplit) -> Split:
    batch_size = min(_READ_AT_ONCE, len(split))
    batches = [
        (batch.images[batch.valid], batch.labels[batch.valid])
        for batch in evaluation_batches(dataset, split, batch_size=batch_size)
    ]
    images, labels = map(np.concatenate, zip(*batches, strict=True))
    if not len(labels):
        raise ValueError(f"every image of {dataset.name} that was drawn is damaged")
    return Split(images, labels)
