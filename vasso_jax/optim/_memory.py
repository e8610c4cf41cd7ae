# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Directions that are kept and reused: what `refresh_every` asks of a perturbation."""

import itertools
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import check_dtype, check_transform
from vasso_jax.optim._numerics import all_finite, cast_like, norm_and_cosine, select, widened, zeros
from vasso_jax.optim._typed import tree_map


@runtime_checkable
class RemembersDirection(Protocol):
    """State of a direction that `sharpness_aware(..., refresh_every=k)` can reuse.

    A direction can be reused if its state has the attribute `direction`, and its `update` takes the
    keyword `fresh`, a bool scalar. Where `fresh` is False there is no new gradient. `update` must
    then ignore `updates`, return `state.direction`, and leave its memory unchanged.
    `suppress_variance` and `remember` do so. Your own direction needs nothing else:

        class State(NamedTuple):
            direction: optax.Updates

        def update(updates, state, params=None, *, fresh=True, **extra_args):
            d = jnp.where(fresh, ..., state.direction)
            return d, State(d)

        mine = optax.GradientTransformationExtraArgs(init, update)

    Transforms before it in a chain must honour `fresh` as well, if they have a memory (`friendly`
    does; `optax.ema` does not, see `remember`). The same is true of a geometry that reads `clean`.
    `init` of `sharpness_aware` tries the perturbation on a few numbers, and refuses it if eps or
    the new state depends on the gradient where `fresh` is False.

    Attributes:
        direction: the last direction, with structure and shapes of the parameters.
    """

    @property
    def direction(self) -> optax.Updates: ...


class RememberState(NamedTuple):
    """State of `remember`: a `RemembersDirection`.

    Attributes:
        inner: state of the transform inside.
        direction: its last updates, zero before the first: structure, shapes, dtype and sharding as
            `SuppressVarianceState.direction`.
    """

    inner: optax.OptState
    direction: optax.Updates


def remember(
    direction: optax.GradientTransformation, *, accumulator_dtype: Any = None
) -> optax.GradientTransformationExtraArgs:
    """Keeps the last direction of any transform, so that it can be reused.

        d_t = direction(g_t)    if g_t is a new gradient, and finite
        d_t = d_{t-1}           otherwise

    Any optax transform can then be the direction under `refresh_every`. Without a new gradient, or
    with one that is not finite, the state of the transform is left unchanged. So its counters and
    schedules count new gradients, not steps. `remember(optax.identity())` is the same as
    `suppress_variance(1.0)`, SAM's direction.

    Args:
        direction: transform from the clean gradient to the direction, such as `optax.ema(0.9)`.
        accumulator_dtype: dtype in which the direction is kept; see `suppress_variance`.

    Returns:
        A transform whose updates are d, and whose state is a `RememberState`: one copy of the
        parameters, and the state of `direction`.

    Raises:
        TypeError: `direction` is not an optax transform.
        ValueError: the dtype is not a floating-point one.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from vasso_jax.optim import l2_ball, remember, sharpness_aware
        >>> direction = remember(optax.ema(0.9))
        >>> state = direction.init(jnp.zeros(2))
        >>> d, state = direction.update(jnp.array([1.0, 0.0]), state)
        >>> d, state = direction.update(jnp.array([0.0, 7.0]), state, fresh=False)
        >>> print(d.round(3))
        [1. 0.]
        >>> gradient = sharpness_aware(optax.chain(direction, l2_ball(0.1)), refresh_every=5)
    """
    check_dtype("accumulator_dtype", accumulator_dtype)
    inner = optax.with_extra_args_support(check_transform("direction", direction))

    def init(params: optax.Params) -> RememberState:
        return RememberState(inner.init(params), zeros(params, accumulator_dtype))

    def update(
        updates: optax.Updates,
        state: Any,
        params: optax.Params | None = None,
        *,
        fresh: jax.Array | bool = True,
        **extra_args: Any,
    ) -> tuple[optax.Updates, RememberState]:
        taken = all_finite(updates) & fresh
        new, new_inner = inner.update(updates, state.inner, params, **extra_args)
        old = widened(state.direction)
        d = select(taken, cast_like(new, old), old)
        inner_state = select(taken, new_inner, state.inner)
        return d, RememberState(inner_state, cast_like(d, state.direction))

    return optax.GradientTransformationExtraArgs(init, update)


