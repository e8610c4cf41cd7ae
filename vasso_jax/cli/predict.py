"""Predicts the classes of images with the network of a run:

vasso-jax predict RUN IMAGE|FOLDER... [--checkpoint best] [--top 5] [--csv FILE]

RUN is a run folder. Of a FOLDER, all image files in it and below it are taken. For each image the
command prints its most likely classes with their probabilities (0 to 1). Images that cannot be read
are named on standard error and left out. Exit status: 0; 1 if an image was left out; 2 if there is
nothing to predict or the run cannot be used, with one message.
"""

import argparse
import csv
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from vasso_jax.data.images import SUFFIXES
from vasso_jax.inference import TrainedRun, load_run
from vasso_jax.train.errors import UsageError, usage_errors

_BATCH = 128


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see above.

    Args:
        arguments: of the command line, without the program; None: those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="vasso-jax predict",
        description="Predicts the classes of images with the network of a run.",
    )
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument(
        "images", nargs="+", type=pathlib.Path, metavar="IMAGE|FOLDER", help="what to look at"
    )
    parser.add_argument(
        "--checkpoint",
        default="last",
        metavar="last|best|STEP",
        help="of the run (default: last; best is that of the best test accuracy)",
    )
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="classes for each image (default: 5)"
    )
    parser.add_argument("--csv", type=pathlib.Path, metavar="FILE", help="write them there, too")
    options = parser.parse_args(arguments)
    if options.top < 1:
        parser.error(f"--top must be at least 1, got {options.top}")
    which = options.checkpoint
    try:
        with usage_errors():
            files = list(_files(options.images))
        run = load_run(options.run, int(which) if which.isdecimal() else which)
        with usage_errors():
            complete = _predict(run, files, min(options.top, len(run.class_names)), options.csv)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if not complete:
        sys.exit(1)


def _files(paths: Sequence[pathlib.Path]) -> Iterator[pathlib.Path]:
    """The images, those of each folder sorted.

    Raises:
        ValueError: a folder holds none, or there is no such file.
    """
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise ValueError(f"there is no {path}")
            yield path
            continue
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        if not found:
            raise ValueError(f"{path} holds no image files ({', '.join(sorted(SUFFIXES))})")
        yield from found


def _predict(
    run: TrainedRun, files: Sequence[pathlib.Path], top: int, to: pathlib.Path | None
) -> bool:
    """Prints the classes of each image; returns whether all could be read."""
    names = run.class_names
    ranks = range(1, top + 1)
    header = ["image", *(field for n in ranks for field in (f"class_{n}", f"probability_{n}"))]
    left_out = 0
    with open(os.devnull if to is None else to, "w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(header)
        for start in range(0, len(files), _BATCH):
            images, read = [], []
            for file in files[start : start + _BATCH]:
                try:
                    images.append(run.preprocessing.resized([file])[0])
                    read.append(file)
                except (ValueError, OSError) as error:
                    print(f"left out: {error}", file=sys.stderr)
                    left_out += 1
            for file, row in zip(read, run.predict(images, batch_size=_BATCH), strict=True):
                best = np.argsort(-row, kind="stable")[:top]
                print(f"{file}: " + ", ".join(f"{names[i]} {row[i]:.4f}" for i in best))
                table.writerow([file, *(field for i in best for field in (names[i], row[i]))])
    if left_out == len(files):
        raise ValueError("no image could be read")
    return not left_out
