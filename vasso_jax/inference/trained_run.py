"""A run read back from its folder: network, weights, class names and predictions."""

import dataclasses
import functools
import os
import pathlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from vasso_jax import data
from vasso_jax.inference.preprocessing import Image, Preprocessing, as_images
from vasso_jax.names import expanded
from vasso_jax.runs import RunFolder
from vasso_jax.train.checkpoints.checkpoint import find_checkpoint
from vasso_jax.train.checkpoints.weights import read_variables
from vasso_jax.train.config.descriptions import describe
from vasso_jax.train.config.objects import check_model
from vasso_jax.train.config.parts import bind_section, make_model
from vasso_jax.train.devices.sharding import batch_sharding, make_mesh, replicated
from vasso_jax.train.errors import UsageError, usage_errors

BATCH_SIZE = 128


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TrainedRun:
    """The network of a run with the weights of one of its checkpoints.

    Attributes:
        folder: of the run.
        step: of the checkpoint: the number of optimizer steps that these weights have seen.
        model: the Flax Linen module; `model.apply(variables, images, train=False)` gives logits
            [N, classes] for normalised float32 images.
        variables: {"params", "batch_stats"}, on all devices of this process.
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

    def __repr__(self) -> str:
        network = self.settings["model"]["name"]
        return f"TrainedRun({str(self.folder)!r}, step={self.step}, model={network!r})"

    def __getstate__(self) -> dict[str, Any]:
        # Compiled programs cannot be pickled.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def predict(
        self, images: np.ndarray | Iterable[Image], *, batch_size: int = BATCH_SIZE
    ) -> np.ndarray:
        """The probability of each class for each image.

        Args:
            images: see `Preprocessing.resized`.
            batch_size: how many are prepared and on the devices at a time.

        Returns:
            float32 [N, classes], in the order of `images`; each row sums to 1.

        Raises:
            ValueError: as `Preprocessing.resized`, or `batch_size` is below 1.
            OSError: a file cannot be read.
        """
        batches = in_batches(as_images(images), batch_size)
        found = [self.predict_prepared(self.preprocessing.resized(batch)) for batch in batches]
        return np.concatenate(found) if found else np.zeros((0, len(self.class_names)), np.float32)

    def predict_prepared(self, images: np.ndarray) -> np.ndarray:
        """The same for one batch of images as `preprocessing.resized` returns them.

        They are split over all devices of this process, and filled up to a power of two times their
        number, so that few programs are compiled.

        Args:
            images: uint8 [N, H, W, C].

        Returns:
            float32 [N, classes].
        """
        mesh = _own_devices()
        size = mesh.size
        while size < len(images):
            size *= 2
        filled = np.pad(images, ((0, size - len(images)), *((0, 0),) * 3))
        # Whatever mesh the caller has set.
        with jax.set_mesh(mesh):
            on_devices = jax.device_put(filled, batch_sharding(mesh))
            return np.asarray(self._compiled(self.variables, on_devices))[: len(images)]

    @functools.cached_property
    def _compiled(self) -> Any:
        return jax.jit(self.probabilities)

    def probabilities(self, variables: dict[str, Any], images: jax.Array) -> jax.Array:
        """Traceable: what `predict_prepared` computes.

        Args:
            variables: as the attribute.
            images: uint8 [N, H, W, C], of the size of the network.

        Returns:
            float32 [N, classes].
        """
        mean, std = self.preprocessing.mean, self.preprocessing.std
        normalized = data.normalize(images, mean, std)
        logits: Any = self.model.apply(variables, normalized, train=False)
        return jax.nn.softmax(logits.astype(jnp.float32))


def in_batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Slices of at most `size` items.

    Raises:
        ValueError: `size` is no integer >= 1.
    """
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"batch_size must be an integer of at least 1, got {size!r}")
    return (items[start : start + size] for start in range(0, len(items), size))


def load_run(
    folder: str | os.PathLike[str],
    which: int | str = "last",
    *,
    average: bool | None = None,
    model: nn.Module | None = None,
) -> TrainedRun:
    """Reads a run back, to use what it has learnt.

    Args:
        folder: of the run; it may still be under way, in this process or another one.
        which: the checkpoint: `last`, `best` (by the accuracy on the validation split, or without
            one on the test split) or a step.
        average: whether to take the average of the weights over the steps (`ema_decay` of the run);
            None: if there is one.
        model: the network of a run that was given one as an object, made in the same way.

    Returns:
        The run, with its weights on all devices of this process.

    Raises:
        UsageError: there is no such checkpoint, this is no run folder or has a newer format, a file
            of it is damaged, or its network has to be given, or is another one.
    """
    with usage_errors():
        return _load(expanded(folder), which, average, model)


def _load(
    path: pathlib.Path, which: int | str, average: bool | None, model: nn.Module | None
) -> TrainedRun:
    reader = RunFolder(path)
    if not path.exists():
        raise ValueError(f"there is no {path}")
    remedy = (
        "give the folder of a run that was trained or, for imported weights, evaluated here "
        "(init_from=..., epochs=0)"
    )
    settings, facts = reader.settings(remedy), reader.facts(remedy)
    try:
        preprocessing = Preprocessing.of(facts, settings)
        class_names = _strings(facts["class_names"])
    except KeyError as error:
        raise ValueError(f"{reader.dataset_path} lacks {error.args[0]}: {remedy}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{reader.dataset_path} is damaged ({error}): {remedy}") from error
    section = settings.get("model")
    if not isinstance(section, dict) or not isinstance(section.get("name"), str):
        raise ValueError(f"{reader.config_path} is damaged (no model.name): {remedy}")
    model = _network(path, section, model, len(class_names))
    shapes = _shapes(model, preprocessing.image_shape)
    checkpoint, variables = _read(path, which, shapes, average)
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(variables))):
        raise ValueError(f"the checkpoint {checkpoint} is damaged: its weights are not finite")
    return TrainedRun(
        path, int(checkpoint.name), model, variables, class_names, preprocessing, settings
    )


def _strings(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("class_names must be strings")
    return tuple(names)


def _network(
    path: pathlib.Path, section: dict[str, Any], model: nn.Module | None, num_classes: int
) -> nn.Module:
    if model is None and section["name"] != "given":
        try:
            return make_model(bind_section("model", section), num_classes)
        except (ValueError, UsageError) as error:
            raise ValueError(f"the network of {path} cannot be made: {error}") from error
    trained = section.get("object")
    if model is None:
        raise ValueError(
            f"{path} was trained with a network given as an object ({trained}): give load_run the "
            "same, as model="
        )
    check_model("model", model)
    if trained is not None and describe(model) != trained:
        warnings.warn(
            f"{path} was trained with {trained}, and is read back as {describe(model)}",
            stacklevel=4,
        )
    return model


def _read(
    path: pathlib.Path, which: int | str, like: dict[str, Any], average: bool | None
) -> tuple[pathlib.Path, dict[str, Any]]:
    """The checkpoint and what is in it."""
    while True:
        checkpoint = find_checkpoint(path, which)
        try:
            return checkpoint, read_variables(checkpoint, like, average=average)
        except UsageError:
            # A run that is under way may have deleted it for a newer one.
            if checkpoint.exists():
                raise


def _own_devices() -> Mesh:
    return make_mesh(devices=jax.local_devices())


def _shapes(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """The shapes of the variables, placed on all devices of this process."""
    image = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    init = partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.eval_shape(lambda: jax.random.key(0)), image)
    everywhere = replicated(_own_devices())
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), dict(shapes)
    )
