"""Objects that a Python caller gives in the place of sections of the config."""

from typing import Any, TypeAlias

import flax.linen as nn
import optax

from vasso_jax import data
from vasso_jax.data import sources
from vasso_jax.train.config.descriptions import describe
from vasso_jax.train.config.sections import Part

Dataset: TypeAlias = data.ImageDataset | data.StreamedDataset
# The argument that takes the place of each section.
ARGUMENTS = {
    "model": "model",
    "data": "dataset",
    "method": "tx",
    "rho_schedule": "tx",
    "window": "tx",
    "base": "tx",
    "schedule": "tx",
}


def given_parts(
    model: nn.Module | None, dataset: Dataset | None, tx: optax.GradientTransformation | None
) -> dict[str, Part]:
    """The sections that the objects replace, each as a part that returns its object.

    Raises:
        ValueError: one is an object of another kind.
    """
    parts: dict[str, Part] = {}
    if model is not None:
        check_model("model", model)
        parts["model"] = _part("model", model, object=describe(model))
    if dataset is not None:
        if not isinstance(dataset, Dataset):
            raise ValueError(
                "dataset must be a vasso_jax.data.ImageDataset (see data.from_arrays) or "
                f"StreamedDataset, got {type(dataset).__name__}"
            )
        parts["data"] = _part("data", sources.Given(dataset), name=dataset.name)
    if tx is not None:
        check_transform("tx", tx)
        parts["method"] = _part("method", tx, object=describe(tx))
        for section in ("rho_schedule", "window"):
            parts[section] = Part(section, None, lambda: None, {}, {})
        parts |= {section: _part(section, None) for section in ("base", "schedule")}
    return parts


def check_transform(field: str, value: Any) -> None:
    """Raises ValueError unless the value is an optax transform."""
    if not all(callable(getattr(value, name, None)) for name in ("init", "update")):
        raise ValueError(
            f"{field} must be an optax transform such as optax.sgd(0.1), got {value!r}"
        )


def check_model(field: str, value: Any) -> None:
    """Raises ValueError unless the value is a Flax Linen module."""
    if not isinstance(value, nn.Module):
        raise ValueError(f"{field} must be a Flax Linen module such as MyNet(10), got {value!r}")


def _part(section: str, value: Any, *, name: str = "given", **settings: str) -> Part:
    return Part(section, name, lambda: value, {}, {"name": name, **settings})
