"""Names in a config: one of a list, `pkg.module:Name` for the user's own object, and paths."""

import difflib
import importlib
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from vasso_jax.own_code import what_and_where


def check_choice(field: str, value: str, known: Sequence[str], more: str = "") -> None:
    """Raises ValueError unless `value` is one of `known`.

    Args:
        field: what is being chosen, as the user calls it.
        value: the choice.
        known: all that can be chosen; `more` describes in words what else can.
    """
    if value not in known:
        hint = did_you_mean(value, known)
        raise ValueError(f"there is no {field} {value!r}.{hint} Known: {', '.join(known)}{more}.")


def did_you_mean(value: object, known: Sequence[str]) -> str:
    """A sentence with the known name nearest to `value`, or nothing."""
    near = difflib.get_close_matches(str(value), known, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def is_own(name: str, field: str = "a name") -> bool:
    """Whether `name` has the form `pkg.module:Name`.

    Args:
        name: what was chosen.
        field: where, as the user calls it.

    Raises:
        ValueError: it is no text.
    """
    if not isinstance(name, str):
        raise ValueError(f"{field} must be text, got {name!r}")
    return ":" in name


def lookup(field: str, name: str, known: Mapping[str, Any]) -> Any:
    """The object that `name` stands for: one of `known`, or that at `pkg.module:Name`.

    Raises:
        ValueError: there is none, or its module cannot be imported; the message says why.
    """
    if is_own(name, f"{field}.name"):
        return import_object(field, name)
    check_choice(field, name, tuple(known), ", and your own as pkg.module:Name")
    return known[name]


def import_object(field: str, name: str) -> Any:
    """The function or class `Name` of the module in `pkg.module:Name`.

    Raises:
        ValueError: there is no such module or object, the module cannot be imported, or the object
            cannot be called.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    # The module is the user's code, and may raise anything, or end the process.
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            reason = (
                f"there is no module {missing}; it must be installed, or lie in the current folder"
            )
        else:
            reason = f"{module_name} cannot be imported: {what_and_where(error)}"
        raise ValueError(f"{field} {name!r}: {reason}") from error
    try:
        found = getattr(module, attribute)
    except AttributeError as error:
        hint = did_you_mean(attribute, [key for key in vars(module) if not key.startswith("_")])
        raise ValueError(f"{field} {name!r}: {module_name} has no {attribute!r}.{hint}") from error
    if not callable(found):
        raise ValueError(f"{field} {name!r} is no function or class, but {found!r}")
    return found


def expanded(path: str | os.PathLike[str]) -> pathlib.Path:
    """The path, with ~ or ~user at its beginning replaced by that home folder.

    Raises:
        ValueError: there is no such user.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{path} begins with the home folder of a user that there is not: give another path, "
            "or write ./~ for a folder of that name"
        ) from error
