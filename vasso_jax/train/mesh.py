"""The device mesh, and where arrays lie on it. One axis, `data`, over all devices of all hosts."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh() -> Mesh:
    """A mesh of all devices with the single axis `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raises ValueError unless every device gets the same number of images, at least one."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if batch_size % mesh.size:
        raise ValueError(
            f"batch_size={batch_size} cannot be divided over {mesh.size} devices: choose a "
            f"multiple of {mesh.size}"
        )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """First axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """A copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def with_shardings(shapes: Any, sharding: NamedSharding) -> Any:
    """A pytree of ShapeDtypeStruct, with `sharding` added to each."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Copies host arrays, equal on all processes, to every device."""
    sharding = replicated(mesh)

    def put(array: Any) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree)
