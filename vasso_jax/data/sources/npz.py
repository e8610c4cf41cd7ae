"""A data set of your own as NumPy archives: train.npz, test.npz and, maybe, validation.npz."""

import dataclasses
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from vasso_jax.data.datasets import ImageDataset, checked
from vasso_jax.data.sources.source import Source
from vasso_jax.names import expanded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Npz(Source):
    """Arrays of your own: DIR/train.npz, DIR/test.npz and, if there is one, DIR/validation.npz.

    Each has `images`, uint8 [N, H, W, C], and `labels`, integers 0, 1, ... [N]; train.npz may have
    `class_names`, strings by label.

    Attributes:
        dir: folder that holds train.npz and test.npz (DIR above).
    """

    dir: str

    def load(self) -> ImageDataset:
        """Reads the files; pickled objects are never read.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, lacks an array, or has an array of another dtype or
                shape, or a label out of range; the message names it.
        """
        directory = expanded(self.dir).absolute()
        paths = [directory / "train.npz", directory / "test.npz"]
        if (validation := directory / "validation.npz").exists():
            paths.append(validation)
        arrays = {str(path): _read_arrays(path) for path in paths}
        names = arrays[str(paths[0])].get("class_names")
        if names is not None:
            if names.ndim != 1 or names.dtype.kind not in "US":
                raise ValueError(
                    f"{paths[0]}: class_names must be strings [classes], got {names.dtype} of "
                    f"shape {names.shape}"
                )
            names = tuple(map(str, names.astype(np.str_)))
        splits = {path: (both["images"], both["labels"]) for path, both in arrays.items()}
        return checked("npz", splits, names)


def _read_arrays(path: pathlib.Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(
            f"no {path}: the data set npz needs DIR/train.npz and DIR/test.npz, each with "
            "images (uint8 [N, H, W, C]) and labels (integers [N])"
        )
    try:
        # Opened here, since NumPy does not close a file that it cannot read.
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
