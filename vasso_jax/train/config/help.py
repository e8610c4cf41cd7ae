"""The fields of a config, each with its value and one line of meaning, from the code itself."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import docstring_parser

from vasso_jax import data, models, optim
from vasso_jax.data.sources import KINDS
from vasso_jax.train.config import optimizer, schedules
from vasso_jax.train.config.fields import RunOptions
from vasso_jax.train.config.parts import SUPPLIED, bind_config
from vasso_jax.train.config.sections import arguments_of
from vasso_jax.train.config.window import epoch_window

_STYLE = docstring_parser.DocstringStyle.GOOGLE


class Field(NamedTuple):
    """A field of a config.

    Attributes:
        name: with its section, such as `method.rho`.
        value: in this config, or by default.
        meaning: the first sentence on it in the docstring of its constructor; may be empty.
    """

    name: str
    value: Any
    meaning: str


def fields_of(config: Any) -> Iterator[Field]:
    """Every field that the config has, given the names chosen in its sections.

    Raises:
        ValueError: the config has a field that does not exist, or of another type.
    """
    for section, part in bind_config(config).items():
        prefix = f"{section}." if section else ""
        if part.name is not None:
            yield Field(f"{prefix}name", part.name, _summary(part.constructor))
        # What recipes share is described by their package.
        shared = _meanings(optim) if section == "method" else {}
        meanings = shared | _meanings(part.constructor)
        for name in arguments_of(part.constructor, part.supplied):
            value = part.settings.get(name)  # an empty section has none
            yield Field(f"{prefix}{name}", value, meanings.get(name, ""))


def full_names(field: str) -> list[str]:
    """The fields called so in any section, whatever its name: `method.theta` for `theta`."""
    constructors: dict[str, Any] = {
        "method": optimizer.METHODS.values(),
        "rho_schedule": [optim.rho_tied_to_lr],
        "window": [epoch_window],
        "base": optimizer.BASES.values(),
        "schedule": schedules.SCHEDULES.values(),
        "model": models.NETWORKS.values(),
        "data": KINDS,
        "label_noise": [data.LabelNoise],
        "validation": [data.Validation],
        "augment": [data.Augmentation],
    }
    found = [field] if field in {f.name for f in dataclasses.fields(RunOptions)} else []
    for section, candidates in constructors.items():
        supplied = SUPPLIED.get(section, ())
        if any(field in arguments_of(candidate, supplied) for candidate in candidates):
            found.append(f"{section}.{field}")
    return found


def _meanings(documented: Any) -> dict[str, str]:
    """The first sentence on each argument, from the docstring of a function, class or module."""
    if isinstance(documented, functools.partial):
        return _meanings(documented.func)
    classes = documented.__mro__ if inspect.isclass(documented) else [documented]
    meanings: dict[str, str] = {}
    for each in reversed(classes):  # a class may say more than its bases
        doc = docstring_parser.parse(inspect.getdoc(each) or "", _STYLE)
        for entry in doc.params:
            for name in entry.arg_name.split(", "):
                meanings[name] = _resolved(name, _first_sentence(entry.description or ""))
    return meanings


def _resolved(name: str, meaning: str) -> str:
    """What is said of an argument elsewhere, where `meaning` just refers to it."""
    if match := re.match(r"[Ss]ee `([\w.]+)`", meaning):
        if match[1] == optim.__name__:
            return _meanings(optim).get(name, meaning)
        for module in (optim, optimizer):
            if other := getattr(module, match[1], None):
                return _meanings(other).get(name, meaning)
    return meaning


def _summary(constructor: Callable[..., Any]) -> str:
    if isinstance(constructor, functools.partial):
        constructor = constructor.func
    doc = inspect.getdoc(constructor) or ""
    # A dataclass without a docstring of its own, such as a Flax module, is given its signature.
    generated = inspect.isclass(constructor) and doc.startswith(f"{constructor.__name__}(")
    return "" if generated else _first_sentence(doc)


def _first_sentence(text: str) -> str:
    line = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.;]) ", line, maxsplit=1)[0].rstrip(";.")
