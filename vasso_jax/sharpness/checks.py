"""Checks of arguments, each with one message that says what to do."""

from collections.abc import Sequence

import jax
import numpy as np

from vasso_jax.sharpness import trees
from vasso_jax.sharpness.objective import Params

Positions = Sequence[float] | np.ndarray


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raises ValueError unless `value` is an integer that is not too small."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def check_flags(**flags: bool) -> None:
    """Raises ValueError unless all are bools; the string "no" would count as yes."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, got {value!r}")


def positions(name: str, values: Positions) -> np.ndarray:
    """The values as float64 [X].

    Raises:
        ValueError: there are none, or one is not finite.
    """
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise ValueError(f"{name} must be a list of finite numbers, at least one, got {values!r}")
    return found


def check_like(tree: Params, params: Params, what: str) -> None:
    """Raises ValueError unless a tree is finite, with the structure and shapes of another."""
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
