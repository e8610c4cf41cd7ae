"""What a data set must fulfil, each with one message that says what to do."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# Without names of the classes, there may be so many, or as many as images.
_MANY_CLASSES = 1000
# Control characters, and code points that Unicode does not have, which arrays of strings can hold.
_NO_NAME = re.compile("[\x00-\x1f\x7f-\x9f]|[^\x00-\U0010ffff]")


def check_arrays(where: str, images: Any, labels: Any) -> None:
    """Raises ValueError, with a message that begins with `where`, unless the arrays are valid.

    No element is read.
    """
    for field, values in (("images", images), ("labels", labels)):
        if not (hasattr(values, "dtype") and hasattr(values, "shape")):
            raise ValueError(
                f"{where}: {field} must be an array, got a {type(values).__name__}; "
                "data.from_arrays makes arrays of lists"
            )
    if images.dtype != np.uint8:
        raise ValueError(f"{where}: images must be uint8, 0 to 255, got {images.dtype}")
    if images.ndim != 4 or not images.size:
        raise ValueError(f"{where}: images must be [N, H, W, C], got shape {images.shape}")
    if images.shape[-1] > 4 and images.shape[1] <= 4:
        raise ValueError(
            f"{where}: images must be [N, H, W, C], but {images.shape} is [N, C, H, W]"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{where}: labels must be integers, one per image; got {labels.dtype} of shape "
            f"{labels.shape} for {len(images)} images"
        )


def count_classes(where: str, labels: np.ndarray) -> int:
    """The number of classes that have no names: one more than the largest label.

    Raises:
        ValueError: most of them would have no images, so the label is wrong.
    """
    largest = int(labels.max())
    if largest >= max(len(labels), _MANY_CLASSES):
        raise ValueError(
            f"{where}: labels[{labels.argmax()}] is {largest}, which makes {largest + 1:,} classes "
            f"for {len(labels):,} images: correct it, or give class_names"
        )
    return largest + 1


def check_fit(splits: Mapping[str, Any], num_classes: int) -> None:
    """Raises ValueError unless labels are of these classes, and all images of one shape.

    Args:
        splits: pairs of images and labels, each valid, by the names to use in messages.
        num_classes: number of classes.
    """
    for where, (_, labels) in splits.items():
        labels = np.asarray(labels)
        low, high = labels.min(), labels.max()
        if low < 0 or high >= num_classes:
            wrong = int(((labels < 0) | (labels >= num_classes)).argmax())
            raise ValueError(
                f"{where}: labels run from {low} to {high}, the {num_classes} classes from 0 to "
                f"{num_classes - 1}; labels[{wrong}] is the first that is none of them"
            )
    (first, (images, _)), *further = splits.items()
    for where, (others, _) in further:
        if images.shape[1:] != others.shape[1:]:
            raise ValueError(
                f"{first} has images of shape {images.shape[1:]}, but {where} of {others.shape[1:]}"
            )


def check_encoded(where: str, split: Any) -> None:
    """Raises ValueError unless `split` looks like an `EncodedSplit` that holds an image."""
    if not (hasattr(split, "__len__") and hasattr(split, "__getitem__")):
        raise ValueError(
            f"{where}: must be a split with __len__ and __getitem__(index) -> EncodedExample, got "
            f"a {type(split).__name__}"
        )
    if not len(split):
        raise ValueError(f"{where}: holds no images")


def valid_names(where: str, names: Any) -> tuple[str, ...]:
    """The class names as a tuple; ValueError unless they are strings that can be printed."""
    listed = () if isinstance(names, str) else _listed(names, lambda name: name)
    if not listed or not all(isinstance(name, str) for name in listed):
        raise ValueError(
            f"{where}: class_names must be a tuple of strings, one per class, got {names!r}"
        )
    for number, name in enumerate(listed):
        if _NO_NAME.search(name):
            raise ValueError(
                f"{where}: the name of class {number}, {name[:40]!a}, has characters that "
                "cannot be printed: rename it"
            )
    return listed


def valid_statistics(
    where: str, mean: Any, std: Any, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`mean` and `std` as tuples of Python floats; ValueError unless they can normalise images."""
    means, deviations = _listed(mean, float), _listed(std, float)
    if len(means) != channels or not all(0 <= value <= 1 for value in means):
        raise ValueError(
            f"{where}: mean must be {channels} numbers in [0, 1], one per channel, for pixels in "
            f"[0, 1], got {mean!r}"
        )
    if len(deviations) != channels or not all(0 < value < math.inf for value in deviations):
        raise ValueError(
            f"{where}: std must be {channels} numbers > 0, one per channel, for pixels in [0, 1], "
            f"got {std!r}"
        )
    return means, deviations


def _listed(values: Any, convert: Callable[[Any], Any]) -> tuple[Any, ...]:
    """The values as a tuple; empty if they are none, or cannot be converted."""
    try:
        return tuple(map(convert, values))
    except (TypeError, ValueError):
        return ()
