"""From a section of the config to the arguments of the constructor that its name stands for."""

import contextlib
import dataclasses
import functools
import inspect
import numbers
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vasso_jax import optim
from vasso_jax.names import check_choice, did_you_mean, is_own, lookup
from vasso_jax.own_code import own_code
from vasso_jax.train.config.descriptions import describe

_DTYPES = ("float32", "bfloat16", "float64")
# Of networks: images and metrics are float32, whatever JAX has enabled.
_NETWORK_DTYPES = _DTYPES[:2]
_MASKS = {"matrices": optim.matrices, "normalization": optim.normalization}
_NUMBERS = (float, int, "float", "int")
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclasses.dataclass(frozen=True)
class Part:
    """A constructor with the arguments that its section of the config gives it.

    Attributes:
        section: name of the section.
        name: what was chosen there; None for a section with one constructor.
        constructor: what that stands for.
        arguments: all of its arguments but those that the run supplies, as objects.
        settings: the section completed by the constructor's defaults, fit for JSON.
        supplied: names of the arguments that the run supplies.
    """

    section: str
    name: str | None
    constructor: Callable[..., Any]
    arguments: Mapping[str, Any]
    settings: Mapping[str, Any]
    supplied: Collection[str] = ()

    def __call__(self, *supplied: Any, **named: Any) -> Any:
        """What the constructor makes of its arguments and those that the run supplies.

        Args:
            supplied: in the order of `self.supplied`.
            named: further ones, which come before those of the config.

        Raises:
            ValueError: an argument is out of range, or the constructor cannot be called so.
        """
        arguments = {**self.arguments, **named}
        given = [*list(self.supplied)[: len(supplied)], *(f"{name}=..." for name in arguments)]
        call = f"{self.section}({', '.join(given)})"
        try:
            inspect.signature(self.constructor).bind(*supplied, **arguments)
        except TypeError as error:
            signature = plain_signature(self.constructor)
            raise ValueError(
                f"{self.title} cannot be called as {call}: {error}; its signature is {signature}"
            ) from error
        own = own_code("it cannot be made", call, (ValueError,))
        try:
            with own if is_own(self.name or "") else contextlib.nullcontext():
                return self.constructor(*supplied, **arguments)
        except ValueError as error:
            raise ValueError(f"{self.title}: {error}" if self.section else str(error)) from error

    @property
    def title(self) -> str:
        """The section and what was chosen there, for messages."""
        return f"{self.section} {self.name}" if self.name else self.section

    def value(self, field: str, default: Any = None) -> Any:
        """An argument as given, else the constructor's default, else `default`."""
        return self.arguments.get(field, self.settings.get(field, default))


def bind(
    section: str,
    name: str | None,
    constructor: Callable[..., Any],
    fields: Mapping[str, Any],
    *,
    supplied: Collection[str] = (),
    others: Mapping[str, Callable[..., Any]] | None = None,
) -> Part:
    """Checks the fields of a section against the arguments of its constructor.

    Args:
        section: name of the section; empty for the fields outside of the sections.
        name: what was chosen in the section, if it has a name.
        constructor: what that stands for.
        fields: of the section, without the name.
        supplied: arguments that the run gives, which therefore cannot be fields.
        others: what else could have been chosen, for the message on a field of one of these.

    Raises:
        ValueError: the constructor has no such argument, a value has another type, or an argument
            without a default is missing.
    """
    parameters = arguments_of(constructor, supplied)
    if "name" in parameters:
        raise ValueError(
            f"{section} {name} needs an argument called name, which cannot be set, as that is the "
            "field of the section that picks it: call the argument otherwise"
        )
    fields = {k: v for k, v in fields.items() if v is not None or k in parameters}
    for field in fields:
        if field in supplied:
            raise ValueError(f"{section}.{field} cannot be set: the run supplies it")
    if not takes_any(constructor):
        for field in fields:
            if field not in parameters:
                message = _no_such_field(section, name, field, list(parameters))
                raise ValueError(message + _of_others(section, name, field, others or {}))
    arguments: dict[str, Any] = {}
    settings: dict[str, Any] = {} if name is None else {"name": name}
    for field, parameter in parameters.items():
        where = f"{section}.{field}" if section else field
        value, default = fields.get(field), parameter.default
        if value is not None:
            named = _named(where, section, field, value, parameter)
            arguments[field] = _converted(where, named, parameter, own=is_own(name or ""))
            settings[field] = value if isinstance(value, str) else _as_json(arguments[field])
        elif field in fields and default not in (None, inspect.Parameter.empty):
            raise ValueError(f"{where} cannot be None: leave it out for its default, {default!r}")
        elif default is inspect.Parameter.empty:
            what = f"{section} {name}" if name else section
            raise ValueError(f"{what} needs {field}: give --config.{section}.{field}=...")
        else:
            settings[field] = _as_json(default)
    for field in fields.keys() - parameters.keys():  # of a constructor that takes any
        arguments[field] = fields[field]
        settings[field] = _as_json(fields[field])
    return Part(section, name, constructor, arguments, settings, supplied)


