# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Gradient clipping with few kernels."""

from typing import Any

import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import check_range
from vasso_jax.optim._numerics import global_norm, scale


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformation:
    """Scales the updates down so that their norm over all parameters is at most `max_norm`.

        u <- u min(1, max_norm / ||u||)

    As `optax.clip_by_global_norm`, but the norm is one sum over all arrays: on a GPU, optax's takes
    one or two kernels for each of them. If one of the updates is NaN, all become NaN; if one is
    infinite, it becomes NaN and the others zero.

    In a sharpness-aware optimizer it belongs first in the base, where it bounds the gradient that
    makes the step.

    Args:
        max_norm: bound on the norm, >= 0.

    Returns:
        A transform without a state.

    Raises:
        ValueError: max_norm is not a number of at least 0.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> from vasso_jax.optim import clip_by_global_norm, vasso
        >>> tx = vasso(optax.chain(clip_by_global_norm(1.0), optax.sgd(0.1)), rho=0.1)
        >>> clip = clip_by_global_norm(1.0)
        >>> updates, _ = clip.update({"w": jnp.array([3.0, 4.0])}, clip.init(None))
        >>> print(updates["w"])
        [0.6 0.8]
    """
    check_range("max_norm", max_norm, 0.0, schedule=False)

    def clip(updates: optax.Updates, params: Any) -> optax.Updates:
        del params
        norm = global_norm(updates)
        return scale(updates, jnp.where(norm < max_norm, 1.0, max_norm / norm))

    return optax.stateless(clip)
