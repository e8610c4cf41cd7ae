"""What each section of the config stands for. Nothing else reads the config."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import optax
from ml_collections import ConfigDict

from vasso_jax import data, models, optim
from vasso_jax.data import sources
from vasso_jax.names import lookup
from vasso_jax.train.config.fields import SECTIONS, Config, RunOptions
from vasso_jax.train.config.objects import ARGUMENTS, check_model, check_transform
from vasso_jax.train.config.optimizer import BASES, METHODS, Optimizer, intended_norm
from vasso_jax.train.config.schedules import SCHEDULES
from vasso_jax.train.config.sections import Part, arguments_of, bind, plain_signature, takes_any
from vasso_jax.train.config.window import epoch_window

# Arguments that the run supplies, by section, and that therefore are no fields of it.
SUPPLIED = {
    "method": ("microbatches",),
    "rho_schedule": ("learning_rate", "rho_max", "lr_max", "lr_min"),
    "window": ("epochs", "steps_per_epoch"),
    "schedule": ("lr", "epochs", "steps_per_epoch"),
    "model": ("num_classes", "parent"),
}
# Empty, these mean that there is no such thing.
OPTIONAL = ("label_noise", "validation", "rho_schedule", "window")
# Each ascent step is compiled by itself.
_MOST_ASCENT = 100
# The argument of the method that these sections give.
_ACT_ON = {"rho_schedule": "rho", "window": "active"}


def bind_config(config: Config, given: Mapping[str, Part] | None = None) -> dict[str, Part]:
    """Each section of the config bound to its constructor; "" has the fields outside of them.

    Args:
        config: see `default_config`.
        given: what takes the place of sections; these must have no fields but their names.

    Raises:
        ValueError: a field does not exist, has no effect, or its value has another type.
    """
    fields = _as_dict(config)
    sections = {name: _given_in(fields.pop(name, None)) for name in SECTIONS}
    options = bind("", None, RunOptions, fields)
    names: dict[str, Any] = {
        section: default and sections[section].pop("name", default)
        for section, default in SECTIONS.items()
    }
    parts = {"": options}
    for section in SECTIONS:
        if given and section in given:
            _check_unused(section, sections[section])
            parts[section] = given[section]
        else:
            parts[section] = _bind(section, names[section], sections[section], options)
    for section, argument in _ACT_ON.items():
        if parts[section].settings and argument not in parts["method"].settings:
            raise ValueError(f"{section} has no effect: method {names['method']} has no {argument}")
    return parts


def has_field(config: Config, name: str) -> bool:
    """Whether what the config chose in a section has an argument of this name.

    Args:
        config: see `default_config`; nothing but the names chosen in its sections is looked at.
        name: of the field, such as `method.rho`.

    Returns:
        True also for fields outside of the sections, and for names of sections.

    Raises:
        ValueError: what was chosen does not exist.
    """
    section, _, field = name.rpartition(".")
    if section not in _FIND or field == "name":
        return True
    if section in _ACT_ON and not has_field(config, f"method.{_ACT_ON[section]}"):
        return False
    chosen = (_as_dict(config)[section] or {}).get("name", SECTIONS[section])
    constructor = _FIND[section](chosen)
    return takes_any(constructor) or field in arguments_of(constructor, ())


def _as_dict(config: Config) -> dict[str, Any]:
    if not isinstance(config, ConfigDict):
        raise ValueError(
            "config must be a ConfigDict that began as vasso_jax.train.default_config(), got "
            f"{type(config).__name__}"
        )
    return config.to_dict()


def _given_in(section: Any) -> dict[str, Any]:
    """The fields of a section; none if all are None."""
    fields = dict(section or {})
    return fields if any(value is not None for value in fields.values()) else {}


def _check_unused(section: str, fields: Mapping[str, Any]) -> None:
    if fields:
        names = ", ".join(f"{section}.{field}" for field in fields)
        raise ValueError(
            f"{names} would have no effect, as {ARGUMENTS[section]} takes the place of the section "
            f"{section}: empty it by config.{section} = {{}}, or leave {ARGUMENTS[section]} out"
        )


def _bind(section: str, name: Any, fields: dict[str, Any], options: Part) -> Part:
    constructor = _FIND[section](name)
    supplied = SUPPLIED.get(section, ())
    if section in OPTIONAL and not fields:
        return Part(section, None, constructor, {}, {}, supplied)
    if section == "method":
        base, *others = _arguments(section, name, constructor)
        supplied = (base, *supplied, *_wanted_rate(constructor))
        if fields.get("microbatches") is not None:
            raise ValueError(
                "method.microbatches cannot be set: the trainer gives the method each batch whole; "
                "to save memory, set the run's own option, --config.microbatches"
            )
        if _needs(constructor, "microbatches"):
            raise ValueError(
                f"method {name} needs the argument microbatches, but the trainer gives it each "
                "batch whole: give it a default"
            )
        if "seed" in others and fields.get("seed") is None:
            fields["seed"] = options.value("seed")
    others = METHODS if section == "method" else {}
    return bind(section, name, constructor, fields, supplied=supplied, others=others)


def _arguments(section: str, name: str, constructor: Callable[..., Any]) -> list[str]:
    """The names of all arguments; the first is for what the run supplies, the others are fields."""
    parameters = inspect.signature(constructor).parameters
    kinds = [parameter.kind for parameter in parameters.values()]
    by_position = inspect.Parameter.POSITIONAL_ONLY
    if not kinds or kinds[0] not in (by_position, inspect.Parameter.POSITIONAL_OR_KEYWORD):
        what = {"method": "the base optimizer", "base": "the learning rate"}[section]
        raise ValueError(
            f"{section} {name} must take {what} as its first argument, by position; its signature "
            f"is {plain_signature(constructor)}"
        )
    if by_position in kinds[1:]:
        raise ValueError(
            f"{section} {name} must take all arguments but the first by name; its signature is "
            f"{plain_signature(constructor)}"
        )
    return list(parameters)


def _wanted_rate(constructor: Callable[..., Any]) -> tuple[str, ...]:
    """`learning_rate`, if a method of ours wants to know the schedule of its base."""
    wanted = constructor in METHODS.values() and (
        "learning_rate" in inspect.signature(constructor).parameters
    )
    return ("learning_rate",) if wanted else ()


def _needs(constructor: Callable[..., Any], argument: str) -> bool:
    found = inspect.signature(constructor).parameters.get(argument)
    return found is not None and found.default is found.empty


def _base(name: str) -> Callable[..., Any]:
    """A base whose first argument, whatever its name, is called lr."""
    constructor = lookup("base", name, BASES)
    first = _arguments("base", name, constructor)[0]
    parameters = inspect.signature(constructor).parameters

    def make(lr: optax.ScalarOrSchedule, **fields: Any) -> optax.GradientTransformation:
        return constructor(lr, **fields)

    # make() takes it by name, even if the constructor takes it by position only.
    lr = parameters[first].replace(name="lr", kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
    renamed = [lr, *(p for key, p in parameters.items() if key != first)]
    make.__signature__ = inspect.Signature(renamed)  # pyright: ignore[reportFunctionMemberAccess]
    make.__doc__ = constructor.__doc__
    return make


# What finds the constructor that the name of a section stands for.
_FIND: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "method": partial(lookup, "method", known=METHODS),
    "rho_schedule": lambda name: optim.rho_tied_to_lr,
    "window": lambda name: epoch_window,
    "base": _base,
    "schedule": partial(lookup, "schedule", known=SCHEDULES),
    "model": models.constructor,
    "data": sources.constructor,
    "label_noise": lambda name: data.LabelNoise,
    "validation": lambda name: data.Validation,
    "augment": lambda name: data.Augmentation,
}


def make_optimizer(
    parts: Mapping[str, Part], options: RunOptions, steps_per_epoch: int
) -> Optimizer:
    """The method around its base.

    Raises:
        ValueError: an argument is out of range, or what was made is no optax transform.
    """
    lr = parts["base"].value("lr")
    if callable(lr):
        raise ValueError("base.lr must be a number: the section schedule says how it changes")
    schedule = parts["schedule"](lr, options.epochs, steps_per_epoch)
    base = parts["base"](lr=schedule)
    check_transform(f"what {parts['base'].title} returns", base)
    tied: dict[str, Any] = {}
    if "learning_rate" in parts["method"].supplied:
        tied["learning_rate"] = schedule
    if parts["rho_schedule"].settings:
        tied["rho"] = _rho_tied_to(schedule, lr, parts)
    if parts["window"].settings:
        if parts["method"].value("active") is not None:
            raise ValueError("the section window and method.active say the same: leave one out")
        tied["active"] = parts["window"](options.epochs, steps_per_epoch)
    if parts["method"].value("decoupled") and parts["base"].value("clip_norm"):
        raise ValueError(
            "base.clip_norm does not reach the decoupled sharpness of wsam: leave it out, or set "
            "method.decoupled=False"
        )
    _check_ascent(parts["method"])
    tx = parts["method"](base, **tied)
    check_transform(f"what {parts['method'].title} returns", tx)
    rho = tied.get("rho", parts["method"].value("rho"))
    ascent_steps = parts["method"].value("ascent_steps")
    return Optimizer(tx, schedule, intended_norm(str(parts["method"].name), rho, ascent_steps))


def _check_ascent(method: Part) -> None:
    steps = method.value("ascent_steps")
    if method.constructor in METHODS.values() and isinstance(steps, int) and steps > _MOST_ASCENT:
        raise ValueError(
            f"method.ascent_steps={steps} are so many gradients in each training step: give at "
            f"most {_MOST_ASCENT}"
        )


def _rho_tied_to(schedule: optax.Schedule, lr: float, parts: Mapping[str, Part]) -> optax.Schedule:
    rho = parts["method"].value("rho")
    if not isinstance(rho, int | float):
        raise ValueError(
            "rho_schedule needs a number as method.rho, its largest value, and that is "
            f"{rho!r}: leave out one of the two"
        )
    if parts["schedule"].name == "constant" and not parts["schedule"].value("warmup_epochs"):
        raise ValueError(
            "rho_schedule has no effect with a constant learning rate: leave it out, or choose "
            "another schedule"
        )
    rho_min, lr_min = parts["rho_schedule"].value("rho_min"), parts["schedule"].value("final_lr", 0)
    if callable(rho_min):
        raise ValueError("rho_schedule.rho_min must be a number")
    if rho_min > rho:
        raise ValueError(f"rho_schedule.rho_min={rho_min:g} must not exceed method.rho={rho:g}")
    if rho_min == rho:
        raise ValueError(
            f"rho_schedule has no effect: rho_schedule.rho_min and method.rho are both {rho:g}"
        )
    if lr_min == lr:
        raise ValueError(
            f"rho_schedule has no effect: schedule.final_lr and base.lr are both {lr:g}"
        )
    return parts["rho_schedule"](schedule, rho_max=rho, lr_max=lr, lr_min=lr_min)


def bind_section(section: str, fields: Mapping[str, Any]) -> Part:
    """A section of a run's config.json, such as `model` or `data`, bound to its constructor.

    Not for the section `method`, which needs others.

    Raises:
        ValueError: there is nothing of this name, or it cannot be made of these fields.
    """
    name = fields.get("name")
    others = {field: value for field, value in fields.items() if field != "name"}
    supplied = SUPPLIED.get(section, ())
    return bind(section, name, _FIND[section](name), others, supplied=supplied)


def make_model(part: Part, num_classes: int) -> nn.Module:
    """The network, told the number of classes if it wants to know.

    Raises:
        ValueError: it is no Flax Linen module.
    """
    wanted = "num_classes" in inspect.signature(part.constructor).parameters
    model = part(num_classes=num_classes) if wanted else part()
    check_model(f"what model {part.name} returns", model)
    return model