def arguments_of(
    constructor: Callable[..., Any], supplied: Collection[str]
) -> dict[str, inspect.Parameter]:
    """The arguments that can be fields of a section.

    Those that the run supplies and those that a `functools.partial` has fixed are left out, and one
    called `name`, the field that picks the constructor, if it has a default.
    """
    fixed = constructor.keywords if isinstance(constructor, functools.partial) else {}
    return {
        parameter.name: parameter
        for parameter in inspect.signature(constructor).parameters.values()
        if parameter.kind not in _VARIADIC
        and parameter.name not in supplied
        and parameter.name not in fixed
        and (parameter.name != "name" or parameter.default is parameter.empty)
    }


def takes_any(constructor: Callable[..., Any]) -> bool:
    """Whether any name can be an argument."""
    kinds = [p.kind for p in inspect.signature(constructor).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD in kinds


def plain_signature(constructor: Callable[..., Any]) -> str:
    """The signature without types."""
    signature, empty = inspect.signature(constructor), inspect.Parameter.empty
    bare = [p.replace(annotation=empty) for p in signature.parameters.values()]
    return str(inspect.Signature(bare))


def _no_such_field(section: str, name: str | None, field: str, known: list[str]) -> str:
    has = f"It has {', '.join(known)}" if known else "It has no further fields"
    what = f"{section} {name}" if name else section
    where = ".".join(filter(None, ("--config", section, field)))
    hint = did_you_mean(field, known)
    return f"{what or 'the config'} has no {field} (set in the config, or by {where}).{hint} {has}."


def _of_others(
    section: str, name: str | None, field: str, others: Mapping[str, Callable[..., Any]]
) -> str:
    """Who has the field, and how to choose; nothing if the name is the user's own."""
    if name not in others:
        return ""
    having = [other for other in others if field in inspect.signature(others[other]).parameters]
    if not having:
        return ""
    verb = "have" if len(having) > 1 else "has"
    return (
        f" {', '.join(having)} {verb} it. In the configs that come with the package, "
        f"--config=FILE.py:{name} sets only fields of {name}."
    )


def _named(where: str, section: str, field: str, value: Any, parameter: inspect.Parameter) -> Any:
    """What the name of a dtype or a mask stands for; any other value as it is."""
    if isinstance(parameter.default, str):  # it does take a name
        return value
    if section in ("method", "base", "model") and field.endswith("dtype") and value is not None:
        return _dtype(where, value, _NETWORK_DTYPES if section == "model" else _DTYPES)
    if section in ("method", "base") and field in ("mask", "adapt"):
        if isinstance(value, str):
            return lookup(where, value, _MASKS)
        if isinstance(value, int | float) and not isinstance(value, bool):
            raise ValueError(
                f"{where} must be a name ({', '.join(_MASKS)}), a function of the parameters or a "
                f"pytree of booleans, got {value!r}"
            )
    return value


def _dtype(where: str, value: Any, known: Sequence[str]) -> Any:
    if isinstance(value, str):
        check_choice(where, value, known)
    try:
        dtype = jnp.dtype(value)
    except TypeError as error:
        raise ValueError(f"{where} must be one of {', '.join(known)}, got {value!r}") from error
    if dtype == jnp.float64 and dtype.name not in known:
        raise ValueError(f"{where} must be one of {', '.join(known)}, got {dtype.name}")
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(f"{where}={dtype.name} has no effect without JAX_ENABLE_X64=1 set")
    return dtype


def _type_of(parameter: inspect.Parameter) -> Any:
    """What its default is, or, if it has none, its annotation says; None: any type will do."""
    if parameter.default not in (None, inspect.Parameter.empty):
        return type(parameter.default)
    return parameter.annotation


def _converted(where: str, value: Any, parameter: inspect.Parameter, *, own: bool) -> Any:
    """The value, checked to be of the type that the parameter has.

    Numbers must be such as can be computed with: within 64 bits, and finite in float32; unless the
    constructor is the user's `own`, which may give others a meaning.
    """
    wanted = _type_of(parameter)
    if isinstance(value, numbers.Real) and not own:
        _checked(where, value, _fits_float32(value), "a finite number that float32 can hold")
    if callable(value) and wanted in (float, int) and parameter.annotation not in _NUMBERS:
        return value  # a schedule
    is_bool = isinstance(value, bool)
    if wanted is bool:
        return _checked(where, value, is_bool, "True or False")
    if wanted is int:
        whole = isinstance(value, numbers.Integral) and not is_bool
        number = int(_checked(where, value, whole, "an integer"))
        return _checked(where, number, own or abs(number) < 2**63, "an integer of 64 bits")
    if wanted is float:
        number = isinstance(value, numbers.Real) and not is_bool
        return float(_checked(where, value, number, "a number"))
    if wanted is str:
        return _checked(where, value, isinstance(value, str), "a string")
    if wanted is tuple:
        return tuple(_checked(where, value, isinstance(value, list | tuple), "a sequence"))
    return value


def _fits_float32(number: numbers.Real) -> bool:
    try:
        return abs(float(number)) < 2.0**128
    except OverflowError:
        return False


def _checked(where: str, value: Any, fits: bool, wanted: str) -> Any:
    if not fits:
        raise ValueError(f"{where} must be {wanted}, got {reprlib.repr(value)}")
    return value


def _as_json(value: Any) -> Any:
    """The value of a field as config.json holds it; objects are described by a text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _as_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(map(_as_json, value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.dtype | type):
        try:
            return jnp.dtype(value).name
        except TypeError:
            pass  # another class
    return describe(value)
