# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""VaSSO on one screen: its equations over whole pytrees.

One step, at the parameters w, with a minibatch loss L, the direction d and a base optimizer:

    g   = grad L(w)                        the clean gradient
    d   = (1 - theta) d + theta g          `moved_average`; d begins as the first gradient
    eps = rho d / (||d|| + 1e-7)           `perturbation`, one L2 norm over all parameters
    w  <- base step with grad L(w + eps)   `perturbed_point`: the gradient there is applied at w

`suppress_variance` keeps d and leaves out gradients that are not finite, `l2_ball` follows
schedules and masks, `sharpness_aware` evaluates the gradients.

References:
    Li and Giannakis, Enhancing Sharpness-Aware Optimization Through Variance Suppression,
    NeurIPS 2023, https://arxiv.org/abs/2309.15639, equation (6); the constants are those of the
    authors' code.
"""

from typing import Any

import jax
import optax

from vasso_jax.optim._numerics import cast_like, global_norm, wide_map

# The authors add this to the norm, so that a zero direction gives a zero perturbation.
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
