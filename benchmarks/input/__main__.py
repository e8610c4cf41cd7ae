"""Images per second from JPEG files to random crops of 224x224, on one core and on two.

    python -m benchmarks.input [--images DIR] [--tensorflow_python PATH] [--rounds 7] [--out FILE]

Prints one JSON line per pipeline and number of cores. The pipelines take turns, so that other load
on the machine affects all alike. A ratio is the speed of our pipeline over that of the line's
pipeline, median over the rounds. Without --images it uses synthetic JPEGs of ImageNet's usual size,
500x375 pixels and 110 kB, with a photograph's spectrum. With --tensorflow_python, a Python with
TensorFlow, it also measures tf.data's pipeline, in separate processes.

`python -m benchmarks.input.on_device` measures the input of a small data set.
"""

import argparse
import json
import os
import pathlib
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.harness.arguments import Parser, one_message, positive
from benchmarks.harness.results import write_json
from benchmarks.harness.timing import in_turn, ratios
from benchmarks.input import pipelines
from benchmarks.input.files import find_images, write_synthetic_images


@one_message()
def main() -> None:
    """The command above."""
    parser = Parser(__doc__, rounds=7)
    parser.add_argument("--images", type=pathlib.Path, metavar="DIR", help="folder of JPEG files")
    parser.add_argument("--tensorflow_python", metavar="PATH", help="Python with TensorFlow")
    parser.add_argument("--images_per_round", type=positive, default=1000, help="(1000)")
    options = parser.parse_args()
    if options.images_per_round % pipelines.BATCH:
        parser.error(f"images_per_round must be a multiple of {pipelines.BATCH}")
    with tempfile.TemporaryDirectory() as folder:
        if options.images is None:
            write_synthetic_images(pathlib.Path(folder))
        records = measure(find_images(options.images or pathlib.Path(folder)), options)
    for record in records:
        print(json.dumps(record))
    if options.out:
        write_json(options.out, records)


def measure(paths: list[str], options: argparse.Namespace) -> list[dict[str, Any]]:
    """One record per pipeline and number of cores."""
    runs: dict[tuple[str, int], Callable[[int], float]] = {}
    for cores in (1, 2):
        runs["ours", cores] = pipelines.ours(paths, cores)
        runs["whole image and Pillow", cores] = pipelines.whole_image(paths, cores)
        if options.tensorflow_python:
            for method in ("bicubic", "bilinear"):
                runs[f"tf.data, {method}", cores] = pipelines.tf_data(
                    paths, cores, options.tensorflow_python, method
                )
    load = os.getloadavg()[0]
    count = options.images_per_round
    seconds = in_turn(
        {key: partial(run, count) for key, run in runs.items()}, options.rounds, warm_up=False
    )
    kilobytes = round(statistics.mean(map(os.path.getsize, paths)) / 1000)
    records = []
    for (name, cores), times in seconds.items():
        over = ratios(times, seconds["ours", cores])  # of speeds: ours over the line's
        records.append(
            {
                "pipeline": name,
                "cores": cores,
                "images_per_second": round(count / statistics.median(times)),
                "ours_over_it": round(over["ratio"], 3),
                "lowest": round(over["ratio_min"], 3),
                "highest": round(over["ratio_max"], 3),
                "kilobytes_an_image": kilobytes,
                "load_before": round(load, 1),
            }
        )
    return records


if __name__ == "__main__":
    main()
