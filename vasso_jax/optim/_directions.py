"""Directions: transforms that turn the clean gradient g into the direction d of the perturbation.

SAM's direction is the gradient itself and needs no transform.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._hyperparameters import ScalarOrSchedule, check_range, value_at
from vasso_jax.optim._norms import accumulation_dtype, all_finite


class SuppressVarianceState(NamedTuple):
    """State of `suppress_variance`.

    Attributes:
        count: int32 scalar, how many finite gradients the average holds.
        direction: the average d, with structure and shapes of the parameters, in their dtype or in
            float32 where that is wider (a bfloat16 average would stop moving for small theta). It
            is sharded as the parameters are where `init` sees them as arrays; under `jax.jit` the
            compiler decides, unless it is given `out_shardings`.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (optax's name)
    direction: optax.Updates


def suppress_variance(theta: ScalarOrSchedule) -> optax.GradientTransformation:
    """Replaces each clean gradient by the exponential moving average of those seen so far (VaSSO).

        d_0 = g_0
        d_t = (1 - theta) d_{t-1} + theta g_t

    The average starts at the first gradient, not at zero, so it needs no bias correction; `theta`
    weighs the *new* gradient. theta = 1 is SAM, theta = 0 keeps the first gradient for ever, the
    authors' default 0.9 is close to SAM, 0.4 and 0.2 suppress visibly.

    A gradient with a NaN or an infinity anywhere is left out as a whole: the average, its count and
    the returned direction stay as they were (zero before the first finite gradient).

    Args:
        theta: weight of the new gradient, in [0, 1], or a schedule of `count`.

    Returns:
        A transform whose updates are d, and whose state is a `SuppressVarianceState`.

    Raises:
        ValueError: theta is a number outside [0, 1].

    References:
        Li and Giannakis, Enhancing Sharpness-Aware Optimization Through Variance Suppression,
        NeurIPS 2023, equation (6), https://arxiv.org/abs/2309.15639

    Example:
        >>> import jax.numpy as jnp
        >>> from vasso_jax.optim import suppress_variance
        >>> direction = suppress_variance(theta=0.25)
        >>> state = direction.init(jnp.zeros(2))
        >>> d, state = direction.update(jnp.array([4.0, 0.0]), state)
        >>> d, state = direction.update(jnp.array([0.0, 4.0]), state)
        >>> print(d)
        [3. 1.]
    """
    check_range("theta", theta, 0.0, 1.0)

    def init(params: optax.Params) -> SuppressVarianceState:
        direction = jax.tree.map(lambda p: jnp.zeros_like(p, accumulation_dtype(p)), params)
        return SuppressVarianceState(jnp.zeros((), jnp.int32), direction)

    def update(
        updates: optax.Updates, state: Any, params: optax.Params | None = None
    ) -> tuple[optax.Updates, SuppressVarianceState]:
        del params
        weight = jnp.where(state.count == 0, 1.0, value_at(theta, state.count))
        finite = all_finite(updates)

        def average(d: jax.Array, g: jax.Array) -> jax.Array:
            w = weight.astype(jnp.finfo(d.dtype).dtype)
            # jnp.where, not a product with a mask: 0 * NaN is NaN.
            return jnp.where(finite, (1 - w) * d + w * g.astype(d.dtype), d)

        direction = jax.tree.map(average, state.direction, updates)
        count = jnp.where(finite, optax.safe_increment(state.count), state.count)
        return direction, SuppressVarianceState(count, direction)

    return optax.GradientTransformation(init, update)
