"""A run as one file, for programs that know nothing of this package."""

from typing import Any

import jax
import numpy as np
from jax import export

from vasso_jax.inference.trained_run import TrainedRun
from vasso_jax.models import to_torch

PLATFORMS = ("cpu", "cuda", "tpu")


def exported_program(run: TrainedRun) -> bytes:
    """The network with its weights, from uint8 images to probabilities, as `jax.export` writes it.

        exported = jax.export.deserialize(bytearray(content))
        probabilities = exported.call(images)

    takes uint8 [N, H, W, C] for any N, with the height, width and channels of the run, and returns
    float32 [N, classes]. It needs `jax` and `flatbuffers`, of the version that wrote it or a newer
    one (for how long is in the documentation of `jax.export`).

    Args:
        run: of `load_run`.

    Returns:
        A program for CPUs, NVIDIA GPUs and TPUs, each with one device.
    """
    variables = jax.device_get(run.variables)

    def predict(images: jax.Array) -> jax.Array:
        return run.probabilities(variables, images)

    (batch,) = export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, *run.preprocessing.image_shape), np.uint8)
    return bytes(export.export(jax.jit(predict), platforms=PLATFORMS)(shape).serialize())


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
