# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""What all sharpness-aware transforms share: their state, and how a step becomes a transform."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._evaluation import (
    Evaluate,
    Found,
    GradFn,
    LossGradFn,
    Passes,
    as_evaluate,
)
from vasso_jax.optim._numerics import global_norm, ratio, vdot, zero_count
from vasso_jax.optim._typed import tree_map


class SharpnessAwareState(NamedTuple):
    """State of `sharpness_aware`, `m_sharpness_aware` and `look_sharpness_aware`.

    Attributes:
        count: int32 scalar, steps taken.
        reuses_left: int32 scalar, for how many steps what was found is reused before the pass that
            finds it is made again: of `refresh_every` and `look_every`, else always 0.
        perturbation: state of the perturbation chain (VaSSO's average is in there).
        memory: what is kept of the last perturbed gradient: LookSAM's g_v, else ().
        perturbation_norm: float32 scalar, ||(w + eps) - w|| as realised in the parameters' dtype at
            the last step.
        cosine: float32 scalar, cosine between the clean gradient and the realised perturbation at
            the last step that had a clean pass: for an L2 ball, between the gradient and the
            direction. 0 where either vanishes.

    With one perturbation per microbatch or device, the last two are means over these.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (optax's name)
    reuses_left: jax.Array
    perturbation: optax.OptState
    memory: Any
    perturbation_norm: jax.Array
    cosine: jax.Array


def initial_state(perturbation: optax.OptState, memory: Any = ()) -> SharpnessAwareState:
    """The state before the first step."""
    norm, cosine = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)
    return SharpnessAwareState(zero_count(), zero_count(), perturbation, memory, norm, cosine)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a step returns: the updates, the new state, and what its two passes found."""

    updates: optax.Updates
    state: SharpnessAwareState
    clean: Found
    perturbed: Found


# (evaluate, clean gradient or None, state, params, extra arguments) -> Result
Step = Callable[
    [Evaluate, optax.Updates | None, SharpnessAwareState, optax.Params, Mapping[str, Any]], Result
]


class _Reporting(NamedTuple):
    """The new state of a step that was asked for its passes, in the place of the state alone."""

    state: SharpnessAwareState
    passes: Passes


class _Arrived(Exception):
    """The probe of `asks` has reached a sharpness-aware transform."""


_PROBE: Any = object()


def as_transform(
    init: Callable[[optax.Params], SharpnessAwareState], step: Step, microbatches: int
) -> optax.GradientTransformationExtraArgs:
    """The optax transform of a step."""

    def update(
        updates: optax.Updates | None,
        state: Any,
        params: optax.Params | None = None,
        *,
        grad_fn: GradFn | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, Any]:
        if updates is _PROBE:
            raise _Arrived
        w, grad_fn = _required(params, grad_fn)
        result = step(as_evaluate(grad_fn), updates, state, w, extra_args)
        if updates is not None or not isinstance(grad_fn, LossGradFn):
            return result.updates, result.state
        passes = (found.evaluation(microbatches) for found in (result.clean, result.perturbed))
        return result.updates, _Reporting(result.state, Passes(*passes))

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def asks(update: Callable[..., Any], state: optax.OptState, params: optax.Params) -> bool:
    """Whether what `update` is given reaches a sharpness-aware transform as it is.

    Then that transform can be given None, and asks for its gradients itself. A probe that is no
    gradient finds out: whatever would change a gradient on the way fails on it. Nothing is
    computed, and no loss is traced.
    """
    try:
        update(_PROBE, state, params, grad_fn=_PROBE)
    except _Arrived:
        return True
    except Exception:  # any transform may fail in its own way; the real call comes after this
        return False
    return False


def take_passes(state: optax.OptState) -> tuple[Passes, optax.OptState]:
    """The passes that an update with a `LossGradFn` has left in its state, and the state itself."""

    def is_reporting(node: Any) -> bool:
        return isinstance(node, _Reporting)

    nodes = jax.tree.leaves(state, is_leaf=is_reporting)
    passes: Passes = next(node.passes for node in nodes if is_reporting(node))

    def plain(node: Any) -> Any:
        return node.state if is_reporting(node) else node

    return passes, tree_map(plain, state, is_leaf=is_reporting)


def next_reuses(left: jax.Array, renewed: jax.Array, every: Any) -> jax.Array:
    """`reuses_left` after a step; where nothing usable was found, the next step tries again."""
    return jnp.where(renewed, every - 1, jnp.maximum(left - 1, 0)).astype(jnp.int32)


def _required(params: optax.Params | None, grad_fn: GradFn | None) -> tuple[optax.Params, GradFn]:
    """Both arguments, or a ValueError that names the missing one."""
    if params is None or grad_fn is None:
        missing = "params" if params is None else "grad_fn"
        raise ValueError(
            f"a sharpness-aware update needs {missing}: call tx.update(grads, state, params, "
            "grad_fn=grad_fn) with grad_fn(params, i) -> gradients of the same minibatch"
        )
    return params, grad_fn


def realised(
    grads: optax.Updates, params: optax.Params, perturbed: optax.Params
) -> tuple[jax.Array, jax.Array]:
    """Norm of the perturbation after rounding, and its cosine to the clean gradient (float32)."""
    eps = tree_map(jnp.subtract, perturbed, params)
    norm = global_norm(eps)
    cosine = ratio(vdot(grads, eps), global_norm(grads) * norm)
    return norm.astype(jnp.float32), cosine.astype(jnp.float32)
