"""A run as one file, for programs that know nothing of this package."""

from typing import Any

import jax
import numpy as np
from jax import export

from vasso_jax.inference.trained_run import TrainedRun
from vasso_jax.models import to_torch
from vasso_jax.train.devices.sharding import make_mesh

PLATFORMS = ("cpu", "cuda", "tpu")


def exported_program(run: TrainedRun) -> bytes:
    """The network with its weights, from uint8 images to probabilities, as `jax.export` writes it.

        predict = jax.jit(jax.export.deserialize(bytearray(content)).call)
        probabilities = predict(images)

    takes uint8 [N, H, W, C] for any N >= 1, with the height, width and channels of the run, and
    returns float32 [N, classes]. It needs `flatbuffers` and `jax`, of the version that wrote it or
    a newer one (for how long is in the documentation of `jax.export`).

    Args:
        run: of `load_run`.

    Returns:
        A program for CPUs, NVIDIA GPUs and TPUs, each with one device.

    Raises:
        ValueError: the network of the run needs to know how many images there are.
    """
    variables = jax.device_get(run.variables)

    def predict(images: jax.Array) -> jax.Array:
        return run.probabilities(variables, images)

    # Otherwise it would be for as many devices as a mesh has that the caller has set.
    with jax.set_mesh(make_mesh(devices=jax.local_devices()[:1])):
        (batch,) = export.symbolic_shape("batch")
        shape = jax.ShapeDtypeStruct((batch, *run.preprocessing.image_shape), np.uint8)
        try:
            exported = export.export(jax.jit(predict), platforms=PLATFORMS)(shape)
        except TypeError as error:
            raise ValueError(
                f"the network {type(run.model).__name__} cannot be exported for any number of "
                "images: it must take their number from x.shape[0], and not as a number of Python "
                f"such as len(x) ({str(error).splitlines()[0]})"
            ) from error
    return bytes(exported.serialize())


def named_weights(run: TrainedRun, *, torch_names: bool = False) -> dict[str, np.ndarray]:
    """The weights by name, as a safetensors file holds them.

    Args:
        run: of `load_run`.
        torch_names: names and order of axes of PyTorch, see `vasso_jax.models.to_torch`; otherwise
            those of Flax, such as `params.conv1.kernel`.

    Raises:
        ValueError: PyTorch has no names for this network.
    """
    variables = jax.device_get(run.variables)
    if torch_names:
        return to_torch(run.model, variables)
    leaves: Any = jax.tree.leaves_with_path(variables)
    return {jax.tree_util.keystr(path, simple=True, separator="."): x for path, x in leaves}
