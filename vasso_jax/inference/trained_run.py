"""A run read back from its folder: network, weights, class names and predictions."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vasso_jax import data
from vasso_jax.inference.preprocessing import Image, Preprocessing
from vasso_jax.runs import RunFolder
from vasso_jax.train.checkpoint import find_checkpoint
from vasso_jax.train.errors import usage_errors
from vasso_jax.train.objects import check_model
from vasso_jax.train.parts import bind_model, make_model
from vasso_jax.train.sharding import batch_sharding, make_mesh, replicated
from vasso_jax.train.weights import read_variables


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """The network of a run with the weights of one of its checkpoints.

    Attributes:
        folder: of the run.
        step: of the checkpoint: the number of optimizer steps that these weights have seen.
        model: the Flax Linen module; `model.apply(variables, images, train=False)` gives logits
            [N, classes] for normalised float32 images.
        variables: {"params", "batch_stats"}, on all devices.
        class_names: by label.
        preprocessing: from images to what the network is given.
        settings: of the run, as in its config.json.
    """

    folder: pathlib.Path
    step: int
    model: nn.Module
    variables: dict[str, Any]
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    settings: dict[str, Any]

    def predict(self, images: np.ndarray | Sequence[Image], *, batch_size: int = 128) -> np.ndarray:
        """The probability of each class for each image.

        The batches are split over all devices, and the last one is filled up, so that one program
        is compiled for all of them.

        Args:
            images: see `Preprocessing.resized`.
            batch_size: images that are on the devices at a time; rounded up to a multiple of their
                number.

        Returns:
            float32 [N, classes], in the order of `images`; each row sums to 1.

        Raises:
            ValueError: as `Preprocessing.resized`, or `batch_size` is below 1.
            OSError: a file cannot be read.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        mesh = make_mesh()
        batch_size = -(-batch_size // mesh.size) * mesh.size
        found = [np.zeros((0, len(self.class_names)), np.float32)]
        for start in range(0, len(images), batch_size):
            batch = self.preprocessing.resized(images[start : start + batch_size])
            missing = batch_size - len(batch)
            filled = np.pad(batch, ((0, missing), *((0, 0),) * 3))
            on_devices = jax.device_put(filled, batch_sharding(mesh))
            probabilities = self._probabilities(self.variables, on_devices)
            found.append(np.asarray(probabilities)[: len(batch)])
        return np.concatenate(found)

    @functools.cached_property
    def _probabilities(self) -> Any:
        return jax.jit(self.probabilities)

    def probabilities(self, variables: dict[str, Any], images: jax.Array) -> jax.Array:
        """Traceable: the same for images that have the size of the network already.

        Args:
            variables: as the attribute.
            images: uint8 [N, H, W, C].

        Returns:
            float32 [N, classes].
        """
        mean, std = self.preprocessing.mean, self.preprocessing.std
        normalized = data.normalize(images, mean, std)
        logits: Any = self.model.apply(variables, normalized, train=False)
        return jax.nn.softmax(logits.astype(jax.numpy.float32))


def load_run(
    folder: str | os.PathLike[str], which: int | str = "last", *, model: nn.Module | None = None
) -> TrainedRun:
    """Reads a run back, to use what it has learnt.

    Args:
        folder: of the run; it may still be under way, in this process or another one.
        which: the checkpoint: `last`, `best` (by test accuracy) or a step.
        model: the network of a run that was given one as an object, made in the same way.

    Returns:
        The run, with its weights on all devices.

    Raises:
        UsageError: there is no such checkpoint, this is no run folder or has a newer format, a file
            of it is damaged, or its network has to be given, or is another one.
    """
    with usage_errors():
        return _load(pathlib.Path(folder).expanduser(), which, model)


def _load(path: pathlib.Path, which: int | str, model: nn.Module | None) -> TrainedRun:
    reader = RunFolder(path)
    remedy = "give the folder of a run that was trained here"
    settings, facts = reader.settings(remedy), reader.facts(remedy)
    try:
        preprocessing = Preprocessing.of(facts)
        class_names = tuple(facts["class_names"])
    except KeyError as error:
        raise ValueError(f"{reader.dataset_path} lacks {error.args[0]}: {remedy}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{reader.dataset_path} is damaged ({error}): {remedy}") from error
    if model is not None:
        check_model("model", model)
    elif (section := settings["model"])["name"] == "given":
        raise ValueError(
            f"{path} was trained with a network given as an object ({section.get('object')}): give "
            "load_run the same, as model="
        )
    else:
        model = make_model(bind_model(section), len(class_names))
    checkpoint = find_checkpoint(path, which)
    like = _shapes(model, preprocessing.image_shape)
    variables = read_variables(checkpoint, like)
    return TrainedRun(
        path, int(checkpoint.name), model, variables, class_names, preprocessing, settings
    )


def _shapes(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """The shapes of the variables, placed on all devices."""
    image = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    init = partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)), image)
    everywhere = replicated(make_mesh())
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), dict(shapes)
    )
