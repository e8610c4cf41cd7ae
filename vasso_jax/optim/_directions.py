# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Directions: transforms that turn the clean gradient g into the direction d of the perturbation.

SAM's direction is the gradient itself and needs no transform.

`sharpness_aware(..., refresh_every=k)` calls a direction with the keyword `fresh`, a bool scalar.
Where it is False there is no new gradient: a direction that remembers ignores what it is given,
returns its last direction, and leaves its memory as it was.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import (
    ScalarOrSchedule,
    check_dtype,
    check_range,
    check_transform,
    value_at,
)
from vasso_jax.optim._equations import moved_average
from vasso_jax.optim._numerics import (
    all_finite,
    cast_like,
    select,
    wide_map,
    widen_like,
    zero_count,
    zeros_for_average,
)


@runtime_checkable
class RemembersDirection(Protocol):
    """State of a direction that can be reused under `refresh_every`.

    A direction of your own is one if its state, a NamedTuple for example, has this attribute, and
    its `update` takes the keyword `fresh`: a bool scalar, and where it is False, `update` ignores
    the gradient, returns the last direction, and leaves the state as it was. `remember` makes one
    of any other transform.

    Attributes:
        direction: the last direction, a pytree like the parameters.
    """

    @property
    def direction(self) -> optax.Updates: ...


class SuppressVarianceState(NamedTuple):
    """State of `suppress_variance`.

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

    The average starts at the first gradient, not at zero, so it needs no bias correction; `theta`
    weighs the *new* gradient. theta = 1 is SAM (and, with `refresh_every`, keeps the last gradient
    for reuse), theta = 0 keeps the first gradient for ever, the authors' default 0.9 is close to
    SAM, 0.4 and 0.2 suppress visibly.

    A gradient with a NaN or an infinity anywhere is left out as a whole: the average, its count and
    the returned direction stay as they were (zero before the first finite gradient).

    Args:
        theta: weight of the new gradient, in [0, 1], or a schedule of the step.
        accumulator_dtype: dtype in which the average is kept; None: the parameters', at least
            float32. bfloat16 halves its memory; the average is still computed in float32, but a
            step of it below 2**-9 of its size is then rounded away.

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
        average = zeros_for_average(params, accumulator_dtype)
        return SuppressVarianceState(zero_count(), zero_count(), average)

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
        moved = moved_average(state.direction, updates, weight)
        direction = select(taken, moved, state.direction)
        count = jnp.where(taken, optax.safe_increment(state.count), state.count)
        step = jnp.asarray(optax.safe_increment(state.step))
        kept = cast_like(direction, state.direction)
        return direction, SuppressVarianceState(step, count, kept)

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
    """Takes the part of the gradient that all minibatches share out of it (Friendly-SAM).

        m_t = (1 - theta) m_{t-1} + theta g_t,    m_0 = g_0
        d_t = g_t - sigma m_t,                    d_0 = g_0

    The opposite of `suppress_variance`: what is left is the minibatch noise. The average is of the
    full clean gradients. As in the authors' code it starts at the first gradient, whose own
    direction is itself; with their sigma = 1, and theta < 1, this takes their steps (they subtract
    m_{t-1}, which is then the same direction). Their lambda is 1 - theta.

    A gradient that is not finite leaves the average as it was; the direction is then not finite,
    and `sharpness_aware` passes it on to the base optimizer, as every method without memory does.

    Args:
        sigma: how much of the average is taken out, >= 0, or a schedule.
        theta: weight of the new gradient in the average, in [0, 1], or a schedule.
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
        average = zeros_for_average(params, accumulator_dtype)
        return FriendlyState(zero_count(), zero_count(), average)

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
        moved = moved_average(state.average, updates, weight)
        average = select(taken, moved, state.average)
        removed = jnp.where(first, 0.0, value_at(sigma, state.step))
        direction = wide_map(lambda sigma, m, g: g - sigma * m, removed, average, updates)
        count = jnp.where(taken, optax.safe_increment(state.count), state.count)
        step = jnp.asarray(optax.safe_increment(state.step))
        return direction, FriendlyState(step, count, cast_like(average, state.average))

    return optax.GradientTransformationExtraArgs(init, update)


class RememberState(NamedTuple):
    """State of `remember`.

    Attributes:
        inner: state of the direction that is remembered.
        direction: its last output: structure, shapes, dtype and sharding as
            `SuppressVarianceState.direction`.
    """

    inner: optax.OptState
    direction: optax.Updates


def remember(
    direction: optax.GradientTransformation, *, accumulator_dtype: Any = None
) -> optax.GradientTransformationExtraArgs:
    """Keeps the last direction of any transform, so that `refresh_every` can reuse it.

    `remember(optax.identity())` is SAM's direction with a memory, `remember(optax.ema(0.9))` that
    of a zero-initialised average.

    A gradient with a NaN or an infinity anywhere is left out as a whole: the inner state and the
    returned direction stay as they were (zero before the first finite gradient).

    Args:
        direction: any optax transform from the clean gradient to d.
        accumulator_dtype: see `suppress_variance`.

    Returns:
        A transform whose updates are those of `direction`, and whose state is a `RememberState`:
        one copy of the parameters besides the inner state.

    Raises:
        TypeError: `direction` is not an optax transform.
        ValueError: the dtype is not a floating-point one.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from vasso_jax.optim import remember
        >>> direction = remember(optax.scale(2.0))
        >>> d, state = direction.update(jnp.array([1.0]), direction.init(jnp.zeros(1)))
        >>> d, state = direction.update(jnp.array([5.0]), state, fresh=False)
        >>> print(d)
        [2.]
    """
    check_transform("direction", direction)
    check_dtype("accumulator_dtype", accumulator_dtype)
    wrapped = optax.with_extra_args_support(direction)

    def init(params: optax.Params) -> RememberState:
        return RememberState(wrapped.init(params), zeros_for_average(params, accumulator_dtype))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        fresh: jax.Array | bool = True,
        **extra_args: Any,
    ) -> tuple[optax.Updates, RememberState]:
        taken = all_finite(updates) & fresh
        found, inner = wrapped.update(updates, state.inner, params, fresh=fresh, **extra_args)
        last = select(taken, widen_like(found, state.direction), state.direction)
        inner = select(taken, inner, state.inner)
        return last, RememberState(inner, cast_like(last, state.direction))

    return optax.GradientTransformationExtraArgs(init, update)
