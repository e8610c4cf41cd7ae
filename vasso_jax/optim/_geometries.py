# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Geometries: transforms from a direction d to the perturbation eps along it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import (
    ScalarOrSchedule,
    check_params,
    check_range,
    value_at,
)
from vasso_jax.optim._equations import NORM_OFFSET, on_sphere
from vasso_jax.optim._masks import (
    Mask,
    check_mask,
    masked_leaves,
    restricted,
)
from vasso_jax.optim._numerics import (
    cast_like,
    global_norm,
    increment,
    leafwise,
    scale,
    widened,
    zero_count,
)
from vasso_jax.optim._typed import tree_map


class BallState(NamedTuple):
    """State of `l2_ball` and `adaptive_ball`.

    Attributes:
        count: int32 scalar, the step at which a schedule of rho is read.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (optax's name)


def l2_ball(rho: ScalarOrSchedule, *, mask: Mask | None = None) -> optax.GradientTransformation:
    """Scales a direction to the sphere of radius rho, one L2 norm over all parameters.

        eps = rho d / (||d|| + 1e-7)

    The norm is taken in float32 (float64 where the leaves are). A zero direction gives zero.

    Args:
        rho: radius in parameter units, >= 0, or a schedule of the step.
        mask: which parameters are perturbed, as in `optax.masked`: a pytree of bools, or a function
            of the direction that returns one, such as `matrices`. The others get zero and do not
            count in the norm.

    Returns:
        A transform whose updates are eps, and whose state is a `BallState`.

    Raises:
        ValueError: rho is a number below 0; (from `update`) the mask does not match the parameters.

    References:
        Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization,
        ICLR 2021, equation (2), https://arxiv.org/abs/2010.01412

    Example:
        >>> import jax.numpy as jnp
        >>> from vasso_jax.optim import l2_ball
        >>> ball = l2_ball(rho=0.5)
        >>> eps, _ = ball.update(jnp.array([3.0, 4.0]), ball.init(jnp.zeros(2)))
        >>> print(eps)
        [0.3 0.4]
    """
    return ball(rho, mask)


def ball(
    rho: ScalarOrSchedule, mask: Mask | None, offset: float = NORM_OFFSET
) -> optax.GradientTransformation:
    """`l2_ball` with another number in the place of 1e-7."""
    check_range("rho", rho, 0.0)
    check_mask("mask", mask)

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None
    ) -> tuple[optax.Updates, BallState]:
        del params
        eps = on_sphere(restricted(updates, mask), value_at(rho, state.count), offset)
        return eps, BallState(increment(state.count))

    return optax.GradientTransformation(init_ball, update)


def adaptive_ball(
    rho: ScalarOrSchedule,
    *,
    eta: float = 0.01,
    mask: Mask | None = None,
    adapt: Mask | None = None,
) -> optax.GradientTransformation:
    """Scales a direction to the ellipsoid that follows the size of each parameter (ASAM).

        T   = |w| + eta   where `adapt`, else 1
        eps = rho T^2 d / (||T d|| + 1e-7)

    so that ||eps / T|| = rho, with one norm over all parameters. The perturbed loss then no longer
    depends on how a network's layers share a common scale.

    Args:
        rho: radius relative to T, >= 0, or a schedule of the step. About ten times that of
            `l2_ball` (the authors: 0.5 on CIFAR-10, 1 on CIFAR-100).
        eta: lower bound of T, >= 0.
        mask: which parameters are perturbed; see `l2_ball`.
        adapt: which parameters T follows, None (all) or a mask such as `matrices`, with which the
            authors leave the biases out.

    Returns:
        A transform whose updates are eps, and whose state is a `BallState`. Its `update` needs
        `params`.

    Raises:
        ValueError: rho or eta is a number below 0; (from `update`) params are missing, or a mask
            does not match them.

    References:
        Kwon et al., ASAM: Adaptive Sharpness-Aware Minimization for Scale-Invariant Learning of
        Deep Neural Networks, ICML 2021, equation (8), https://arxiv.org/abs/2102.11600

    Example:
        >>> import jax.numpy as jnp
        >>> from vasso_jax.optim import adaptive_ball
        >>> ball, w = adaptive_ball(rho=0.5, eta=0.0), jnp.array([1.0, -2.0])
        >>> eps, _ = ball.update(jnp.array([3.0, 2.0]), ball.init(w), w)
        >>> print(eps)
        [0.3 0.8]
    """
    check_range("rho", rho, 0.0)
    check_range("eta", eta, 0.0, schedule=False)
    check_mask("mask", mask)
    check_mask("adapt", adapt)

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None
    ) -> tuple[optax.Updates, BallState]:
        check_params("adaptive_ball", params)
        d = restricted(updates, mask)
        t = tree_map(
            lambda adapted, size: size if adapted else jnp.ones_like(size),
            masked_leaves(adapt, d),
            _size(params, eta=jnp.asarray(eta)),
        )
        td = tree_map(jnp.multiply, t, widened(d))
        ttd = tree_map(jnp.multiply, t, td)
        eps = scale(ttd, value_at(rho, state.count) / (global_norm(td) + NORM_OFFSET))
        return cast_like(eps, d), BallState(increment(state.count))

    return optax.GradientTransformation(init_ball, update)


def init_ball(params: optax.Params) -> BallState:
    """The state before the first step."""
    del params
    return BallState(zero_count())


@leafwise
def _size(w: Any, *, eta: Any) -> Any:
    """|w| + eta"""
    return jnp.abs(w) + eta
