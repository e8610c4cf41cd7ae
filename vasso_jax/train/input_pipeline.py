"""What the jitted steps are fed with: a data set on the device, or batches streamed to it.

A pipeline yields items, one per step, and gives the functions that make batches of them inside the
step.
"""

from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from vasso_jax import data
from vasso_jax.train.devices import processes
from vasso_jax.train.devices.sharding import batch_sharding, replicate, replicated
from vasso_jax.train.errors import DataError
from vasso_jax.train.rngs import stream_key

TakeBatch = Callable[[Any, jax.Array], data.Batch]
TakeEvalBatch = Callable[[Any], data.EvalBatch]
_STEPS_AHEAD = 16
_B = TypeVar("_B", data.Batch, data.EvalBatch)


class TrainItem(NamedTuple):
    """All training images and labels, and the `order` of the epoch, int32 [steps, B]."""

    images: jax.Array
    labels: jax.Array
    order: jax.Array


class EvalItem(NamedTuple):
    """All images and labels of a split, and where the batch starts, int32."""

    images: jax.Array
    labels: jax.Array
    start: Any


class Pipeline(Protocol):
    """Both kinds of pipeline.

    Attributes:
        steps_ahead: how far the host may run ahead of the device; None: as far as it likes.
    """

    steps_ahead: int | None

    def training(self, step: int) -> Generator[Any, None, None]:
        """Items of the train steps, from `step` on, without end.

        Raises (on iteration):
            DataError: an image is damaged, and that is to stop the run.
        """
        ...

    def evaluation(self, split: str) -> Generator[Any, None, None]:
        """Items of the evaluation steps over `test` or `validation`, every image once."""
        ...

    def take_batch(self, item: Any, step: jax.Array) -> data.Batch:
        """The batch of an item at a step (int32 scalar); traced."""
        ...

    def take_eval_batch(self, item: Any) -> data.EvalBatch:
        """The evaluation batch of an item; traced."""
        ...

    def take_skipped(self) -> int | None:
        """Damaged images left out by all hosts since the last call; None: none ever would be."""
        ...


def ready_batch(item: _B, step: jax.Array | None = None) -> _B:
    """The batch of an item that is one already."""
    del step
    return item


class DevicePipeline:
    """The whole data set on every device; batches are picked out there."""

    steps_ahead: int | None

    def __init__(self, dataset: data.ImageDataset, *, batch_size: int, seed: int, mesh: Mesh):
        """Copies the data set.

        Args:
            dataset: equal on all hosts.
            batch_size: over all devices.
            seed: of the run; the order follows from it and the epoch.
            mesh: gets a copy on every device.
        """
        # Many queued steps of several CPU devices can wait for each other's threads for ever.
        several_cpus = mesh.size > 1 and mesh.devices.flat[0].platform == "cpu"
        self.steps_ahead = _STEPS_AHEAD if several_cpus else None
        self._train: tuple[jax.Array, jax.Array] = replicate(dataset.train, mesh)
        self._evaluated: dict[str, tuple[jax.Array, jax.Array]] = {
            "test": replicate(dataset.test, mesh)
        }
        if dataset.validation is not None:
            self._evaluated["validation"] = replicate(dataset.validation, mesh)
        self._batch_size = batch_size
        self._key = stream_key(seed, "order")
        self._order = jax.jit(self._order_of, out_shardings=replicated(mesh))

    def training(self, step: int) -> Generator[TrainItem, None, None]:
        """See Pipeline; the order is new in each epoch."""
        images, labels = self._train
        steps_per_epoch = len(labels) // self._batch_size
        while True:
            order = self._order(self._key, np.int32(step // steps_per_epoch))
            for _ in range(step % steps_per_epoch, steps_per_epoch):
                yield TrainItem(images, labels, order)
            step += steps_per_epoch - step % steps_per_epoch

    def evaluation(self, split: str) -> Generator[EvalItem, None, None]:
        """See Pipeline."""
        images, labels = self._evaluated[split]
        for start in range(0, len(labels), self._batch_size):
            yield EvalItem(images, labels, np.int32(start))

    def take_batch(self, item: TrainItem, step: jax.Array) -> data.Batch:
        """See Pipeline."""
        return data.take_batch(*item, step)

    def take_eval_batch(self, item: EvalItem) -> data.EvalBatch:
        """See Pipeline."""
        return data.evaluation_batch(*item, self._batch_size)

    def take_skipped(self) -> None:
        """None: every image is there."""

    def _order_of(self, key: jax.Array, epoch: jax.Array) -> jax.Array:
        return data.epoch_order(
            jax.random.fold_in(key, epoch), len(self._train[1]), self._batch_size
        )


class StreamPipeline:
    """Batches read from disk; each host reads its part, and sends it while the device computes."""

    # Batches wait on the device for their turn, and would fill it.
    steps_ahead: int | None = _STEPS_AHEAD

    def __init__(self, dataset: data.StreamedDataset, *, batch_size: int, seed: int, mesh: Mesh):
        """Reads nothing yet; arguments as for DevicePipeline."""
        self._dataset = dataset
        self._batch_size = batch_size
        self._seed = seed
        self._host = data.Host(processes.index(), processes.count())
        self._sharding = batch_sharding(mesh)
        self._skipped = 0

    def training(self, step: int) -> Generator[data.Batch, None, None]:
        """See Pipeline."""
        batches = data.training_batches(
            self._dataset,
            batch_size=self._batch_size,
            seed=self._seed,
            first_step=step,
            host=self._host,
        )
        for batch in self._received(batches):
            yield data.Batch(self._put(batch.images), self._put(batch.labels))

    def evaluation(self, split: str) -> Generator[data.EvalBatch, None, None]:
        """See Pipeline."""
        batches = data.evaluation_batches(
            self._dataset,
            getattr(self._dataset, split),
            batch_size=self._batch_size,
            host=self._host,
        )
        for batch in self._received(batches):
            yield data.EvalBatch(*map(self._put, (batch.images, batch.labels, batch.valid)))

    def take_batch(self, item: data.Batch, step: jax.Array) -> data.Batch:
        """See Pipeline."""
        return ready_batch(item, step)

    def take_eval_batch(self, item: data.EvalBatch) -> data.EvalBatch:
        """See Pipeline."""
        return ready_batch(item)

    def take_skipped(self) -> int | None:
        """See Pipeline; all hosts must ask together."""
        if not self._dataset.streaming.skips:
            return None
        skipped, self._skipped = self._skipped, 0
        return sum(processes.gather(skipped))

    def _received(self, batches: Iterator[data.HostBatch]) -> Iterator[data.HostBatch]:
        try:
            for batch in batches:
                self._skipped += int(batch.skipped.sum())
                yield batch
        except (ValueError, OSError) as error:
            raise DataError(str(error)) from error

    def _put(self, array: np.ndarray) -> jax.Array:
        return jax.make_array_from_process_local_data(self._sharding, array)


def open_pipeline(
    dataset: data.ImageDataset | data.StreamedDataset, *, batch_size: int, seed: int, mesh: Mesh
) -> DevicePipeline | StreamPipeline:
    """The pipeline that fits the data set; arguments are those of DevicePipeline."""
    if isinstance(dataset, data.StreamedDataset):
        return StreamPipeline(dataset, batch_size=batch_size, seed=seed, mesh=mesh)
    return DevicePipeline(dataset, batch_size=batch_size, seed=seed, mesh=mesh)
