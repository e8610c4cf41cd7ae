"""Weights of the authors' PyTorch networks as Flax variables."""

import re
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from vasso_jax.models import create

# PyTorch module names -> ours, where they differ: block indices are part of the name here.
_RENAMES = (
    (r"^(layer\d)\.(\d+)", r"\1_\2"),
    (r"^(block\d)\.layer\.(\d+)", r"\1_\2"),
    (r"shortcut\.0$", "shortcut_conv"),
    (r"shortcut\.1$", "shortcut_bn"),
    (r"convShortcut$", "shortcut"),
)
_STEM, _HEADS = "conv1.weight", ("linear.weight", "fc.weight")


def from_torch(name: str, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a PyTorch state dict of the authors' network `name` to Flax variables.

    Args:
        name: as for `create`; the number of classes and of input channels is read off the weights.
        state_dict: PyTorch names to NumPy arrays or CPU tensors. Needs no torch.

    Returns:
        {"params": ..., "batch_stats": ...} of arrays, ready for `model.apply`.

    Raises:
        ValueError: unknown network, or an entry is missing, superfluous or of another shape; the
            message names it.
    """
    arrays = {
        key: np.asarray(value)
        for key, value in state_dict.items()
        if not key.endswith("num_batches_tracked")
    }
    head = next((key for key in _HEADS if key in arrays), None)
    if head is None or _STEM not in arrays:
        raise ValueError(f"the state dict lacks {_STEM} or {' / '.join(_HEADS)}: not a {name}")
    model = create(name, num_classes=arrays[head].shape[0])
    image = jnp.zeros((1, 32, 32, arrays[_STEM].shape[1]))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    expected: dict[tuple[str, ...], Any] = flax.traverse_util.flatten_dict(dict(shapes))

    converted = {}
    for key, array in arrays.items():
        path, value = _convert(key, array)
        if path not in expected:
            raise ValueError(f"{key} of the state dict has no counterpart in {name}")
        if value.shape != expected[path].shape:
            raise ValueError(
                f"{key} has shape {value.shape} (in Flax order), {name} needs "
                f"{expected[path].shape}"
            )
        converted[path] = jnp.asarray(value)
    if missing := sorted("/".join(path) for path in expected.keys() - converted.keys()):
        raise ValueError(f"the state dict lacks {', '.join(missing)} of {name}")
    return flax.traverse_util.unflatten_dict(converted)


def _convert(key: str, array: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """One PyTorch entry -> its Flax path and the array in Flax's axis order."""
    module, _, kind = key.rpartition(".")
    for pattern, replacement in _RENAMES:
        module = re.sub(pattern, replacement, module)
    path = tuple(module.split("."))
    if kind == "weight" and array.ndim == 4:
        return ("params", *path, "kernel"), array.transpose(2, 3, 1, 0)
    if kind == "weight" and array.ndim == 2:
        return ("params", *path, "kernel"), array.T
    if kind == "weight":
        return ("params", *path, "scale"), array
    if kind in ("running_mean", "running_var"):
        return ("batch_stats", *path, kind.removeprefix("running_")), array
    return ("params", *path, kind), array
