"""Geometries: transforms that turn a direction d into the perturbation eps of that direction."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._hyperparameters import ScalarOrSchedule, check_range, value_at
from vasso_jax.optim._norms import accumulation_dtype, global_norm

# The authors add this to the norm, so a zero direction gives a zero perturbation.
_NORM_OFFSET = 1e-7


class L2BallState(NamedTuple):
    """State of `l2_ball`.

    Attributes:
        count: int32 scalar, the step at which a schedule of rho is read.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (optax's name)


def l2_ball(rho: ScalarOrSchedule) -> optax.GradientTransformation:
    """Scales a direction to the sphere of radius rho, one L2 norm over all parameters.

        eps = rho d / (||d|| + 1e-7)

    The norm is taken in float32 (float64 where the leaves are); a zero direction gives zero.

    Args:
        rho: radius in parameter units, >= 0, or a schedule of the step.

    Returns:
        A transform whose updates are eps, and whose state is an `L2BallState`.

    Raises:
        ValueError: rho is a number below 0.

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
    check_range("rho", rho, 0.0)

    def init(params: optax.Params) -> L2BallState:
        del params
        return L2BallState(jnp.zeros((), jnp.int32))

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None
    ) -> tuple[optax.Updates, L2BallState]:
        del params
        scale = value_at(rho, state.count) / (global_norm(updates) + _NORM_OFFSET)

        def scaled(d: jax.Array) -> jax.Array:
            dtype = accumulation_dtype(d)
            return (d.astype(dtype) * scale.astype(jnp.finfo(dtype).dtype)).astype(d.dtype)

        return jax.tree.map(scaled, updates), L2BallState(
            jnp.asarray(optax.safe_increment(state.count))
        )

    return optax.GradientTransformation(init, update)
