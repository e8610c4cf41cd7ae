# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Arguments: their checks, numbers that may follow a schedule, windows."""

import inspect
import numbers
from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

_Transform = TypeVar("_Transform", bound=optax.GradientTransformation)

ScalarOrSchedule = optax.ScalarOrSchedule


# What feeds the direction: clean gradients, or the perturbed ones that make the steps.
Refresh = Literal["clean", "descent"]

# The steps at which parameters are perturbed: (start, end), end None for no end, or a function of
# the step that returns a bool scalar.
Window = tuple[int, int | None] | Callable[[jax.Array], jax.Array | bool]


def check_range(
    name: str,
    value: ScalarOrSchedule,
    low: float,
    high: float | None = None,
    *,
    schedule: bool = True,
    half_open: bool = False,
) -> None:
    """Raises ValueError unless `value` is a number in [low, high], or a `schedule`.

    With `half_open` it must be below `high`.

    Traced arrays, as under `optax.inject_hyperparams`, have no value yet and pass unread.
    """
    if isinstance(value, Tracer) or (schedule and callable(value)):
        return
    allowed = f">= {low}" if high is None else f"in [{low}, {high}{')' if half_open else ']'}"
    number = _scalar(value)
    in_range = (
        isinstance(number, numbers.Real | bool)
        and not isinstance(number, bool)
        and low <= float(number) <= (float("inf") if high is None else high)
        and float(number) != float("inf")
        and not (half_open and float(number) == high)
    )
    if not in_range:
        otherwise = " or an optax schedule" if schedule else ""
        raise ValueError(f"{name} must be a number {allowed}{otherwise}, got {value!r}")


def _scalar(value: Any) -> Any:
    """The number in an array of NumPy or JAX that has no axes; anything else as it is."""
    kinds: Any = (jax.Array, np.ndarray, np.generic)
    traced: Any = Tracer
    is_known = isinstance(value, kinds) and not isinstance(value, traced)
    return value.item() if is_known and value.ndim == 0 else value


def check_count(name: str, value: Any, *, static: bool = False) -> None:
    """Raises ValueError unless `value` is None, an integer >= 1, or traced where not `static`.

    Traced arrays pass unread, as in `check_range`; a static count must be known while tracing.
    """
    if value is None or (isinstance(value, Tracer) and not static):
        return
    hint = ""
    count: Any = _scalar(value)
    if isinstance(value, jax.Array) and static:
        count = None
        hint = f" (under optax.inject_hyperparams, name it in static_args=({name!r},))"
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}{hint}")


