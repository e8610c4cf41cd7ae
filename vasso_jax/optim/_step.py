# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""What all sharpness-aware transforms share: their state, and how a step becomes a transform."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import check_update
from vasso_jax.optim._asking import ASK, TRIAL, Reported
from vasso_jax.optim._equations import moved
from vasso_jax.optim._evaluation import Evaluate, Passes, Results, as_evaluate, mean_over
from vasso_jax.optim._numerics import cosine, global_norm, increment, zero_count
from vasso_jax.optim._typed import tree_map


class SharpnessAwareState(NamedTuple):
    """State of `sharpness_aware`, `m_sharpness_aware` and `look_sharpness_aware`.

    Attributes:
        count: int32 scalar, steps taken.
        reuses_left: int32 scalar, the number of further steps that reuse the last direction
            (`refresh_every`) or g_v (`look_every`); otherwise always 0.
        perturbation: state of the perturbation chain, which contains VaSSO's average.
        memory: what is kept of the last perturbed gradient: LookSAM's g_v, otherwise ().
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


# (evaluate, clean gradient or None, state, params, extra_args) -> (passes, updates, new_state).
# A pure function. With None it evaluates the clean gradient itself, when it needs it.
Step = Callable[
    [Evaluate, Any, SharpnessAwareState, optax.Params, dict[str, Any]],
    tuple[Passes, optax.Updates, SharpnessAwareState],
]


def as_transform(init: optax.TransformInitFn, step: Step) -> optax.GradientTransformationExtraArgs:
    """The transform of a step: it checks the arguments, evaluates `grad_fn` and counts."""

    def update(
        updates: Any, state: Any, params: Any = None, *, grad_fn: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, Any]:
        if updates is TRIAL:
            return params, Reported(state, None)
        check_update(params, grad_fn)
        asked = updates is ASK
        evaluate = as_evaluate(grad_fn)
        given = None if asked else updates
        passes, new_updates, new_state = step(evaluate, given, state, params, extra_args)
        new_state = new_state._replace(count=increment(state.count))
        return new_updates, Reported(new_state, passes) if asked else new_state

    return optax.GradientTransformationExtraArgs(init, update)


def perturb(
    perturbation: optax.GradientTransformationExtraArgs,
    clean: optax.Updates,
    state: optax.OptState,
    params: optax.Params,
    extra_args: dict[str, Any],
) -> tuple[optax.Params, optax.OptState]:
    """w + eps for the clean gradient, and the new state of the perturbation."""
    eps, new_state = perturbation.update(clean, state, params, clean=clean, **extra_args)
    return moved(params, eps), new_state


def whole_batch(
    evaluate: Evaluate, microbatches: int
) -> Callable[[optax.Params], tuple[optax.Updates, Results]]:
    """The mean gradient of all microbatches, and their results, as a function of the parameters."""
    return lambda params: mean_over(lambda i: evaluate(params, i), microbatches)


def next_reuses(left: jax.Array, renewed: jax.Array, every: Any) -> jax.Array:
    """`reuses_left` after a step. If the renewal failed, the next step tries again."""
    return jnp.where(renewed, every - 1, jnp.maximum(left - 1, 0)).astype(jnp.int32)


def realised(
    grads: optax.Updates, params: optax.Params, perturbed: optax.Params
) -> tuple[jax.Array, jax.Array]:
    """Norm of the perturbation after rounding, and its cosine to the clean gradient (float32)."""
    eps = tree_map(jnp.subtract, perturbed, params)
    norm = global_norm(eps)
    return norm.astype(jnp.float32), cosine(grads, eps, norm).astype(jnp.float32)
