"""The pipelines from JPEG files to batches of crops.

Each function returns a function that makes a given number of images and returns the seconds taken.
"""

import concurrent.futures
import contextlib
import itertools
import os
import pathlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from benchmarks.harness.timing import timed
from vasso_jax import data
from vasso_jax.data import images
from vasso_jax.data.datasets import IMAGENET_STATISTICS

SIZE = 224
BATCH = 50
PAUSE = 0.5
TENSORFLOW = pathlib.Path(__file__).with_name("tensorflow_side.py")

Run = Callable[[int], float]


class Files:
    """JPEG files as a split for the trainer."""

    def __init__(self, paths: Sequence[str]):
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> data.EncodedExample:
        return data.EncodedExample(_read(self._paths[index]), 0, self._paths[index])


def ours(paths: Sequence[str], cores: int) -> Run:
    """The trainer's batches, made ahead by one thread per core."""
    files = Files(paths)
    streaming = data.Streaming(image_size=SIZE)
    dataset = data.StreamedDataset("files", ("any",), *IMAGENET_STATISTICS, files, files, streaming)

    def run(count: int) -> float:
        with _only(cores):
            batches = data.training_batches(dataset, batch_size=BATCH, seed=0, first_step=0)
            # From here on, as many batches are in progress at the end as at the beginning.
            for _ in range(cores):
                next(batches)
            seconds = timed(lambda: _take(itertools.islice(batches, count // BATCH)))()
            batches.close()
            # Prefetching that is still in progress must not disturb the next turn.
            time.sleep(PAUSE)
        return seconds

    return run


def _take(batches: Iterator[data.HostBatch]) -> None:
    for batch in batches:
        assert batch.images.shape == (BATCH, SIZE, SIZE, 3)


def whole_image(paths: Sequence[str], cores: int) -> Run:
    """The simple way, in one thread per core: decode the whole image, crop and resize by Pillow."""

    def crop(number: int) -> np.ndarray:
        pixels = images.decode(_read(paths[number % len(paths)]))
        box = images.random_crop_box(*pixels.shape[:2], np.random.default_rng(number))
        corners = (box.left, box.top, box.left + box.width, box.top + box.height)
        part = Image.fromarray(pixels).crop(corners)
        return np.asarray(part.resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    def make_batch(first: int) -> np.ndarray:
        return np.stack([crop(number) for number in range(first, first + BATCH)])

    def run(count: int) -> float:
        def make_all() -> None:
            for batch in workers.map(make_batch, range(0, count, BATCH)):
                assert batch.shape == (BATCH, SIZE, SIZE, 3)

        with _only(cores), concurrent.futures.ThreadPoolExecutor(cores) as workers:
            return timed(make_all)()

    return run


def tf_data(paths: Sequence[str], cores: int, python: str, method: str) -> Run:
    """tf.data's pipeline, in a separate process that measures itself.

    Args:
        paths: of the files.
        cores: that the process may use.
        python: a Python with TensorFlow.
        method: of resizing: bicubic or bilinear.

    Raises:
        OSError: there is no such Python.
        ValueError: the process ended early.
    """
    process = subprocess.Popen(
        [python, str(TENSORFLOW), str(cores), method, *paths],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def run(count: int) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(count, file=process.stdin, flush=True)
        if answer := process.stdout.readline():
            return float(answer)
        raise ValueError(f"{python} {TENSORFLOW} ended early; start it by hand to see why")

    run(2 * cores * BATCH)
    return run


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@contextlib.contextmanager
def _only(cores: int) -> Iterator[None]:
    """Restricts this thread, and the threads that it starts, to that many cores."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
