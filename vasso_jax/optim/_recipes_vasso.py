# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""VaSSO, alone and in ASAM's geometry; `_recipe.py` says what all recipes share."""

from typing import Any

from vasso_jax.optim._arguments import Mask, ScalarOrSchedule
from vasso_jax.optim._directions import suppress_variance
from vasso_jax.optim._geometries import adaptive_ball, l2_ball
from vasso_jax.optim._recipe import SharpnessAware, Transform, make_recipe


def vasso(
    base: Transform,
    rho: ScalarOrSchedule = 0.05,
    theta: ScalarOrSchedule = 0.9,
    *,
    mask: Mask | None = None,
    refresh_every: int | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """Variance-suppressed sharpness-aware optimization.

        d  <- (1 - theta) d + theta g,  g = grad L(w), starting at the first g
        eps = rho d / (||d|| + 1e-7)
        w  <- base step with grad L(w + eps), applied at w

    Cost: 2 evaluations (1 + 1/k with `refresh_every`), 1 copy (half with bfloat16).

    Args:
        rho: radius of the perturbation, >= 0, or a schedule.
        theta: weight of the new gradient in d, in [0, 1], or a schedule. 1 is SAM; smaller values
            suppress more of the minibatch noise in the direction.
        accumulator_dtype: dtype in which d is kept; see `suppress_variance`.
        mask: which parameters are perturbed, such as `matrices`; see `l2_ball`.
        refresh_every: steps between two clean passes, >= 1; see `sharpness_aware`.
        microbatches: parts of a batch that are taken in turn, >= 1; see `sharpness_aware`.

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
    return make_recipe(
        base,
        l2_ball(rho, mask=mask),
        direction=suppress_variance(theta, accumulator_dtype=accumulator_dtype),
        remembers=True,
        refresh_every=refresh_every,
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
        theta, accumulator_dtype: see `vasso`.
        mask: which parameters are perturbed, such as `matrices`; see `l2_ball`.
        refresh_every: steps between two clean passes, >= 1; see `sharpness_aware`.
        microbatches: parts of a batch that are taken in turn, >= 1; see `sharpness_aware`.

    References:
        https://arxiv.org/abs/2309.15639 and https://arxiv.org/abs/2102.11600

    Example:
        >>> import optax
        >>> from vasso_jax.optim import vasso_asam
        >>> tx = vasso_asam(optax.adamw(1e-3), rho=0.5, theta=0.4)
    """
    return make_recipe(
        base,
        adaptive_ball(rho, eta=eta, adapt=adapt, mask=mask),
        direction=suppress_variance(theta, accumulator_dtype=accumulator_dtype),
        remembers=True,
        refresh_every=refresh_every,
        microbatches=microbatches,
    )