def kept_direction(state: Any) -> optax.Updates | None:
    """The direction in the state of an optimizer whose perturbation remembers it.

    Args:
        state: of any optax transform.

    Returns:
        The attribute `direction` of the last `RemembersDirection` in it; None if there is none.
    """

    def remembers(node: Any) -> bool:
        return isinstance(node, RemembersDirection)

    found = list(filter(remembers, jax.tree.leaves(state, is_leaf=remembers)))
    return found[-1].direction if found else None


def cosine(a: Any, b: Any) -> jax.Array:
    """The cosine between two directions, or other pytrees of one structure, taken as vectors.

    Returns:
        float32 scalar, or wider as the leaves are; 0 where one of the two vanishes.
    """
    return norm_and_cosine(widened(a), widened(b))[1]


def check_memory(
    perturbation: optax.GradientTransformationExtraArgs,
    state: optax.OptState,
    params: optax.Params,
    who: str,
) -> None:
    """Raises ValueError unless a perturbation with this state can do without a new gradient.

    `who` asks for it, for the message.
    """

    def has_memory(node: Any) -> bool:
        return isinstance(node, RemembersDirection) and _is_like(node.direction, params)

    if not any(map(has_memory, jax.tree.leaves(state, is_leaf=has_memory))):
        raise ValueError(
            f"{who} needs a perturbation that remembers its direction: put "
            "suppress_variance(theta) before the ball, with theta=1.0 for SAM, or remember(...) "
            "around any other direction, as in "
            "optax.chain(remember(optax.ema(0.9)), l2_ball(0.1))"
        )
    if _takes_stale_gradients(perturbation, params):
        raise ValueError(
            f"{who} needs a perturbation that ignores the gradient where `fresh` is False, "
            "and a part of this one does not: put remember(...) around the whole direction, as in "
            "optax.chain(remember(optax.chain(optax.ema(0.9), suppress_variance(0.4))), "
            "l2_ball(0.1)), or see RemembersDirection for a part of your own"
        )


def _takes_stale_gradients(
    perturbation: optax.GradientTransformationExtraArgs, params: optax.Params
) -> bool:
    """Whether eps or the new state depends on the gradient where there is no new one.

    The state does not tell, so a trial decides. It uses parameters of one number per leaf, since
    those of the user may be large, or may be traced. Any exception means no: a trial that fails,
    for example because the user passes further arguments to `update`, decides nothing.
    """

    def small(leaf: Any) -> jax.Array:
        return jnp.ones([min(size, 1) for size in jnp.shape(leaf)], jnp.result_type(leaf))

    def trial(fresh: bool, grads: optax.Updates, state: optax.OptState) -> tuple[Any, Any]:
        return perturbation.update(grads, state, w, clean=grads, fresh=jnp.array(fresh))

    try:
        with jax.ensure_compile_time_eval():
            w, numbers = tree_map(small, params), itertools.count(1)
            _, state = trial(True, w, perturbation.init(w))
            # Zeros stand in for a clean gradient that is not evaluated.
            one = trial(False, tree_map(lambda leaf: 0 * leaf, w), state)
            other = trial(False, tree_map(lambda leaf: -next(numbers) * leaf, w), state)
            return not all(jax.tree.leaves(tree_map(_same, one, other)))
    except Exception:
        return False


def _same(a: Any, b: Any) -> bool:
    """Whether two arrays are equal, where NaN equals NaN."""
    return bool(jnp.all((a == b) | ((a != a) & (b != b))))


def _is_like(direction: Any, params: optax.Params) -> bool:
    """Whether it has the shapes of the parameters, except for those hidden by `optax.masked`."""

    def is_masked(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    def same_shape(d: Any, p: Any) -> bool:
        return is_masked(d) or getattr(d, "shape", None) == getattr(p, "shape", ...)

    try:
        return all(jax.tree.leaves(tree_map(same_shape, direction, params, is_leaf=is_masked)))
    except (TypeError, ValueError):  # another structure
        return False
