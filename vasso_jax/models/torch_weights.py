"""Converts weights of PyTorch networks (the authors', torchvision's ResNets) to Flax, and back."""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from vasso_jax.models.names import create
from vasso_jax.models.pyramidnet import PyramidNet
from vasso_jax.models.resnet import ResNet
from vasso_jax.models.vgg import VGG
from vasso_jax.models.vit import ViT
from vasso_jax.models.wide_resnet import WideResNet

# PyTorch module names -> Flax names, where they differ: block indices are part of the name here.
_RENAMES = (
    (r"^(layer\d|features|classifier)\.(\d+)", r"\1_\2"),
    (r"^(block\d)\.layer\.(\d+)", r"\1_\2"),
    (r"(shortcut|downsample)\.0$", "shortcut_conv"),
    (r"(shortcut|downsample)\.1$", "shortcut_bn"),
    (r"convShortcut$", "shortcut"),
)
# And back.
_LAYERS = (r"^(layer\d)_(\d+)", r"\1.\2")
_BACK = {
    ResNet: (_LAYERS, (r"shortcut_conv$", "shortcut.0"), (r"shortcut_bn$", "shortcut.1")),
    WideResNet: ((r"^(block\d)_(\d+)", r"\1.layer.\2"), (r"shortcut$", "convShortcut")),
    VGG: ((r"^(features|classifier)_(\d+)", r"\1.\2"),),
    PyramidNet: (_LAYERS,),
}
_TORCHVISION = (
    *(_LAYERS, (r"shortcut_conv$", "downsample.0"), (r"shortcut_bn$", "downsample.1")),
    (r"^linear$", "fc"),
)
_STEMS = ("conv1.weight", "features.0.weight")
_HEADS = ("linear.weight", "fc.weight", "classifier.6.weight")


def from_torch(name: str, state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Converts a PyTorch state dict of the network `name` to Flax variables.

    Supported are the module names of the authors' networks (ResNet, wide ResNet, VGG-BN), of
    torchvision's ResNets and of PyramidNet, with or without the prefix `module.` that
    `DataParallel` adds.

    Args:
        name: as for `create`; the numbers of classes and input channels are taken from the weights.
        state_dict: PyTorch names to NumPy arrays or tensors, of any floating dtype. torch is needed
            only for tensors.

    Returns:
        {"params": ..., "batch_stats": ...} of float32 arrays (float64 arrays are kept if JAX has
        float64 enabled), ready for `model.apply`.

    Raises:
        ValueError: unknown network, or an entry is missing, superfluous or of another shape; the
            message names it.
    """
    model = create(name, num_classes=1)
    if isinstance(model, ViT):
        raise ValueError(f"there is no conversion of PyTorch weights for {name}, only for CNNs")
    if not all(isinstance(key, str) for key in state_dict):
        raise ValueError("the names in a state dict must be strings: give model.state_dict()")
    if all(key.startswith("module.") for key in state_dict):
        state_dict = {key.removeprefix("module."): value for key, value in state_dict.items()}
    arrays = {
        key: _to_numpy(key, value)
        for key, value in state_dict.items()
        if not key.endswith("num_batches_tracked")
    }
    stem = next((key for key in _STEMS if key in arrays and arrays[key].ndim == 4), None)
    head = next((key for key in _HEADS if key in arrays and arrays[key].ndim == 2), None)
    if stem is None or head is None:
        needed = _STEMS if stem is None else _HEADS
        raise ValueError(f"the state dict lacks {' / '.join(needed)}: not a {name}")
    model = model.clone(num_classes=arrays[head].shape[0])
    image = jnp.zeros((1, 32, 32, arrays[stem].shape[1]))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))
    expected: dict[tuple[str, ...], Any] = flax.traverse_util.flatten_dict(dict(shapes))

    renames = (*_RENAMES, (r"^fc$", "linear")) if isinstance(model, ResNet) else _RENAMES
    converted = {}
    for key, array in arrays.items():
        path, value = _convert(key, array, renames)
        if path not in expected:
            raise ValueError(f"{key} of the state dict has no counterpart in {name}")
        if value.shape != expected[path].shape:
            raise ValueError(
                f"{key} has shape {value.shape} (in Flax order), but {name} needs "
                f"{expected[path].shape}"
            )
        converted[path] = jnp.asarray(value)
    if missing := sorted("/".join(path) for path in expected.keys() - converted.keys()):
        first, more = ", ".join(missing[:4]), len(missing) - 4
        raise ValueError(
            f"the state dict lacks {first}{f' and {more} more' if more > 0 else ''} of {name}"
        )
    return flax.traverse_util.unflatten_dict(converted)


def to_torch(model: nn.Module, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Converts Flax variables to a PyTorch state dict, the inverse of `from_torch`.

    The names are those of the authors' networks, and of torchvision for its ResNets. A
    `load_state_dict` of PyTorch takes the arrays as tensors, such as those that `safetensors.torch`
    reads from a file.

    Args:
        model: one of this package's convolutional networks.
        variables: {"params", "batch_stats"} of it.

    Returns:
        PyTorch names to arrays of the same dtype, in PyTorch's order of the axes, contiguous.

    Raises:
        ValueError: it is another network.
    """
    if type(model) not in _BACK:
        raise ValueError(
            f"there is no conversion of a {type(model).__name__} to PyTorch, only of the package's "
            "CNNs"
        )
    torchvision = isinstance(model, ResNet) and model.imagenet
    renames = _TORCHVISION if torchvision else _BACK[type(model)]
    flat: Any = flax.traverse_util.flatten_dict(dict(variables))
    return dict(_back(path, np.asarray(array), renames) for path, array in flat.items())


def _to_numpy(key: str, value: Any) -> np.ndarray:
    """An array or a tensor as an array of at least float32; ValueError if it is of no floats."""
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            try:
                value = value.numpy()
            except TypeError:  # NumPy has no bfloat16
                value = value.float().numpy()
        value = np.asarray(value)
        kind = value.dtype if jnp.issubdtype(value.dtype, jnp.floating) else None
    except Exception as error:  # a tensor that is sparse, quantized or on no device
        raise ValueError(f"{key} of the state dict is no ordinary tensor") from error
    if kind is None:
        raise ValueError(f"{key} of the state dict is {value.dtype}, not of floating numbers")
    return value.astype(jnp.promote_types(kind, jnp.float32), copy=False)


def _convert(
    key: str, array: np.ndarray, renames: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, ...], np.ndarray]:
    """One PyTorch entry -> its Flax path and the array in Flax's axis order."""
    module, _, kind = key.rpartition(".")
    for pattern, replacement in renames:
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


def _back(
    path: tuple[str, ...], array: np.ndarray, renames: tuple[tuple[str, str], ...]
) -> tuple[str, np.ndarray]:
    """The inverse of `_convert`."""
    _, *modules, kind = path
    module = ".".join(modules)
    for pattern, replacement in renames:
        module = re.sub(pattern, replacement, module)
    if kind == "kernel":
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    names = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    return f"{module}.{names.get(kind, kind)}", np.ascontiguousarray(array)
