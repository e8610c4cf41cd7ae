# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Directions: transforms from the clean gradient g to the direction d of the perturbation.

SAM's direction is the gradient itself and needs no transform. How a direction is kept and reused is
in `_memory`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import ScalarOrSchedule, check_dtype, check_range, value_at
from vasso_jax.optim._equations import average
from vasso_jax.optim._numerics import (
    all_finite,
    cast_like,
    increment,
    leafwise,
    select,
    widened,
    zero_count,
    zeros,
)


class SuppressVarianceState(NamedTuple):
    """State of `suppress_variance`: a `RemembersDirection`.

    Attributes:
        step: int32 scalar, updates so far, at which schedules are read.
        count: int32 scalar, how many finite gradients the average holds.
        direction: the average d, with structure and shapes of the parameters, in their dtype, or in
            float32 where that is wider, or in `accumulator_dtype`. It is sharded as the parameters
            are where `init` sees them as arrays; under `jax.jit` the compiler decides, unless it is
            given `out_shardings`.
    """

    step: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (optax's name)
    direction: optax.Updates


def suppress_variance(
    theta: ScalarOrSchedule, *, accumulator_dtype: Any = None
) -> optax.GradientTransformationExtraArgs:
    """Replaces each clean gradient by the exponential moving average of those seen so far (VaSSO).

        d_0 = g_0
        d_t = (1 - theta) d_{t-1} + theta g_t

    The average starts at the first gradient, not at zero, so it needs no bias correction. `theta`
    weighs the *new* gradient. theta = 1 is SAM (and, with `refresh_every`, keeps the last gradient
    for reuse), theta = 0 keeps the first gradient for ever. The authors' default 0.9 is close to
    SAM; 0.4 and 0.2 suppress visibly.

    A gradient with a NaN or an infinity anywhere is ignored: the average, its count and the
    returned direction are left unchanged (zero before the first finite gradient).

    Args:
        theta: weight of the new gradient, in [0, 1], or a schedule of the step.
        accumulator_dtype: dtype in which the average is kept; None: the parameters', at least
            float32. bfloat16 halves its memory. The average is still computed in float32, but a
            change below 2**-9 of its size is then rounded away.

    Returns:
        A transform whose updates are d, and whose state is a `SuppressVarianceState`: one copy of
        the parameters.

    Raises:
        ValueError: theta is a number outside [0, 1], or the dtype is not a floating-point one.

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
    check_dtype("accumulator_dtype", accumulator_dtype)

    def init(params: optax.Params) -> SuppressVarianceState:
        return SuppressVarianceState(zero_count(), zero_count(), zeros(params, accumulator_dtype))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        fresh: jax.Array | bool = True,
        **extra_args: Any,
    ) -> tuple[optax.Updates, SuppressVarianceState]:
        del params, extra_args
        taken = all_finite(updates) & fresh
        weight = jnp.where(state.count == 0, 1.0, value_at(theta, state.step))
        old = widened(state.direction)
        direction = select(taken, average(old, updates, theta=weight), old)
        new_state = SuppressVarianceState(
            step=increment(state.step),
            count=select(taken, increment(state.count), state.count),
            direction=cast_like(direction, state.direction),
        )
        return direction, new_state

    return optax.GradientTransformationExtraArgs(init, update)


class FriendlyState(NamedTuple):
    """State of `friendly`.

    Attributes:
        step: int32 scalar, updates so far, at which schedules are read.
        count: int32 scalar, how many finite gradients the average holds.
        average: the EMA m of the clean gradients: structure, shapes, dtype and sharding as
            `SuppressVarianceState.direction`.
    """

    step: jax.Array
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (optax's name)
    average: optax.Updates


def friendly(
    sigma: ScalarOrSchedule = 1.0,
    theta: ScalarOrSchedule = 0.1,
    *,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Subtracts from the gradient the part that all minibatches share (Friendly-SAM).

        m_t = (1 - theta) m_{t-1} + theta g_t,    m_0 = g_0
        d_t = g_t - sigma m_t,                    d_0 = g_0

    The opposite of `suppress_variance`: the minibatch noise remains. As in the authors' code, the
    average starts at the first gradient, which is its own direction. With their sigma = 1, and
    theta < 1, the steps are theirs (they subtract m_{t-1}, which then gives the same direction).
    Their lambda is 1 - theta.

    A gradient that is not finite leaves the average unchanged. The direction is then not finite
    either, nor are the updates of `sharpness_aware`, as for every method without a memory.

    With `refresh_every`, put a memory after it: `suppress_variance(1.0)`.

    Args:
        sigma: how much of the average is subtracted, >= 0, or a schedule of the step.
        theta: weight of the new gradient in the average, in [0, 1], or a schedule of the step.
        accumulator_dtype: see `suppress_variance`.

    Returns:
        A transform whose updates are d, and whose state is a `FriendlyState`: one copy of the
        parameters.

    Raises:
        ValueError: sigma is a number below 0, theta one outside [0, 1], or the dtype is not a
            floating-point one.

    References:
        Li et al., Friendly Sharpness-Aware Minimization, CVPR 2024, algorithm 1,
        https://arxiv.org/abs/2403.12350

    Example:
        >>> import jax.numpy as jnp
        >>> from vasso_jax.optim import friendly
        >>> direction = friendly(sigma=1.0, theta=0.25)
        >>> state = direction.init(jnp.zeros(2))
        >>> d, state = direction.update(jnp.array([4.0, 0.0]), state)
        >>> d, state = direction.update(jnp.array([4.0, 4.0]), state)
        >>> print(d)
        [0. 3.]
    """
    check_range("sigma", sigma, 0.0)
    check_range("theta", theta, 0.0, 1.0)
    check_dtype("accumulator_dtype", accumulator_dtype)

    def init(params: optax.Params) -> FriendlyState:
        return FriendlyState(zero_count(), zero_count(), zeros(params, accumulator_dtype))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        fresh: jax.Array | bool = True,
        **extra_args: Any,
    ) -> tuple[optax.Updates, FriendlyState]:
        del params, extra_args
        taken = all_finite(updates) & fresh
        first = state.count == 0
        weight = jnp.where(first, 1.0, value_at(theta, state.step))
        old = widened(state.average)
        m = select(taken, average(old, updates, theta=weight), old)
        share = jnp.where(first, 0.0, value_at(sigma, state.step))
        new_state = FriendlyState(
            step=increment(state.step),
            count=select(taken, increment(state.count), state.count),
            average=cast_like(m, state.average),
        )
        return _without(m, updates, sigma=share), new_state

    return optax.GradientTransformationExtraArgs(init, update)


@leafwise
def _without(m: Any, g: Any, *, sigma: Any) -> Any:
    """d = g - sigma m"""
    return g - sigma * m
