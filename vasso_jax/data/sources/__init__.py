"""Sources of data sets: tensorflow-datasets, image folders, .npz files, scikit-learn."""

import functools
import re
from collections.abc import Callable
from typing import Any

from vasso_jax.data.datasets import ImageDataset, StreamedDataset
from vasso_jax.data.sources.digits import Digits
from vasso_jax.data.sources.folder import Folder
from vasso_jax.data.sources.npz import Npz
from vasso_jax.data.sources.source import Given, Own, Source
from vasso_jax.data.sources.tfds import DATASETS, Tfds
from vasso_jax.names import import_object, is_own

__all__ = ["DATASETS", "KINDS", "Given", "Source", "constructor", "load"]

_SOURCES = {"digits": Digits, "folder": Folder, "npz": Npz}
KINDS = (*_SOURCES.values(), Tfds)


def constructor(name: str) -> Callable[..., Source]:
    """The function that makes the source called `name` from its other fields.

    Args:
        name: `digits`, `folder`, `npz`, the name of an image classification set in
            tensorflow-datasets, or `pkg.module:Name`, a function of your own that returns an
            `ImageDataset` or `StreamedDataset`.

    Raises:
        ValueError: `name` is no name of a data set, or your own cannot be imported.
    """
    if is_own(name, "data.name"):
        return _own(name, import_object("data set", name))
    if name in _SOURCES:
        return _SOURCES[name]
    if not re.fullmatch(r"\w+(/[\w.-]+)?", name):
        raise ValueError(
            f"{name!r} is no name of a data set; known are {', '.join(DATASETS)}, what "
            "tensorflow-datasets has, and your own as pkg.module:Name"
        )
    return functools.partial(Tfds, name=name)


def _own(name: str, function: Callable[..., Any]) -> Callable[..., Source]:
    """A constructor with the arguments of `function`, which is called when the data is loaded."""

    @functools.wraps(function)
    def make(**fields: Any) -> Source:
        return Own(name, function, fields)

    return make


def load(name: str, **fields: Any) -> ImageDataset | StreamedDataset:
    """Loads or opens the data set `name` with its other fields; see `constructor`.

    Raises:
        ValueError: a field is out of range, or the files found are not such a data set.
        OSError: nothing is there, or it cannot be read.
    """
    return constructor(name)(**fields).load()
