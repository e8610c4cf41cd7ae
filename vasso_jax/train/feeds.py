"""What the jitted steps are fed with: a data set on the device, or batches streamed to it.

A feed yields the arguments of a step that come after the state, and gives the function that makes a
batch of them inside the step.
"""

from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from vasso_jax import data
from vasso_jax.train.errors import DataError
from vasso_jax.train.mesh import batch_sharding, replicate, replicated
from vasso_jax.train.streams import stream_key

Arguments = tuple[Any, ...]
TakeBatch = Callable[..., tuple[jax.Array, jax.Array]]
TakeTestBatch = Callable[..., tuple[jax.Array, jax.Array, jax.Array]]
Batches = Generator[Arguments, None, None]


class Feed(Protocol):
    """Both kinds of feed.

    Attributes:
        image_shape: (H, W, C) of what comes out.
        steps_ahead: how far the host may run ahead of the device; None: as far as it likes.
        take_batch: `(*arguments, step) -> images uint8 [B, H, W, C], labels int32 [B]`; traced.
        take_test_batch: `(*arguments) -> images, labels, valid bool [B]`; traced.
    """

    image_shape: tuple[int, int, int]
    steps_ahead: int | None
    take_batch: TakeBatch
    take_test_batch: TakeTestBatch

    def training(self, step: int) -> Batches:
        """Arguments of the train steps, from `step` on, without end.

        Raises (on iteration):
            DataError: an image is damaged, and that is to stop the run.
        """
        ...

    def test(self) -> Batches:
        """Arguments of the evaluation steps over the test split, every image once."""
        ...

    def take_skipped(self) -> int | None:
        """Damaged images left out by all hosts since the last call; None: none ever would be."""
        ...


class DeviceFeed:
    """The whole data set on every device; batches are picked out there."""

    image_shape: tuple[int, int, int]

    def __init__(self, dataset: data.ImageDataset, *, batch_size: int, seed: int, mesh: Mesh):
        """Copies the data set.

        Args:
            dataset: equal on all hosts.
            batch_size: over all devices.
            seed: of the run; the order follows from it and the epoch.
            mesh: gets a copy on every device.
        """
        self.image_shape = dataset.train.images.shape[1:]
        self.steps_ahead: int | None = None
        self.take_batch: TakeBatch = data.take_batch
        self.take_test_batch: TakeTestBatch = self._take_test_batch
        self._train = replicate(dataset.train, mesh)
        self._test = replicate(dataset.test, mesh)
        self._batch_size = batch_size
        self._seed = seed
        self._order = jax.jit(self._order_of, out_shardings=replicated(mesh))

    def training(self, step: int) -> Batches:
        """`images, labels, order` of all training images, the latter new in each epoch."""
        steps_per_epoch = len(self._train.labels) // self._batch_size
        while True:
            order = self._order(np.int32(step // steps_per_epoch))
            for _ in range(step % steps_per_epoch, steps_per_epoch):
                yield *self._train, order
            step += steps_per_epoch - step % steps_per_epoch

    def test(self) -> Batches:
        """`images, labels` of all test images, and where the batch starts."""
        for start in range(0, len(self._test.labels), self._batch_size):
            yield *self._test, np.int32(start)

    def take_skipped(self) -> None:
        """None: every image is there."""

    def _order_of(self, epoch: jax.Array) -> jax.Array:
        key = jax.random.fold_in(stream_key(self._seed, "order"), epoch)
        return data.epoch_order(key, len(self._train.labels), self._batch_size)

    def _take_test_batch(self, images: jax.Array, labels: jax.Array, start: jax.Array) -> Any:
        return data.evaluation_batch(images, labels, start, self._batch_size)


class StreamFeed:
    """Batches read from disk; each host reads its part, and sends it while the device computes."""

    image_shape: tuple[int, int, int]

    def __init__(
        self,
        dataset: data.StreamedDataset,
        streaming: data.Streaming,
        *,
        batch_size: int,
        seed: int,
        mesh: Mesh,
    ):
        """Reads nothing yet; arguments as for DeviceFeed."""
        self.image_shape = (streaming.image_size, streaming.image_size, 3)
        # Batches wait on the device for their turn, and would fill it.
        self.steps_ahead: int | None = 16
        self.take_batch: TakeBatch = lambda images, labels, step: (images, labels)
        self.take_test_batch: TakeTestBatch = lambda images, labels, valid: (images, labels, valid)
        self._dataset = dataset
        self._streaming = streaming
        self._batch_size = batch_size
        self._seed = seed
        self._sharding = batch_sharding(mesh)
        self._skipped = 0

    def training(self, step: int) -> Batches:
        """`images, labels` of a batch."""
        batches = self._streaming.training_batches(
            self._dataset.train,
            batch_size=self._batch_size,
            seed=self._seed,
            first_step=step,
        )
        for batch in self._received(batches):
            yield self._put(batch.images), self._put(batch.labels)

    def test(self) -> Batches:
        """`images, labels, valid` of a batch."""
        batches = self._streaming.test_batches(self._dataset.test, batch_size=self._batch_size)
        for batch in self._received(batches):
            yield self._put(batch.images), self._put(batch.labels), self._put(batch.valid)

    def take_skipped(self) -> int | None:
        """See Feed; all hosts must ask together."""
        if not self._streaming.skips:
            return None
        counts = np.int32(self._skipped)
        if jax.process_count() > 1:
            counts = multihost_utils.process_allgather(counts)
        self._skipped = 0
        return int(np.sum(counts))

    def _received(self, batches: Iterator[data.HostBatch]) -> Iterator[data.HostBatch]:
        try:
            for batch in batches:
                self._skipped += int(batch.skipped.sum())
                yield batch
        except (ValueError, OSError) as error:
            raise DataError(str(error)) from error

    def _put(self, array: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(self._sharding, array)


def open_feed(
    dataset: data.ImageDataset | data.StreamedDataset, streaming: data.Streaming, **arguments: Any
) -> Feed:
    """The feed that fits the data set; `arguments` are those of DeviceFeed."""
    if isinstance(dataset, data.StreamedDataset):
        return StreamFeed(dataset, streaming, **arguments)
    return DeviceFeed(dataset, **arguments)
