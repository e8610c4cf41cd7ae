"""Predicts the classes of images with the network of a run:

vasso-jax predict RUN IMAGE|FOLDER... [--top 5] [--csv FILE]

RUN is a run folder; RUN@best and RUN@STEP pick another checkpoint than the newest. Of a FOLDER, all
files with the name of an image (.png, .jpg and so on) in it and below it are taken, but no hidden
ones. For each image the command prints its most likely classes with their probabilities.
Images that cannot be read are named on standard error and left out. Exit status: 0; 1 if an image
was left out; 2 if there is nothing to predict or the run cannot be used, with one message.
"""

import argparse
import csv
import io
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vasso_jax.cli.arguments import at_least
from vasso_jax.cli.failure import fail
from vasso_jax.data.images import SUFFIXES
from vasso_jax.inference import TrainedRun, load_run
from vasso_jax.inference.trained_run import BATCH_SIZE, in_batches
from vasso_jax.printable import printable
from vasso_jax.runs import write_text
from vasso_jax.train.checkpoints.checkpoint import split_name
from vasso_jax.train.errors import UsageError, usage_errors
from vasso_jax.train.reporting.console import percent
from vasso_jax.train.reporting.quiet import quieten_libraries


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see above.

    Args:
        arguments: of the command line, without the program; None: those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="vasso-jax predict",
        description="Predicts the classes of images with the network of a run.",
    )
    parser.add_argument("run", metavar="RUN", help="run folder; @best or @STEP picks a checkpoint")
    parser.add_argument(
        "images", nargs="+", type=pathlib.Path, metavar="IMAGE|FOLDER", help="image files"
    )
    parser.add_argument(
        "--top",
        type=at_least(1),
        metavar="N",
        help="classes for each image (default: 5, or all if fewer)",
    )
    parser.add_argument(
        "--csv", type=pathlib.Path, metavar="FILE", help="also write the predictions as a table"
    )
    options = parser.parse_args(arguments)
    quieten_libraries()
    try:
        with usage_errors():
            files = list(_files(options.images))
            if options.csv and options.csv.resolve() in {file.resolve() for file in files}:
                raise ValueError(f"--csv={options.csv} is one of the images: give another file")
        run = load_run(*split_name(options.run))
        classes = len(run.class_names)
        top = min(5, classes) if options.top is None else options.top
        if top > classes:
            raise UsageError(f"--top={top} exceeds the {classes} classes of the run")
        rows = _predict(run, files, top)
        with usage_errors():
            if not rows:
                raise ValueError("no image could be read")
            if options.csv:
                write_text(options.csv, _table(rows, top))
    except UsageError as error:
        fail(error)
    if len(rows) < len(files):
        sys.exit(1)


def _files(paths: Sequence[pathlib.Path]) -> Iterator[pathlib.Path]:
    """The images, those of each folder sorted.

    Raises:
        ValueError: a folder holds none, or there is no such file.
    """
    for path in paths:
        if path.is_file():
            yield path
            continue
        if not path.is_dir():
            raise ValueError(f"{path} is no file" if path.exists() else f"there is no {path}")
        found = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in SUFFIXES and file.is_file() and file.name[0] != "."
        )
        if not found:
            raise ValueError(f"{path} holds no image files ({', '.join(sorted(SUFFIXES))})")
        yield from found


def _predict(run: TrainedRun, files: Sequence[pathlib.Path], top: int) -> list[list[Any]]:
    """Prints the classes of each image; returns them as rows of the table."""
    rows: list[list[Any]] = []
    for batch in in_batches(files, BATCH_SIZE):
        images, read = [], []
        for file in batch:
            try:
                images.extend(run.preprocessing.resized([file]))
                read.append(file)
            except (ValueError, OSError) as error:
                print(printable(f"left out: {error}"), file=sys.stderr)
        if not read:
            continue
        for file, p in zip(read, run.predict_prepared(np.stack(images)), strict=True):
            best = [(run.class_names[i], float(p[i])) for i in np.argsort(-p, kind="stable")[:top]]
            listed = ", ".join(f"{name} {percent(share)}" for name, share in best)
            print(printable(f"{file}: {listed}"))
            rows.append([printable(file), *(field for pair in best for field in pair)])
    return rows


def _table(rows: Sequence[Sequence[Any]], top: int) -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    fields = (field for n in range(1, top + 1) for field in (f"class_{n}", f"probability_{n}"))
    table.writerow(["image", *fields])
    table.writerows(rows)
    return text.getvalue()
