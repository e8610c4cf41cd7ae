"""Batches of a data set that is read from disk.

The order is a fresh global shuffle in every epoch, and follows from the seed and the step alone, as
do the crops: a run goes on with the very next batch, at once, from any step. Every host reads its
own part of each batch.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import grain
import numpy as np

from vasso_jax.choices import check_choice
from vasso_jax.data.datasets import EncodedSplit
from vasso_jax.data.images import random_resized_crop, resize_and_center_crop
from vasso_jax.data.read_ahead import read_ahead

ON_DAMAGED = ("stop", "skip")
# Where many images in a row are damaged it is no longer a matter of single files.
_MAX_SKIPPED_IN_A_ROW = 100
_FOREVER = 2**62


class HostBatch(NamedTuple):
    """A host's part of a batch.

    images: uint8 [B, S, S, 3]; labels: int32 [B]; valid: bool [B], False where an image is missing
    (behind the end of a test split, or damaged there); skipped: int32 [B], damaged images left out.
    """

    images: np.ndarray
    labels: np.ndarray
    valid: np.ndarray
    skipped: np.ndarray


@dataclasses.dataclass(frozen=True)
class Streaming:
    """How images come from disk.

    Attributes:
        image_size: side S of the square crop, in pixels.
        crop_min_area: training crops cover at least this share of the image, in (0, 1].
        eval_crop: side of the central crop for evaluation, of the image's shorter side, in (0, 1].
        on_damaged: what to do about an image that cannot be decoded: `stop`, or `skip` it (another
            training image takes its place; a test image is not counted) and count it.
        workers: processes that read and decode; 0: threads of this process.
        host, hosts: this one's number, and how many share each batch.

    Raises:
        ValueError: a value out of range.
    """

    image_size: int
    crop_min_area: float
    eval_crop: float
    on_damaged: str
    workers: int
    host: int = 0
    hosts: int = 1

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"image_size must be at least 1, got {self.image_size}")
        for field in ("crop_min_area", "eval_crop"):
            if not 0 < getattr(self, field) <= 1:
                raise ValueError(f"{field} must be in (0, 1], got {getattr(self, field)}")
        check_choice("on_damaged", self.on_damaged, ON_DAMAGED)
        if self.workers < 0:
            raise ValueError(f"workers must be >= 0 (0: threads), got {self.workers}")

    def training_batches(
        self, split: EncodedSplit, *, batch_size: int, seed: int, first_step: int
    ) -> Iterator[HostBatch]:
        """Batches without end, from that of `first_step` on, without the partial one of an epoch.

        Args:
            split: the training images.
            batch_size: over all hosts, of which it is a multiple, and at most the split's size.
            seed: of order and crops.
            first_step: batches to pass over, which takes no time.

        Raises (on iteration):
            ValueError: an image is damaged and is to `stop` the run; names it.
        """
        steps = grain.MapDataset.range(first_step, _FOREVER)
        return read_ahead(steps.map(_TrainingBatch(self, split, batch_size, seed)), self.workers)

    def test_batches(self, split: EncodedSplit, *, batch_size: int) -> Iterator[HostBatch]:
        """Every image of the split once, as few batches as that takes; the last is filled up.

        Arguments and errors as for `training_batches`.
        """
        steps = grain.MapDataset.range(-(-len(split) // batch_size))
        return read_ahead(steps.map(_TestBatch(self, split, batch_size)), self.workers)

    @property
    def skips(self) -> bool:
        """Whether damaged images are left out."""
        return self.on_damaged == "skip"


@dataclasses.dataclass(frozen=True)
class _TrainingBatch:
    """Step -> the host's part of its batch. One element for grain, whose own cost is by element."""

    options: Streaming
    split: EncodedSplit
    batch_size: int
    seed: int

    def __call__(self, step: int) -> HostBatch:
        epoch, row = divmod(step, len(self.split) // self.batch_size)
        order = _order(len(self.split), self.seed, epoch)
        batch = _empty_batch(self.batch_size // self.options.hosts, self.options.image_size)
        for i in range(len(batch.labels)):
            column = self.options.host * len(batch.labels) + i
            # The place in the run draws the crop, so that neither hosts nor workers change it.
            rng = np.random.default_rng((self.seed, step * self.batch_size + column))
            self._fill(batch, i, int(order[row * self.batch_size + column]), rng)
        return batch

    def _fill(self, batch: HostBatch, i: int, index: int, rng: np.random.Generator) -> None:
        def crop(encoded: bytes) -> np.ndarray:
            return random_resized_crop(
                encoded, self.options.image_size, rng, self.options.crop_min_area
            )

        for skipped in range(_MAX_SKIPPED_IN_A_ROW):
            if _read(batch, i, self.split, index, crop, self.options.skips):
                batch.skipped[i] = skipped
                return
            # Any other image: those beside it are often of its class, and damaged as well.
            index = int(rng.integers(len(self.split)))
        _read(batch, i, self.split, index, crop, skips=False)


@dataclasses.dataclass(frozen=True)
class _TestBatch:
    """Number of a batch -> the host's part of it."""

    options: Streaming
    split: EncodedSplit
    batch_size: int

    def __call__(self, step: int) -> HostBatch:
        size = self.options.image_size

        def crop(encoded: bytes) -> np.ndarray:
            return resize_and_center_crop(encoded, size, round(size / self.options.eval_crop))

        batch = _empty_batch(self.batch_size // self.options.hosts, size)
        for i in range(len(batch.labels)):
            index = step * self.batch_size + self.options.host * len(batch.labels) + i
            if index < len(self.split):
                taken = _read(batch, i, self.split, index, crop, self.options.skips)
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
    crop: Callable[[bytes], np.ndarray],
    skips: bool,
) -> bool:
    """Puts image `index` of the split into place `i` of the batch; False: it is left out."""
    name = f"image {index}"
    try:
        encoded, batch.labels[i], name = split[index]
        batch.images[i] = crop(encoded)
    except (ValueError, OSError) as error:
        if skips:
            return False
        message = str(error) if name in str(error) else f"{name}: {error}"
        raise ValueError(
            f"{message}. Mend it, or leave such images out with --config.on_damaged=skip"
        ) from error
    batch.valid[i] = True
    return True
