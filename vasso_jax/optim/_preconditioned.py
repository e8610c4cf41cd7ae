# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""A ball in the metric of Adam's second moment."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import (
    ScalarOrSchedule,
    check_range,
    value_at,
)
from vasso_jax.optim._equations import NORM_OFFSET, average
from vasso_jax.optim._masks import (
    Mask,
    check_mask,
    restricted,
)
from vasso_jax.optim._numerics import (
    all_finite,
    cast_like,
    increment,
    inner,
    leafwise,
    norm_of,
    scale,
    select,
    widened,
    zero_count,
    zeros,
)
from vasso_jax.optim._typed import tree_map


class PreconditionedBallState(NamedTuple):
    """State of `preconditioned_ball`.

    Attributes:
        step: int32 scalar, updates so far, at which a schedule of rho is read.
        count: int32 scalar, how many finite gradients the average holds.
        nu: average of the squared gradients, with structure, shapes and sharding of the parameters,
            float32 or wider.
    """

    step: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (optax's name)
    nu: optax.Updates


def preconditioned_ball(
    rho: ScalarOrSchedule,
    *,
    b2: float = 0.999,
    eps: float = 1e-8,
    mask: Mask | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The worst case of a direction in the ellipsoid of Adam's second moment.

        nu  = b2 nu + (1 - b2) g^2,  g the clean gradient;   P = sqrt(nu / (1 - b2^t)) + eps
        eps = rho P^-1 d / (sqrt(<d, P^-1 d>) + 1e-7)

    This eps maximises <d, eps> among all with <eps, P eps> <= rho^2: parameters whose gradients are
    large move less, as in Adam's step. It is our reading of a remark that preconditioning keeps SAM
    from minimising spurious sharpness in language models; its authors' power and normalisation were
    not to be found, and may differ.

    A gradient that is not finite leaves nu unchanged, and so does one whose square is too large.

    Args:
        rho: radius in the metric of P, >= 0, or a schedule of the step. As <eps, P eps> has the
            unit of P, it is not that of `l2_ball`.
        b2: decay of the average, in [0, 1).
        eps: added to the square root, >= 1e-30.
        mask: which parameters are perturbed; see `l2_ball`.

    Returns:
        A transform whose updates are eps, and whose state is a `PreconditionedBallState`: one copy
        of the parameters.

    Raises:
        ValueError: a number is out of range; (from `update`) the mask does not match the
            parameters.

    References:
        Singh et al., Avoiding Spurious Sharpness Minimization Broadens Applicability of SAM, ICML
        2025, https://arxiv.org/abs/2502.02407; Kingma and Ba, https://arxiv.org/abs/1412.6980

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> from vasso_jax.optim import preconditioned_ball
        >>> ball = preconditioned_ball(rho=0.5)
        >>> eps, _ = ball.update(jnp.array([9.0, 16.0]), ball.init(jnp.zeros(2)))
        >>> print(np.asarray(eps).round(3))  # at the first step P = |g|, so all move alike
        [0.1 0.1]
    """
    check_range("rho", rho, 0.0)
    check_range("b2", b2, 0.0, 1.0, schedule=False, half_open=True)
    check_range("eps", eps, 1e-30, schedule=False)
    check_mask("mask", mask)

    def init(params: optax.Params) -> PreconditionedBallState:
        return PreconditionedBallState(zero_count(), zero_count(), zeros(params, None))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        clean: optax.Updates | None = None,
        fresh: jax.Array | bool = True,
        **extra_args: Any,
    ) -> tuple[optax.Updates, PreconditionedBallState]:
        del params, extra_args
        g = updates if clean is None else clean
        squares = tree_map(lambda x: jnp.square(jnp.abs(x)), widened(g))
        taken = all_finite(squares) & fresh
        nu = select(taken, average(state.nu, squares, theta=jnp.asarray(1 - b2)), state.nu)
        count = select(taken, increment(state.count), state.count)
        # 1 before the first gradient, when nu is zero.
        correction = jnp.where(count > 0, 1 - jnp.asarray(b2) ** count, 1)
        d = restricted(updates, mask)
        scaled = _over_root(d, nu, correction=correction, eps=jnp.asarray(eps))
        factor = value_at(rho, state.step) / (norm_of(inner(d, scaled)) + NORM_OFFSET)
        perturbation = cast_like(scale(scaled, factor), d)
        return perturbation, PreconditionedBallState(increment(state.step), count, nu)

    return optax.GradientTransformationExtraArgs(init, update)


@leafwise
def _over_root(d: Any, nu: Any, *, correction: Any, eps: Any) -> Any:
    """P^-1 d"""
    return d / (jnp.sqrt(nu.real / correction) + eps)
