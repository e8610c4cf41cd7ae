"""The device mesh, and how arrays are placed on it.

The mesh has two axes over all devices of all hosts. A batch is split over both. Parameters and
optimizer state are replicated along `data` and sharded along `fsdp` (fully sharded data
parallelism, arXiv 2004.13336 and 1910.02054): every device keeps a part, and each pass gathers the
whole.
"""

import contextlib
import os
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.experimental.layout import Format, Layout
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

# Smaller arrays are replicated: a message of a few kB takes as long as an empty one, and hardly any
# memory would be saved. Most biases and BatchNorm parameters are that small.
_SMALL = 1024
_AXES, _TYPES = ("data", "fsdp"), (AxisType.Auto,) * 2
# The kernels [h, w, in, out] of convolutions as cuDNN wants them in memory: out, h, w, in.
_CUDNN_ORDER = Layout(major_to_minor=(3, 0, 1, 2))


def make_mesh(fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with the axes `data` and `fsdp`.

    TPU slices are connected by slow links, so each slice holds all parameters: `data` spans slices.

    Args:
        fsdp: size of that axis; 1: every device has a copy of all parameters.
        devices: to use; None: all devices of all hosts.

    Raises:
        ValueError: fsdp is below 1, or does not divide the number of devices (of a slice), or JAX
            finds no devices.
    """
    devices = _all_devices() if devices is None else devices
    if fsdp < 1:
        raise ValueError(f"fsdp must be at least 1, got {fsdp}")
    # Only TPU devices have a slice index; those of a topology description only with several slices.
    tpus = [device for device in devices if device.platform == "tpu"]
    slices = len({getattr(device, "slice_index", 0) for device in tpus}) or 1
    connected = len(devices) // slices
    if connected % fsdp:
        where = " of a slice" if slices > 1 else ""
        raise ValueError(
            f"fsdp={fsdp} does not divide the {connected} devices{where}: choose a divisor of "
            f"{connected}, or 1 for a copy of the parameters on each"
        )
    shape = (connected // fsdp, fsdp)
    if slices > 1:
        grid = mesh_utils.create_hybrid_device_mesh(
            shape, (slices, 1), devices, allow_split_physical_axes=True
        )
        return Mesh(grid, _AXES, axis_types=_TYPES)
    return jax.make_mesh(shape, _AXES, _TYPES, devices=devices)


def _all_devices() -> Sequence[Any]:
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).strip().splitlines() or ["its packages are not installed"])[0]
        asked = os.environ.get("JAX_PLATFORMS")
        remedy = (
            f"unset JAX_PLATFORMS={asked}, or install what it needs"
            if asked
            else "check the driver and the packages of JAX for it"
        )
        raise ValueError(f"JAX finds no devices ({reason}): {remedy}") from error


def check_batch_size(batch_size: int, microbatches: int, mesh: Mesh) -> None:
    """Raises ValueError unless each device gets equally many images of each microbatch."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    groups = microbatches * mesh.size
    if batch_size % groups:
        parts = f"{microbatches} microbatches on " if microbatches > 1 else ""
        raise ValueError(
            f"batch_size={batch_size} cannot be divided over {parts}{mesh.size} devices: choose a "
            f"multiple of {groups}"
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """First axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def spread(tree: Any, mesh: Mesh) -> Any:
    """The shardings of parameters, or of arrays of their shapes: a pytree of NamedSharding.

    Each array is split along the largest axis that `fsdp` divides, but along the last axis only if
    `fsdp` divides no other. Arrays without such an axis, or of fewer than 1,024 elements, are
    replicated.
    """
    parts = mesh.shape["fsdp"]

    def sharding(array: Any) -> NamedSharding:
        axes = [axis for axis, size in enumerate(array.shape) if size % parts == 0]
        if parts == 1 or array.size < _SMALL or not axes:
            return replicated(mesh)
        # For the last axis, XLA for TPUs keeps the gradient's all-reduce. Its traffic is twice that
        # of the reduce-scatter that it uses for most other axes.
        best = max(axes, key=lambda axis: (axis < len(array.shape) - 1, array.shape[axis]))
        return NamedSharding(mesh, PartitionSpec(*(None,) * best, "fsdp"))

    return jax.tree.map(sharding, tree)


def check_spread(params: Any, mesh: Mesh) -> None:
    """Raises ValueError if `fsdp` would leave a copy of every parameter on every device."""
    parts = mesh.shape["fsdp"]
    if parts > 1 and not any(any(s.spec) for s in jax.tree.leaves(spread(params, mesh))):
        raise ValueError(
            f"fsdp={parts} has no effect: no array of the network has {_SMALL:,} or more numbers "
            f"and an axis that {parts} divides; leave it out"
        )


def is_hopper_or_later(device: Any) -> bool:
    """Whether it is an NVIDIA GPU of compute capability 9.0 or more."""
    capability = re.match(r"(\d+)\.", str(getattr(device, "compute_capability", "")))
    return device.platform == "gpu" and capability is not None and int(capability[1]) >= 9


def in_cudnn_order(shardings: Any, shapes: Any) -> Any:
    """`shardings`, with the order in memory that cuDNN wants for arrays of four axes.

    On an H100, XLA chooses it where it may (`Layout.AUTO`), in float32 and bfloat16. In another
    order each pass transposes every kernel and its gradient, and the update is written twice.

    Args:
        shardings: a pytree of NamedSharding.
        shapes: the arrays or shapes that they are for.

    Returns:
        A pytree of NamedSharding or `jax.experimental.layout.Format`.
    """
    return jax.tree.map(
        lambda sharding, x: Format(_CUDNN_ORDER, sharding) if x.ndim == 4 else sharding,
        shardings,
        shapes,
    )


def gather(params: Any, mesh: Mesh) -> Any:
    """Traced: gathers `params`, placed by `spread`, to every device.

    Their gradient is sharded as by `spread`. Without this, the compiler may split activations over
    channels instead.
    """
    # In the backward pass the same constraints apply to the gradient, in reverse order.
    return keep_whole(keep_spread(params, mesh), mesh)


def keep_spread(tree: Any, mesh: Mesh) -> Any:
    """Traced: parameters or gradients, placed by `spread`."""
    if mesh.shape["fsdp"] == 1:
        return tree
    return jax.lax.with_sharding_constraint(tree, spread(tree, mesh))


def keep_whole(tree: Any, mesh: Mesh) -> Any:
    """Traced: parameters or gradients, a copy on every device."""
    if mesh.shape["fsdp"] == 1:
        return tree
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def set_if_split(mesh: Mesh) -> contextlib.AbstractContextManager[Any]:
    """The context to trace an optimizer in, which sets the mesh if parameters are split over it."""
    if mesh.shape["fsdp"] == 1:
        return contextlib.nullcontext()
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def with_shardings(shapes: Any, shardings: Any) -> Any:
    """A pytree of ShapeDtypeStruct with the given shardings, or formats, added."""
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def in_order_of(tree: Any, like: Any) -> Any:
    """`tree`, which orbax has read, with its arrays in the order in memory of those of `like`."""

    def put(x: jax.Array, wanted: Any) -> jax.Array:
        return x if wanted.format.layout is None else jax.device_put(x, wanted.format)

    return jax.tree.map(put, tree, like)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copies host arrays, which are equal on all processes, to every device."""
    sharding = replicated(mesh)

    def put(array: Any) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree)
