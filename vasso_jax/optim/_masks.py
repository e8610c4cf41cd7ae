# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Masks: which parameters are perturbed."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vasso_jax.optim._typed import tree_map, tree_util

# As in `optax.masked`: a pytree of bools with the structure of the parameters (or a prefix of it),
# or a function that makes one from such a pytree.
Mask = Any | Callable[[Any], Any]

_NORMALIZATION = re.compile(r"(^|_)([a-z]*norm|bn)\d*(_|$)")


def check_mask(name: str, mask: Mask | None) -> None:
    """Raises ValueError if `mask` is a single value, as of a function taken for a schedule."""
    if isinstance(mask, bool | jax.Array):
        raise ValueError(
            f"{name} must be a pytree of bools or a function that returns one, got {mask!r}; under "
            f"optax.inject_hyperparams, name it in static_args=({name!r},)"
        )


def matrices(params: optax.Params) -> Any:
    """A mask that leaves out biases and normalisation parameters: all leaves with at most one axis.

    `vasso(base, mask=matrices)` then perturbs the other weights only. It also works as the mask of
    `optax.add_decayed_weights`. Layers that are stacked for `jax.lax.scan` have one more axis, so
    for these write a mask of your own.

    Args:
        params: any pytree of arrays.

    Returns:
        A pytree of bools with the structure of `params`: True for leaves with two axes or more.

    Example:
        >>> import jax.numpy as jnp
        >>> from vasso_jax.optim import matrices
        >>> matrices({"kernel": jnp.zeros((3, 3, 1, 8)), "bias": jnp.zeros(8)})
        {'bias': False, 'kernel': True}
    """
    return tree_map(lambda leaf: jnp.ndim(leaf) > 1, params)


def normalization(params: optax.Params) -> Any:
    """A mask of the normalisation layers (SAM-ON), found by their names.

    `asam(base, rho, mask=normalization)` then perturbs their scales and biases only. It is a layer
    of that kind if it has a parameter called `scale`, as in Flax, or if a name on the path to it
    ends in `norm` or is `bn`, with a number or after `_`, in any case of letters: `BatchNorm_0`,
    `layer_norm`, `bn1`, `shortcut_bn`.

    Args:
        params: any pytree of arrays.

    Returns:
        A pytree of bools with the structure of `params`.

    Raises:
        ValueError: there is no such layer.

    References:
        Mueller et al., Normalization Layers Are All That Sharpness-Aware Minimization Needs,
        NeurIPS 2023, https://arxiv.org/abs/2306.04226

    Example:
        >>> import jax.numpy as jnp
        >>> from vasso_jax.optim import normalization
        >>> normalization({"conv": jnp.zeros((3, 3, 1, 8)), "bn1": {"scale": jnp.zeros(8)}})
        {'bn1': {'scale': True}, 'conv': False}
    """

    def names(path: Any) -> list[str]:
        """The parts of a path in lower case, without brackets and quotes."""
        return [re.sub(r"\W", "", tree_util.keystr((key,))).lower() for key in path]

    paths = [names(path) for path, _ in tree_util.tree_leaves_with_path(params)]
    scaled = [path[:-1] for path in paths if path[-1:] == ["scale"]]

    def is_normalization(path: Any, leaf: Any) -> bool:
        del leaf
        own = names(path)
        return own[:-1] in scaled or any(map(_NORMALIZATION.search, own))

    mask = tree_util.tree_map_with_path(is_normalization, params)
    if jax.tree.leaves(params) and not any(jax.tree.leaves(mask)):
        raise ValueError(
            "no parameter belongs to a normalisation layer, by its names (scale, norm, bn): give a "
            "mask of your own"
        )
    return mask


def masked_leaves(mask: Mask | None, tree: Any) -> Any:
    """A pytree of bools with the structure of `tree`: what `mask` says of each leaf.

    Raises:
        ValueError: the mask is neither a prefix of `tree` nor a function that returns one, or what
            it says is not a bool.
    """
    if mask is None:
        return tree_map(lambda leaf: True, tree)
    # A pytree of bools may be callable: an Equinox module is.
    is_function = callable(mask) and not _all_bools(mask)
    wanted: Any = mask(tree) if is_function else mask

    def spread(keep: Any, part: Any) -> Any:
        if type(keep) not in (bool, np.bool_):
            raise ValueError(f"it says {keep!r}")
        return tree_map(lambda leaf: bool(keep), part)

    try:
        return tree_map(spread, wanted, tree)
    except ValueError as error:
        raise ValueError(
            "a mask must be a pytree of bools with the structure of the parameters, or a function "
            f"of them that returns one: {error}"
        ) from error


def _all_bools(tree: Any) -> bool:
    leaves = jax.tree.leaves(tree)
    return bool(leaves) and all(type(leaf) in (bool, np.bool_) for leaf in leaves)


def restricted(tree: Any, mask: Mask | None) -> Any:
    """`tree` with zeros where the mask is False."""
    if mask is None:
        return tree
    keep = masked_leaves(mask, tree)
    return tree_map(lambda kept, leaf: leaf if kept else jnp.zeros_like(leaf), keep, tree)
