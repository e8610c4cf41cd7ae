"""A data set of your own as two NumPy archives, train.npz and test.npz."""

import dataclasses
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from vasso_jax.data.datasets import ImageDataset, from_arrays
from vasso_jax.data.sources.source import Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class Npz(Source):
    """Arrays of your own: DIR/train.npz and DIR/test.npz.

    Each has `images`, uint8 [N, H, W, C], and `labels`, integers 0, 1, ... [N]; train.npz may have
    `class_names`, strings by label.

    Attributes:
        dir: DIR.
    """

    dir: str

    def load(self) -> ImageDataset:
        """Reads both files; pickled objects are never read.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: one is damaged, lacks an array, or has one of another dtype or shape, or a
                label out of range; the message names it.
        """
        directory = pathlib.Path(self.dir).expanduser().absolute()
        path = directory / "train.npz"
        train, test = _read_arrays(path), _read_arrays(directory / "test.npz")
        names = None
        if "class_names" in train:
            given = train["class_names"]
            if given.ndim != 1 or given.dtype.kind not in "US":
                raise ValueError(
                    f"{path}: class_names must be strings [classes], got {given.dtype} of shape "
                    f"{given.shape}"
                )
            names = tuple(map(str, given.astype(np.str_)))
        splits = [(arrays["images"], arrays["labels"]) for arrays in (train, test)]
        try:
            return from_arrays("npz", *splits, names)
        except ValueError as error:
            raise ValueError(f"{directory}: {error}") from error


def _read_arrays(path: pathlib.Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(
            f"no {path}: the data set npz is made of DIR/train.npz and DIR/test.npz, each with "
            "images (uint8 [N, H, W, C]) and labels (integers [N])"
        )
    try:
        # NumPy leaves a file open that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} cannot be read: write it with np.savez(path, images=..., labels=...), arrays "
            f"of numbers only. ({error})"
        ) from error
    for name in ("images", "labels"):
        if name not in arrays:
            raise ValueError(f"{path} has no array {name!r}, only {sorted(arrays)}")
    return arrays
