"""A data set of one's own as two NumPy archives, train.npz and test.npz."""

import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from vasso_jax.data.datasets import Split


def read_npz(directory: pathlib.Path) -> tuple[Split, Split, tuple[str, ...]]:
    """Reads DIRECTORY/train.npz and test.npz.

    Each has `images`, uint8 [N, H, W, C], and `labels`, integers 0, 1, ... [N]; train.npz may have
    `class_names`, strings by label. Pickled objects are never read.

    Returns:
        The two splits and the class names; without any given, the labels as words.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: one is damaged, lacks an array, or has one of another dtype or shape, or a label
            out of range; the message names it.
    """
    paths = [directory / "train.npz", directory / "test.npz"]
    train, test = (_read_arrays(path) for path in paths)
    if "class_names" in train:
        given = train["class_names"]
        if given.ndim != 1 or given.dtype.kind not in "US":
            raise ValueError(
                f"{paths[0]}: class_names must be strings [classes], got {given.dtype} of shape "
                f"{given.shape}"
            )
        names = tuple(map(str, given.astype(np.str_)))
    else:
        names = tuple(map(str, range(int(train["labels"].max()) + 1)))
    for path, arrays in zip(paths, (train, test), strict=True):
        low, high = arrays["labels"].min(), arrays["labels"].max()
        if low < 0 or high >= len(names):
            raise ValueError(
                f"{path}: labels run from {low} to {high}, the {len(names)} classes of train.npz "
                f"from 0 to {len(names) - 1}"
            )
    if train["images"].shape[1:] != test["images"].shape[1:]:
        raise ValueError(
            f"{paths[0]} has images of shape {train['images'].shape[1:]}, {paths[1]} of "
            f"{test['images'].shape[1:]}"
        )
    splits = [Split(a["images"], a["labels"].astype(np.int32)) for a in (train, test)]
    return splits[0], splits[1], names


def _read_arrays(path: pathlib.Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(
            f"no {path}: dataset=npz wants train.npz and test.npz in data_dir, each with images "
            "(uint8 [N, H, W, C]) and labels (integers [N])"
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
    images, labels = arrays["images"], arrays["labels"]
    if images.dtype != np.uint8:
        raise ValueError(f"{path}: images must be uint8, 0 to 255, got {images.dtype}")
    if images.ndim != 4 or not images.size:
        raise ValueError(f"{path}: images must be [N, H, W, C], got shape {images.shape}")
    if images.shape[-1] > 4 and images.shape[1] <= 4:
        raise ValueError(f"{path}: images must be [N, H, W, C], and {images.shape} is [N, C, H, W]")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{path}: labels must be integers, one an image; got {labels.dtype} of shape "
            f"{labels.shape} for {len(images)} images"
        )
    return arrays
