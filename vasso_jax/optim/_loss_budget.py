# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""A radius that follows from a rise of the loss (LE-SAM)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import (
    ScalarOrSchedule,
    check_range,
    value_at,
)
from vasso_jax.optim._equations import on_sphere
from vasso_jax.optim._masks import (
    Mask,
    check_mask,
    restricted,
)
from vasso_jax.optim._numerics import global_norm, increment, zero_count


class LossBudgetState(NamedTuple):
    """State of `loss_budget_ball`.

    Attributes:
        count: int32 scalar, the step at which schedules are read.
        radius: float32 scalar, the last radius.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (optax's name)
    radius: jax.Array


def loss_budget_ball(
    budget: ScalarOrSchedule, *, rho_max: ScalarOrSchedule | None = 0.5, mask: Mask | None = None
) -> optax.GradientTransformationExtraArgs:
    """Scales a direction to the sphere in which the loss rises by a given amount (LE-SAM).

        rho = min(budget / ||g||, rho_max),  g the clean gradient
        eps = rho d / (||d|| + 1e-7)

    To first order the loss rises by <g, eps>, which is `budget` for SAM's direction d = g where the
    cap does not bind, and less for any other direction. Where the gradient is small, as late in
    training, the radius grows up to rho_max.

    Args:
        budget: rise of the loss, >= 0, or a schedule of the step. It has the unit of the loss.
        rho_max: cap of the radius, >= 0, or a schedule of the step; None: no cap.
        mask: which parameters are perturbed; see `l2_ball`. ||g|| is that of these.

    Returns:
        A transform whose updates are eps, and whose state is a `LossBudgetState`. Without a new
        gradient, as under `refresh_every`, the last radius is used again.

    Raises:
        ValueError: a number is below 0; (from `update`) the mask does not match the parameters.

    References:
        Sharpness-aware minimization with a loss-equated radius (LE-SAM), ICML 2026,
        https://arxiv.org/abs/2605.10183; the rule is that of the authors' code.

    Example:
        >>> import jax.numpy as jnp
        >>> from vasso_jax.optim import loss_budget_ball
        >>> ball = loss_budget_ball(budget=0.5)
        >>> eps, _ = ball.update(jnp.array([3.0, 4.0]), ball.init(jnp.zeros(2)))
        >>> print(eps)
        [0.06 0.08]
    """
    check_range("budget", budget, 0.0)
    if rho_max is not None:
        check_range("rho_max", rho_max, 0.0)
    check_mask("mask", mask)

    def init(params: optax.Params) -> LossBudgetState:
        del params
        return LossBudgetState(zero_count(), jnp.zeros((), jnp.float32))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        clean: optax.Updates | None = None,
        fresh: jax.Array | bool = True,
        **extra_args: Any,
    ) -> tuple[optax.Updates, LossBudgetState]:
        del params, extra_args
        g = restricted(updates if clean is None else clean, mask)
        norm, cap = global_norm(g), value_at(jnp.inf if rho_max is None else rho_max, state.count)
        rise = value_at(budget, state.count) / jnp.where(norm > 0, norm, 1)
        # Without a gradient there is no direction, and the radius is only remembered.
        radius = jnp.where(norm > 0, jnp.minimum(rise, cap), cap).astype(jnp.float32)
        radius = jnp.where(fresh & jnp.isfinite(radius), radius, state.radius)
        eps = on_sphere(restricted(updates, mask), radius)
        return eps, LossBudgetState(increment(state.count), radius)

    return optax.GradientTransformationExtraArgs(init, update)
