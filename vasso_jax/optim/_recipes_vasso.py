# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""VaSSO, alone and with the geometry or the descent rule of other methods.

What all recipes have in common is described in `vasso_jax.optim`.
"""

from typing import Any

import optax

from vasso_jax.optim._arguments import (
    Refresh,
    ScalarOrSchedule,
    Window,
)
from vasso_jax.optim._compose import SharpnessAware, Transform, compose
from vasso_jax.optim._descent import surrogate_gap
from vasso_jax.optim._directions import suppress_variance
from vasso_jax.optim._geometries import adaptive_ball, l2_ball
from vasso_jax.optim._masks import (
    Mask,
)


def vasso(
    base: Transform,
    rho: ScalarOrSchedule = 0.05,
    theta: ScalarOrSchedule = 0.9,
    *,
    mask: Mask | None = None,
    refresh_every: int | None = None,
    refresh: Refresh | None = None,
    active: Window | None = None,
    ascent_steps: int | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """Variance-suppressed sharpness-aware optimization.

        d  <- (1 - theta) d + theta g,  g = grad L(w), starting at the first g
        eps = rho d / (||d|| + 1e-7)
        w  <- base step with grad L(w + eps), applied at w

    Cost: 2 evaluations (1 + 1/k with `refresh_every`), 1 copy (half with bfloat16).

    Args:
        theta: weight of the new gradient in d, in [0, 1], or a schedule of the step. 1 is SAM;
            smaller values suppress more of the minibatch noise in the direction.
        base, rho, mask, and what follows: see `vasso_jax.optim`.

    References:
        Li and Giannakis, Enhancing Sharpness-Aware Optimization Through Variance Suppression,
        NeurIPS 2023, https://arxiv.org/abs/2309.15639; cheaper variants in the follow-up,
        https://arxiv.org/abs/2509.02433

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from vasso_jax.optim import vasso
        >>> grad_fn = jax.grad(lambda w, i: 0.5 * jnp.sum(w**2))
        >>> tx, w = vasso(optax.sgd(0.5), rho=0.1, theta=0.4), jnp.array([1.0, 0.0])
        >>> updates, _ = tx.update(grad_fn(w, 0), tx.init(w), w, grad_fn=grad_fn)
        >>> print(optax.apply_updates(w, updates))
        [0.45 0.  ]
    """
    return compose(
        base,
        optax.chain(
            suppress_variance(theta, accumulator_dtype=accumulator_dtype), l2_ball(rho, mask=mask)
        ),
        refresh_every=refresh_every,
        refresh=refresh,
        active=active,
        ascent_steps=ascent_steps,
        microbatches=microbatches,
    )


def vasso_asam(
    base: Transform,
    rho: ScalarOrSchedule = 0.5,
    theta: ScalarOrSchedule = 0.9,
    *,
    eta: float = 0.01,
    adapt: Mask | None = None,
    mask: Mask | None = None,
    refresh_every: int | None = None,
    refresh: Refresh | None = None,
    active: Window | None = None,
    ascent_steps: int | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """VaSSO's direction in ASAM's geometry.

        d  <- (1 - theta) d + theta g,  g = grad L(w), starting at the first g
        eps = rho T^2 d / (||T d|| + 1e-7),  T = |w| + eta
        w  <- base step with grad L(w + eps), applied at w

    Cost: 2 evaluations (1 + 1/k with `refresh_every`), 1 copy (half with bfloat16).

    Args:
        rho, eta, adapt: see `asam`.
        theta: see `vasso`.
        base, mask, and what follows: see `vasso_jax.optim`.

    References:
        https://arxiv.org/abs/2309.15639 and https://arxiv.org/abs/2102.11600

    Example:
        >>> import optax
        >>> from vasso_jax.optim import vasso_asam
        >>> tx = vasso_asam(optax.adamw(1e-3), rho=0.5, theta=0.4)
    """
    return compose(
        base,
        optax.chain(
            suppress_variance(theta, accumulator_dtype=accumulator_dtype),
            adaptive_ball(rho, eta=eta, adapt=adapt, mask=mask),
        ),
        refresh_every=refresh_every,
        refresh=refresh,
        active=active,
        ascent_steps=ascent_steps,
        microbatches=microbatches,
    )


def vasso_gsam(
    base: Transform,
    rho: ScalarOrSchedule = 0.05,
    theta: ScalarOrSchedule = 0.9,
    *,
    alpha: float = 0.4,
    mask: Mask | None = None,
    active: Window | None = None,
    ascent_steps: int | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """VaSSO's direction with GSAM's descent.

        d  <- (1 - theta) d + theta g,  g = grad L(w), starting at the first g
        eps = rho d / (||d|| + 1e-7),  g_p = grad L(w + eps)
        w  <- base step with g_p - alpha (the part of g orthogonal to g_p), applied at w

    Cost: 2 evaluations, 1 copy (half with bfloat16).

    Args:
        rho, alpha: see `gsam`.
        theta: see `vasso`.
        base, mask, and what follows: see `vasso_jax.optim`.

    References:
        https://arxiv.org/abs/2309.15639 and https://arxiv.org/abs/2203.08065

    Example:
        >>> import optax
        >>> from vasso_jax.optim import vasso_gsam
        >>> tx = vasso_gsam(optax.sgd(0.1, momentum=0.9), rho=0.1, theta=0.4, alpha=0.2)
    """
    return compose(
        base,
        optax.chain(
            suppress_variance(theta, accumulator_dtype=accumulator_dtype), l2_ball(rho, mask=mask)
        ),
        descent=surrogate_gap(alpha),
        active=active,
        ascent_steps=ascent_steps,
        microbatches=microbatches,
    )