def check_window(active: Window | None) -> None:
    """Raises ValueError unless `active` is None, a function, or a pair of steps in order."""
    if active is None or callable(active):
        return
    pair = [_scalar(bound) for bound in active] if np.ndim(cast(Any, active)) == 1 else []
    start, end = pair if len(pair) == 2 else (-1, None)

    def is_step(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0

    if not is_step(start) or not (end is None or (is_step(end) and end > start)):
        raise ValueError(
            "active must be (start, end), two numbers of steps with 0 <= start < end (None: no "
            f"end), or a function of the step, got {active!r}; under optax.inject_hyperparams, "
            "name it in static_args=('active',)"
        )


def in_window(active: Window | None, count: jax.Array) -> Any:
    """Whether step `count` is in the window: a bool scalar, or Python's True if every step is."""
    if active is None:
        return True
    if callable(active):
        return jnp.asarray(active(count), bool)
    start, end = active
    return (count >= start) & (True if end is None else count < end)


def check_dtype(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is None or a floating-point dtype."""
    if value is not None and not jnp.issubdtype(value, jnp.floating):
        raise ValueError(
            f"{name} must be a floating-point dtype such as jnp.bfloat16, got {value!r}"
        )


def check_choice(name: str, value: str, first: str, second: str) -> None:
    """Raises ValueError unless `value` is one of the two."""
    if value not in (first, second):
        raise ValueError(f"{name} must be {first!r} or {second!r}, got {value!r}")


def check_transform(name: str, transform: _Transform) -> _Transform:
    """`transform`, or TypeError if it lacks the `init` and `update` of an optax transform."""
    if not (hasattr(transform, "init") and hasattr(transform, "update")):
        raise TypeError(
            f"{name} must be an optax transform such as optax.sgd(0.1), got {transform!r}"
        )
    return transform


def check_params(name: str, params: Any) -> None:
    """Raises ValueError if `update` was called without the parameters."""
    if params is None:
        raise ValueError(f"{name} needs the parameters: update(d, state, params)")


def check_update(params: Any, grad_fn: Any) -> None:
    """Raises ValueError if an argument that a sharpness-aware `update` needs is None."""
    if params is None or grad_fn is None:
        missing = "params" if params is None else "grad_fn"
        raise ValueError(
            f"a sharpness-aware update needs {missing}: call tx.update(grads, state, params, "
            "grad_fn=grad_fn) with grad_fn(params, i) -> gradients of the same minibatch. Flax's "
            "TrainState.apply_gradients and wrappers such as optax.lookahead do not hand grad_fn "
            "on: call state.tx.update(...) yourself, and put the wrapper around the base, as in "
            "sam(optax.lookahead(optax.sgd(0.1), 5, 0.5))"
        )


def indexed(name: str, function: Callable[..., Any], microbatches: int) -> Callable[..., Any]:
    """`function` as one of `(params, i, ...)`, if it is one of `(params, ...)`.

    Its signature decides. Where that allows both, it is one of `(params, i, ...)`, and an exception
    of its own gets a note that says so.

    Raises:
        ValueError: (from the call) it has no argument for the microbatch, and there are several.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return function

    def binds(*args: Any, **kwargs: Any) -> bool:
        try:
            signature.bind(*args, **kwargs)
        except TypeError:
            return False
        return True

    def with_index(params: Any, i: Any, *args: Any, **kwargs: Any) -> Any:
        if not binds(params, *args, **kwargs):
            return function(params, i, *args, **kwargs)
        if binds(params, i, *args, **kwargs):
            try:
                return function(params, i, *args, **kwargs)
            except Exception as error:
                error.add_note(
                    f"{name}{signature} was called as {name}(params, i, ...), where i, the index "
                    f"of the microbatch, is {i}: give it such an argument after the parameters"
                )
                raise
        if microbatches > 1:
            raise ValueError(
                f"{name}{signature} must take i, the index of the microbatch, after the "
                f"parameters, as there are {microbatches} of them"
            )
        return function(params, *args, **kwargs)

    return with_index


def check_alone(refresh_every: Any, descent: Any, ascent_steps: Any) -> None:
    """Raises ValueError if `refresh_every` is given with one of the others."""
    if refresh_every is not None and ascent_steps is not None:
        raise ValueError(
            "refresh_every cannot be combined with ascent_steps, whose moves need gradients of "
            "their own at every step"
        )
    if refresh_every is not None and descent is not None:
        raise ValueError(
            "refresh_every cannot be combined with descent, which needs the clean gradient of "
            "every step"
        )


def check_gradient(what: str, grads: Any, params: Any) -> None:
    """Raises ValueError unless a gradient has the structure and the shapes of the parameters."""
    hint = " (use jax.grad, not jax.value_and_grad)" if isinstance(grads, tuple) else ""
    if jax.tree.structure(grads) != jax.tree.structure(params):
        raise ValueError(
            f"{what} must have the structure of the parameters, {jax.tree.structure(params)}, not "
            f"{jax.tree.structure(grads)}{hint}"
        )
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(grads)]
    wanted = [np.shape(leaf) for leaf in jax.tree.leaves(params)]
    if shapes != wanted:
        raise ValueError(f"{what} must have the shapes of the parameters, {wanted}, not {shapes}")


def check_aux(aux: Any, otherwise: Any) -> None:
    """Raises ValueError unless both have the same structure and shapes."""
    has, wanted = jax.tree.map(jnp.shape, (aux, otherwise))
    if has != wanted:
        raise ValueError(
            f"aux is {has}, and the alternative {wanted}: with microbatches, average aux over its "
            "leading axis first"
        )


def value_at(value: ScalarOrSchedule, count: jax.Array) -> jax.Array:
    """The hyperparameter at step `count` (int32 scalar), as a scalar array."""
    return jnp.asarray(value(count) if callable(value) else value)
