"""Images a second from JPEG files to random crops of 224x224, on one core and on two.

    python -m benchmarks.input [--images=DIR] [--tensorflow-python=PATH] [--rounds=7]

Prints one JSON line for each pipeline and number of cores. The pipelines take turns, so that what
else the machine does hits all alike; a ratio is the median over the rounds of ours over the
line's. Without --images: synthetic JPEGs of ImageNet's usual size, 500x375 pixels and
110 kB, with a photograph's spectrum. With --tensorflow-python, a Python with TensorFlow: also
tf.data's pipeline, in processes of their own.
"""

import argparse
import concurrent.futures
import contextlib
import io
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from PIL import Image

from vasso_jax.data import Streaming, images
from vasso_jax.data.datasets import EncodedExample

SIZE = 224
BATCH = 50
PAUSE = 0.5
NUM_SYNTHETIC = 100
SYNTHETIC_BYTES = 110_000
TENSORFLOW = pathlib.Path(__file__).with_name("input_tensorflow.py")

# Makes that many images and says how many seconds it took.
Pipeline = Callable[[int], float]


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


class Files:
    """JPEG files as a split of the trainer's."""

    def __init__(self, paths: Sequence[str]):
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> EncodedExample:
        return EncodedExample(read(self._paths[index]), 0, self._paths[index])


def ours(paths: Sequence[str], cores: int) -> Pipeline:
    """The trainer's batches, made ahead by a thread a core."""
    streaming = Streaming(SIZE, 0.08, 0.875, "stop", workers=0)

    def run(count: int) -> float:
        with only(cores):
            batches = streaming.training_batches(
                Files(paths), batch_size=BATCH, seed=0, first_step=0
            )
            # From then on as many batches are being made at the end as at the beginning.
            for _ in range(cores):
                next(batches)
            start = time.perf_counter()
            for batch in itertools.islice(batches, count // BATCH):
                assert batch.images.shape == (BATCH, SIZE, SIZE, 3)
            taken = time.perf_counter() - start
            batches.close()
            # What was being made ahead must not take part in the next turn.
            time.sleep(PAUSE)
        return taken

    return run


def whole_image(paths: Sequence[str], cores: int) -> Pipeline:
    """What lies at hand, in a thread a core: decode everything, then crop and resize by Pillow."""

    def crop(number: int) -> np.ndarray:
        pixels = images.decode(read(paths[number % len(paths)]))
        box = images.random_crop_box(*pixels.shape[:2], np.random.default_rng(number))
        corners = (box.left, box.top, box.left + box.width, box.top + box.height)
        part = Image.fromarray(pixels).crop(corners)
        return np.asarray(part.resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    def make_batch(first: int) -> np.ndarray:
        return np.stack([crop(number) for number in range(first, first + BATCH)])

    def run(count: int) -> float:
        with only(cores), concurrent.futures.ThreadPoolExecutor(cores) as workers:
            start = time.perf_counter()
            for batch in workers.map(make_batch, range(0, count, BATCH)):
                assert batch.shape == (BATCH, SIZE, SIZE, 3)
            return time.perf_counter() - start

    return run


@contextlib.contextmanager
def only(cores: int) -> Iterator[None]:
    """Keeps this thread, and those it starts, to so many cores."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def tf_data(paths: Sequence[str], cores: int, python: str, method: str) -> Pipeline:
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
        print(count, file=process.stdin, flush=True)
        if answer := process.stdout.readline():
            return float(answer)
        raise SystemExit(f"{python} {TENSORFLOW} ended early; start it by hand to see why")

    run(2 * cores * BATCH)
    return run


def synthetic_jpeg(seed: int) -> bytes:
    """Noise with a photograph's 1/f spectrum, at the quality that comes nearest to the size."""
    height, width = 375, 500
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((4, height, width))) / frequency)
    pixels = noise[:1] + 0.3 * noise[1:]  # mostly grey, as photographs are
    pixels = (128 + 50 * pixels / pixels.std()).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)

    def encode(quality: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        return file.getvalue()

    return min(map(encode, range(80, 97)), key=lambda file: abs(len(file) - SYNTHETIC_BYTES))


def find_images(folder: pathlib.Path) -> list[str]:
    paths = sorted(
        str(path) for path in folder.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg")
    )
    if not paths:
        raise SystemExit(f"no .JPEG or .jpg files in {folder}")
    return paths


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=pathlib.Path)
    parser.add_argument("--tensorflow-python")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images_per_round", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.images is None:
            for number in range(NUM_SYNTHETIC):
                path = pathlib.Path(folder, f"{number:03d}.jpg")
                path.write_bytes(synthetic_jpeg(number))
        measure(find_images(options.images or pathlib.Path(folder)), options)


def measure(paths: list[str], options: argparse.Namespace) -> None:
    pipelines: dict[tuple[str, int], Pipeline] = {}
    for cores in (1, 2):
        pipelines["ours", cores] = ours(paths, cores)
        pipelines["whole image and Pillow", cores] = whole_image(paths, cores)
        if options.tensorflow_python:
            for method in ("bicubic", "bilinear"):
                pipelines[f"tf.data, {method}", cores] = tf_data(
                    paths, cores, options.tensorflow_python, method
                )

    load = os.getloadavg()[0]
    rates: dict[tuple[str, int], list[float]] = {name: [] for name in pipelines}
    for _ in range(options.rounds):
        for name, run in pipelines.items():
            rates[name].append(options.images_per_round / run(options.images_per_round))

    for (name, cores), theirs in rates.items():
        own = rates["ours", cores]
        ratios = [mine / other for mine, other in zip(own, theirs, strict=True)]
        record = {
            "pipeline": name,
            "cores": cores,
            "images_per_second": round(statistics.median(theirs)),
            "ours_over_it": round(statistics.median(ratios), 3),
            "lowest": round(min(ratios), 3),
            "highest": round(max(ratios), 3),
            "kilobytes_an_image": round(statistics.mean(map(os.path.getsize, paths)) / 1000),
            "load_before": round(load, 1),
        }
        print(json.dumps(record))


if __name__ == "__main__":
    main()
