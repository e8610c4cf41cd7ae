"""What each section of the config stands for. Nothing else reads the config."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import optax

from vasso_jax import data, models, optim
from vasso_jax.data import sources
from vasso_jax.names import lookup
from vasso_jax.train.config import SECTIONS, Config, RunOptions
from vasso_jax.train.optimizer import BASES, METHODS
from vasso_jax.train.schedules import SCHEDULES
from vasso_jax.train.sections import Part, bind

# Arguments that the run supplies, by section, and that therefore are no fields of it.
SUPPLIED = {
    "method": ("microbatches",),
    "rho_schedule": ("learning_rate", "rho_max", "lr_max", "lr_min"),
    "schedule": ("lr", "epochs", "steps_per_epoch"),
    "model": ("num_classes", "parent", "name"),
}
# Empty, these mean that there is no such thing.
OPTIONAL = ("label_noise", "rho_schedule")


def bind_config(config: Config) -> dict[str, Part]:
    """Each section of the config bound to its constructor; "" has the fields outside of them.

    Raises:
        ValueError: a field does not exist, or its value has another type.
    """
    fields = config.to_dict()
    sections = {name: _given_in(fields.pop(name, None)) for name in SECTIONS}
    names: dict[str, Any] = {
        section: default and sections[section].pop("name", default)
        for section, default in SECTIONS.items()
    }
    method = lookup("method", names["method"], METHODS)
    constructors: dict[str, Callable[..., Any]] = {
        "method": method,
        "rho_schedule": optim.rho_tied_to_lr,
        "base": _taking_lr(lookup("base", names["base"], BASES)),
        "schedule": lookup("schedule", names["schedule"], SCHEDULES),
        "model": models.constructor(names["model"]),
        "data": sources.constructor(names["data"]),
        "label_noise": data.LabelNoise,
        "augment": data.Augmentation,
    }
    supplied = {**SUPPLIED, "method": _supplied_to_method(method, sections["method"])}
    parts = {"": bind("", None, RunOptions, fields)}
    for section, constructor in constructors.items():
        of_run = supplied.get(section, ())
        if section in OPTIONAL and not sections[section]:
            parts[section] = Part(section, None, constructor, {}, {}, of_run)
            continue
        others = METHODS if section == "method" else {}
        parts[section] = bind(
            *(section, names[section], constructor, sections[section]),
            supplied=of_run,
            others=others,
        )
    if parts["rho_schedule"].settings and "rho" not in parts["method"].settings:
        raise ValueError(f"rho_schedule has no effect: method {names['method']} has no rho")
    return parts


def _given_in(section: Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields of a section that have a value."""
    return {field: value for field, value in (section or {}).items() if value is not None}


def _supplied_to_method(method: Callable[..., Any], fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The base comes first; a method that draws something gets the run's seed, unless it is set."""
    if fields.get("microbatches") is not None:
        raise ValueError("method.microbatches has no effect: the trainer takes each batch whole")
    first, *others = inspect.signature(method).parameters
    seed = ("seed",) if "seed" in others and fields.get("seed") is None else ()
    return (first, *SUPPLIED["method"], *seed)


def _taking_lr(constructor: Callable[..., Any]) -> Callable[..., Any]:
    """A base whose first argument, whatever its name, is called lr."""
    signature = inspect.signature(constructor)
    first, *others = signature.parameters.values()

    def make(lr: optax.ScalarOrSchedule, **fields: Any) -> optax.GradientTransformation:
        return constructor(lr, **fields)

    make.__signature__ = signature.replace(  # pyright: ignore[reportFunctionMemberAccess]
        parameters=[first.replace(name="lr"), *others]
    )
    make.__doc__ = constructor.__doc__
    return make


def make_optimizer(
    parts: Mapping[str, Part], options: RunOptions, steps_per_epoch: int
) -> tuple[optax.Schedule, optax.GradientTransformation]:
    """The learning rate, and the method around its base.

    Raises:
        ValueError: an argument is out of range.
    """
    lr = parts["base"].value("lr")
    if callable(lr):
        raise ValueError("base.lr must be a number: the section schedule says how it changes")
    schedule = parts["schedule"](lr, options.epochs, steps_per_epoch)
    base = parts["base"].constructor(**{**parts["base"].arguments, "lr": schedule})
    method, named = parts["method"], {}
    if "seed" in inspect.signature(method.constructor).parameters:
        named["seed"] = method.value("seed", options.seed)
    if parts["rho_schedule"].settings:
        rho = method.value("rho")
        if not isinstance(rho, int | float):
            raise ValueError(
                "rho_schedule needs a number as method.rho, its largest value, and that is "
                f"{rho!r}: leave out one of the two"
            )
        named["rho"] = parts["rho_schedule"](
            schedule,
            rho_max=rho,
            lr_max=lr,
            lr_min=parts["schedule"].value("final_lr", 0.0),
        )
    return schedule, method.constructor(base, **{**method.arguments, **named})


def make_model(part: Part, num_classes: int) -> nn.Module:
    """The network, told the number of classes if it wants to know.

    Raises:
        ValueError: it is no Flax Linen module.
    """
    wanted = "num_classes" in inspect.signature(part.constructor).parameters
    model = part(num_classes=num_classes) if wanted else part()
    if not isinstance(model, nn.Module):
        raise ValueError(f"{part.name} must be a Flax Linen module, or return one, got {model!r}")
    return model
