"""Batches of a data set that is read from disk.

The order is a fresh global shuffle in every epoch. Order and crops depend only on the seed and the
step, so a run resumes at any step with exactly the next batch, and without delay. Every host reads
its own part of each batch.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from vasso_jax.data.datasets import EncodedSplit, StreamedDataset, Streaming
from vasso_jax.data.images import random_resized_crop, resize_and_center_crop
from vasso_jax.data.read_ahead import read_ahead

# If so many images in a row are damaged, the problem is not a few single files.
_MAX_SKIPPED_IN_A_ROW = 100
_FOREVER = 2**62


class Host(NamedTuple):
    """The index of a host, and how many hosts share each batch."""

    number: int = 0
    hosts: int = 1


_ONLY = Host()


class HostBatch(NamedTuple):
    """A host's part of a batch.

    images: uint8 [B, S, S, 3]; labels: int32 [B]; valid: bool [B], False where there is no image
    (after the end of a split, or a damaged image of an evaluation); skipped: int32 [B], damaged
    images skipped.
    """

    images: np.ndarray
    labels: np.ndarray
    valid: np.ndarray
    skipped: np.ndarray


def training_batches(
    dataset: StreamedDataset, *, batch_size: int, seed: int, first_step: int, host: Host = _ONLY
) -> Iterator[HostBatch]:
    """An endless iterator of batches from `first_step` on; partial batches are dropped.

    Args:
        dataset: whose training images are read.
        batch_size: over all hosts; a multiple of their number, and at most the split's size.
        seed: of order and crops.
        first_step: number of batches to skip; skipping takes no time.
        host: which part of each batch to read.

    Raises (on iteration):
        ValueError: an image is damaged, or its label out of range, and `on_damaged` is `stop`; the
            message names the image.
    """
    classes = len(dataset.class_names)
    make = _TrainingBatch(dataset.streaming, dataset.train, classes, batch_size, seed, host)
    return read_ahead(make, range(first_step, _FOREVER), dataset.streaming.workers)


def evaluation_batches(
    dataset: StreamedDataset, split: EncodedSplit, *, batch_size: int, host: Host = _ONLY
) -> Iterator[HostBatch]:
    """Every image of a split once, in as few batches as possible; the last one is filled up.

    Args:
        dataset: whose images are read.
        split: its test or validation split.
        batch_size, host: as for `training_batches`, whose errors are raised, too.
    """
    batches = -(-len(split) // batch_size)
    make = _TestBatch(dataset.streaming, split, len(dataset.class_names), batch_size, host)
    return read_ahead(make, range(batches), dataset.streaming.workers)


@dataclasses.dataclass(frozen=True)
class _TrainingBatch:
    """Step -> the host's part of its batch. One grain element, as grain has a cost per element."""

    options: Streaming
    split: EncodedSplit
    classes: int
    batch_size: int
    seed: int
    host: Host

    def __call__(self, step: int) -> HostBatch:
        epoch, row = divmod(step, len(self.split) // self.batch_size)
        order = _order(len(self.split), self.seed, epoch)
        batch = _empty_batch(self.batch_size // self.host.hosts, self.options.image_size)
        for i in range(len(batch.labels)):
            column = self.host.number * len(batch.labels) + i
            # The position in the run seeds the crop, so that hosts and workers do not change it.
            rng = np.random.default_rng((self.seed, step * self.batch_size + column))
            self._fill(batch, i, int(order[row * self.batch_size + column]), rng)
        return batch

    def _fill(self, batch: HostBatch, i: int, index: int, rng: np.random.Generator) -> None:
        def crop(encoded: bytes) -> np.ndarray:
            return random_resized_crop(
                encoded, self.options.image_size, rng, self.options.crop_min_area
            )

        for skipped in range(_MAX_SKIPPED_IN_A_ROW):
            if _read(batch, i, self.split, index, self.classes, crop, self.options.skips):
                batch.skipped[i] = skipped
                return
            # A random other image: neighbours are often of the same class, and damaged as well.
            index = int(rng.integers(len(self.split)))
        _read(batch, i, self.split, index, self.classes, crop, skips=False)


@dataclasses.dataclass(frozen=True)
class _TestBatch:
    """Batch index -> the host's part of it."""

    options: Streaming
    split: EncodedSplit
    classes: int
    batch_size: int
    host: Host

    def __call__(self, step: int) -> HostBatch:
        size = self.options.image_size

        def crop(encoded: bytes) -> np.ndarray:
            return resize_and_center_crop(encoded, size, round(size / self.options.eval_crop))

        batch = _empty_batch(self.batch_size // self.host.hosts, size)
        for i in range(len(batch.labels)):
            index = step * self.batch_size + self.host.number * len(batch.labels) + i
            if index < len(self.split):
                taken = _read(batch, i, self.split, index, self.classes, crop, self.options.skips)
                batch.skipped[i] = not taken
        return batch


@functools.lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    """int64 [n], the order of an epoch."""
    return np.random.default_rng((seed, epoch)).permutation(n)


def _empty_batch(count: int, size: int) -> HostBatch:
    return HostBatch(
        images=np.zeros((count, size, size, 3), np.uint8),
        labels=np.zeros(count, np.int32),
        valid=np.zeros(count, np.bool_),
        skipped=np.zeros(count, np.int32),
    )


def _read(
    batch: HostBatch,
    i: int,
    split: EncodedSplit,
    index: int,
    classes: int,
    crop: Callable[[bytes], np.ndarray],
    skips: bool,
) -> bool:
    """Writes image `index` of the split to place `i` of the batch; False: the image is skipped."""
    name = f"image {index}"
    try:
        encoded, label, name = split[index]
        if not 0 <= label < classes:
            raise ValueError(f"{name} has the label {label}, not within 0 to {classes - 1}")
        batch.labels[i] = label
        batch.images[i] = crop(encoded)
    except (ValueError, OSError) as error:
        if skips:
            return False
        message = str(error) if name in str(error) else f"{name}: {error}"
        raise ValueError(
            f"{message}. Repair it, or leave such images out: --config.data.on_damaged=skip, or "
            'for a data set of your own Streaming(on_damaged="skip")'
        ) from error
    batch.valid[i] = True
    return True
