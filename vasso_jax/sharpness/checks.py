"""Checks of arguments, each with one message that says what to do."""

import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from vasso_jax.sharpness import trees
from vasso_jax.sharpness.objective import Params
from vasso_jax.sharpness.tracing import check_not_traced

Positions = Sequence[float] | np.ndarray


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raises ValueError unless `value` is an integer that is not too small."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def check_positive(
    name: str, value: float, *, below: float = math.inf, or_zero: bool = False
) -> None:
    """Raises ValueError unless `value` is a positive number, or 0 where that will do."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not (0 < value < below or (or_zero and value == 0)):
        wanted = "a number of at least 0" if or_zero else "a positive number"
        limit = f" below {below:g}" if below < math.inf else ""
        raise ValueError(f"{name} must be {wanted}{limit}, got {value!r}")


def check_flags(**flags: bool) -> None:
    """Raises ValueError unless all are bools; the string "no" would count as yes."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}")


def positions(name: str, values: Positions) -> np.ndarray:
    """The values as float64 [X].

    Raises:
        ValueError: there are none, or one is no number or not finite.
    """
    check_not_traced(values)
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        found = np.array([])
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise ValueError(f"{name} must be a list of finite numbers, at least one, got {values!r}")
    return found


def several(name: str, trees: Any, number: int) -> Any:
    """The trees as a tuple.

    Raises:
        ValueError: there are not so many.
    """
    is_list = isinstance(trees, list | tuple)
    if not is_list or len(trees) != number:
        found = len(trees) if is_list else f"a {type(trees).__name__}"
        raise ValueError(f"{name} must be a tuple of {number} trees like params, got {found}")
    return tuple(trees)


def check_like(tree: Params, params: Params, what: str) -> None:
    """Raises ValueError unless a tree is finite, with the structure and shapes of another."""
    check_not_traced(tree)
    structures = jax.tree.structure(tree), jax.tree.structure(params)
    if structures[0] != structures[1]:
        raise ValueError(
            f"{what} must have the structure of the parameters, {structures[1]}, "
            f"not {structures[0]}"
        )
    shapes = [[np.shape(x) for x in jax.tree.leaves(t)] for t in (tree, params)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{what} must have the shapes of the parameters, {shapes[1]}, not {shapes[0]}"
        )
    if not trees.all_finite(tree):
        raise ValueError(f"{what} must be finite, but has a NaN or an infinity")
