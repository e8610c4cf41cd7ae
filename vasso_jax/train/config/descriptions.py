"""Texts that tell two Python objects apart, for the settings that a run records."""

import dataclasses
import functools
import hashlib
import re
import types
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_LONGEST = 200
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def describe(value: Any) -> str:
    """A text that is the same in every process for what is made alike, and differs otherwise.

    Functions are known by their names and by what they were made with: variables that they close
    over, defaults, arguments of a partial and, for a lambda, the constants and names in it. So
    `optax.linear_schedule(0, 1, 10)` differs from `optax.linear_schedule(0, 2, 10)`, and
    `optax.adam(1e-3)` from `optax.adam(1e-2)`. The code of functions with names is not compared.

    Args:
        value: any object: a function, an optax transform, a Flax module, an array, ...

    Returns:
        At most 200 characters: the end of a longer text is replaced by its checksum.
    """
    text = _Describer().text(value)
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 17]}... #{hashlib.sha256(text.encode()).hexdigest()[:12]}"


class _Describer:
    """Writes each function and object once and refers to it after that, so that circles end."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, Any]] = {}  # holds the objects, so that ids stay theirs

    def text(self, value: Any) -> str:
        if isinstance(value, _PLAIN):
            return repr(value)
        if isinstance(value, jax.Array | np.ndarray | np.generic):
            return self._of_array(value)
        if isinstance(value, Mapping):
            return f"{{{self._named(value.items())}}}"
        if isinstance(value, tuple | list):
            fields = getattr(value, "_fields", None)  # of a named tuple, as optax's transforms are
            if fields:
                return f"{type(value).__name__}({self._named(zip(fields, value, strict=True))})"
            return f"({', '.join(map(self.text, value))})"
        if isinstance(value, set | frozenset):
            return f"{{{', '.join(sorted(map(self.text, value)))}}}"
        if isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
            return _name(value)
        if id(value) in self._seen:
            return f"<{self._seen[id(value)][0]}>"
        self._seen[id(value)] = (len(self._seen), value)
        return self._of_object(value)

    def _of_array(self, value: Any) -> str:
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return f"key({value.dtype}, {self.text(jax.random.key_data(value))})"
        array = np.asarray(value)
        if array.dtype == object:
            return f"array({self.text(array.tolist())})"
        if not array.ndim:
            return repr(array.item())
        checksum = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]
        return f"{array.dtype.name}{list(array.shape)}#{checksum}"

    def _of_object(self, value: Any) -> str:
        if isinstance(value, types.FunctionType):
            return f"{_name(value)}({self._named(_made_with(value))})"
        if isinstance(value, types.MethodType):
            return f"{self.text(value.__self__)}.{value.__func__.__name__}"
        if isinstance(value, functools.partial):
            named = self._named([("", value.args), *value.keywords.items()])
            return f"partial({self.text(value.func)}, {named})"
        if hasattr(value, "__wrapped__"):  # jax.jit and the like
            return f"{type(value).__name__}({self.text(value.__wrapped__)})"
        if dataclasses.is_dataclass(value):
            return f"{_name(type(value))}({self._named(_set_fields(value))})"
        if attributes := _attributes(value):
            return f"{_name(type(value))}({self._named(attributes)})"
        return re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(repr(value).split()))

    def _named(self, items: Iterable[tuple[Any, Any]]) -> str:
        return ", ".join(f"{name}={self.text(value)}" for name, value in items)


def _name(value: Any) -> str:
    return (
        f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__module__") else repr(value)
    )


def _made_with(function: types.FunctionType) -> list[tuple[str, Any]]:
    code = function.__code__
    found: list[tuple[str, Any]] = []
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            found.append((name, cell.cell_contents))
        except ValueError:  # a variable that has no value yet
            found.append((name, None))
    if any(default is not None for default in function.__defaults__ or ()):
        found.append(("defaults", function.__defaults__))
    if function.__kwdefaults__:
        found.append(("keyword defaults", function.__kwdefaults__))
    if function.__name__ == "<lambda>":
        found.append(("code", _constants_and_names(code)))
    return found


def _set_fields(value: Any) -> list[tuple[str, Any]]:
    """The fields of a dataclass that are not at their defaults."""
    fields = [
        (f.name, getattr(value, f.name), f.default) for f in dataclasses.fields(value) if f.repr
    ]
    return [(name, found) for name, found, default in fields if found is not default]


def _constants_and_names(code: types.CodeType) -> tuple[Any, ...]:
    """Those of a function and of the functions inside it."""
    inner = (
        _constants_and_names(c) if isinstance(c, types.CodeType) else c for c in code.co_consts
    )
    return (*inner, *code.co_names)


def _attributes(value: Any) -> list[tuple[str, Any]]:
    slots = [name for each in type(value).__mro__ for name in getattr(each, "__slots__", ())]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return list({**found, **getattr(value, "__dict__", {})}.items())
