# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""VaSSO's three equations, over whole pytrees (Li and Giannakis, arXiv 2309.15639).

d   <- (1 - theta) d + theta g         suppress_variance
eps  = rho d / (||d|| + 1e-7)          l2_ball
w    + eps                             sharpness_aware: where the gradient is taken
"""

from typing import Any

import jax
import optax

from vasso_jax.optim._numerics import cast_like, global_norm, wide_map

# VaSSO's authors add this to the norm, so that a zero direction gives a zero perturbation.
NORM_OFFSET = 1e-7


def moved_average(d: Any, g: Any, theta: jax.Array) -> Any:
    """(1 - theta) d + theta g, in float32 or wider."""
    return wide_map(lambda theta, d, g: (1 - theta) * d + theta * g, theta, d, g)


def perturbation(d: Any, rho: jax.Array) -> Any:
    """rho d / (||d|| + 1e-7), with one L2 norm over all leaves."""
    factor = rho / (global_norm(d) + NORM_OFFSET)
    return cast_like(wide_map(lambda factor, d: d * factor, factor, d), d)


def perturbed_point(w: optax.Params, eps: optax.Updates) -> optax.Params:
    """w + eps."""
    return optax.apply_updates(w, eps)
