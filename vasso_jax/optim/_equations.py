# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""VaSSO on one screen.

One step, at the parameters w, with a minibatch loss L, the direction d and a base optimizer:

    g   = grad L(w)                        the clean gradient
    d   = (1 - theta) d + theta g          `average`, which starts at the first gradient
    eps = rho d / (||d|| + 1e-7)           `on_sphere`, one L2 norm over all parameters
    w  <- base step with grad L(w + eps)   `moved`: the gradient is taken there and applied at w

All arguments are whole pytrees, but for the scalars theta and rho. The transforms add what is not
in the equations: `suppress_variance` keeps d and leaves out gradients that are not finite,
`l2_ball` follows schedules and masks, `sharpness_aware` evaluates the gradients.

References:
    Li and Giannakis, Enhancing Sharpness-Aware Optimization Through Variance Suppression,
    NeurIPS 2023, https://arxiv.org/abs/2309.15639: equation (6), and the constants of the authors'
    code.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._numerics import global_norm, leafwise, scale, uncounted

# The authors add this to the norm, so a zero direction gives a zero perturbation.
NORM_OFFSET = 1e-7


@leafwise
def average(d: Any, g: Any, *, theta: Any) -> Any:
    """d <- (1 - theta) d + theta g, in float32 or wider."""
    return (1 - theta) * d + theta * g


def on_sphere(d: optax.Updates, rho: jax.Array, offset: float = NORM_OFFSET) -> optax.Updates:
    """eps = rho d / (||d|| + 1e-7), in the dtype of d."""
    return scale(d, rho / jnp.maximum(global_norm(d) + offset, uncounted(d)))


def moved(w: optax.Params, eps: optax.Updates) -> optax.Params:
    """w + eps, in the dtype of w."""
    return optax.apply_updates(w, eps)
