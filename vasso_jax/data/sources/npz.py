"""A data set of your own as NumPy archives: train.npz, test.npz and, maybe, validation.npz."""

import dataclasses
import math
import pathlib
import zipfile
from typing import Any

import numpy as np

from vasso_jax.data.checks import valid_names
from vasso_jax.data.datasets import ImageDataset, checked
from vasso_jax.data.sources.source import Source
from vasso_jax.files import open_file, reason
from vasso_jax.names import expanded

_NAMES = ("images", "labels", "class_names")
# How many times smaller the data of a member is at most, by the method of compression; of deflate
# by its construction (https://zlib.net/zlib_tech.html). NumPy writes no others.
_SMALLER = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


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
            names = _class_names(paths[0], names)
        splits = {path: (both["images"], both["labels"]) for path, both in arrays.items()}
        return checked("npz", splits, names)


def _class_names(path: pathlib.Path, names: np.ndarray) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise ValueError(
            f"{path}: class_names must be strings [classes], got {names.dtype} of shape "
            f"{names.shape}"
        )
    try:
        strings = tuple(map(str, names.astype(np.str_)))
    except (UnicodeDecodeError, SystemError) as error:  # bytes, and numbers that are no characters
        raise ValueError(f"{path}: class_names are no text: save a list of strings") from error
    return valid_names(str(path), strings)


def _read_arrays(path: pathlib.Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(
            f"no {path}: the data set npz needs DIR/train.npz and DIR/test.npz, each with "
            "images (uint8 [N, H, W, C]) and labels (integers [N])"
        )
    with open_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
                arrays = {
                    name: _read_array(archive, members[name], path.stat().st_size)
                    for name in _NAMES
                    if name in members
                }
        except Exception as error:  # zipfile and NumPy raise many kinds of error for a damaged file
            raise ValueError(
                f"{path} cannot be read: write it with np.savez(path, images=..., labels=...), "
                f"arrays of numbers only. ({reason(error)})"
            ) from error
    for name in ("images", "labels"):
        if name not in arrays:
            raise ValueError(f"{path} has no array {name!r}, only {sorted(members)}")
    return arrays


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file_size: int) -> np.ndarray:
    """An array in an archive.

    Its memory is taken only if the file can hold so much, whatever sizes it claims.

    Raises:
        ValueError: that is not so, or the array holds Python objects.
    """
    if info.compress_type not in _SMALLER:
        raise ValueError(f"{info.filename} is compressed in a way that NumPy does not use")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version not in _HEADERS:
            raise ValueError(f"{info.filename} has fields, or a format that is not known")
        shape, _, dtype = _HEADERS[version](member)
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds Python objects, which are never loaded")
    size = math.prod(shape) * max(dtype.itemsize, 1)
    if size > min(info.file_size, file_size * _SMALLER[info.compress_type]):
        raise ValueError(f"{info.filename} claims {size:,} bytes, more than there are in the file")
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)
