# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""What all sharpness-aware transforms share: their state, and how a step becomes a transform."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import check_gradient, check_update
from vasso_jax.optim._asking import TRIAL, Ask, Needs, Reported
from vasso_jax.optim._equations import moved
from vasso_jax.optim._evaluation import (
    NO_RESULTS,
    Evaluate,
    Evaluated,
    Evaluation,
    Passes,
    as_evaluate,
    mean_over,
)
from vasso_jax.optim._numerics import increment, norm_and_cosine, without_float0, zero_count
from vasso_jax.optim._typed import tree_map


class SharpnessAwareState(NamedTuple):
    """State of `sharpness_aware`, and of its single-pass, m- and look- relatives.

    Attributes:
        count: int32 scalar, steps taken.
        reuses_left: int32 scalar, the number of further steps that reuse the last direction
            (`refresh_every`) or g_v (`look_every`); otherwise always 0.
        perturbation: state of the perturbation chain, which contains VaSSO's average.
        memory: what is kept of the last perturbed gradient: LookSAM's g_v, otherwise ().
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]  (optax's name)
    reuses_left: jax.Array
    perturbation: optax.OptState
    memory: Any


def initial_state(perturbation: optax.OptState, memory: Any = ()) -> SharpnessAwareState:
    """The state before the first step."""
    return SharpnessAwareState(zero_count(), zero_count(), perturbation, memory)


# (evaluate, clean gradient or None, state, params, extra_args) -> (passes, updates, new_state).
# A pure function. With None it evaluates the clean gradient itself, when it needs it.
Step = Callable[
    [Evaluate, Evaluated | None, SharpnessAwareState, optax.Params, dict[str, Any]],
    tuple[Passes, optax.Updates, SharpnessAwareState],
]


def as_transform(
    init: optax.TransformInitFn,
    step: Step,
    needs: Needs,
    updates_like: Callable[[optax.Params], Any] = lambda params: params,
) -> optax.GradientTransformationExtraArgs:
    """The transform of a step: it checks the arguments, evaluates `grad_fn` and counts.

    `updates_like` makes of the parameters what looks like its updates.
    """

    def init_moving(params: optax.Params) -> optax.OptState:
        return init(moving(params))

    def update(
        updates: Any, state: Any, params: Any = None, *, grad_fn: Any = None, **extra_args: Any
    ) -> tuple[optax.Updates, Any]:
        at = moving(params)
        if updates is TRIAL:
            return updates_like(at), Reported(state, needs)
        check_update(at, grad_fn)
        asked = isinstance(updates, Ask)
        clean = updates.clean if asked else given(updates, at)
        evaluate = as_evaluate(grad_fn, needs.microbatches)
        passes, new_updates, new_state = step(evaluate, clean, state, at, extra_args)
        new_state = new_state._replace(count=increment(state.count))
        return new_updates, Reported(new_state, passes) if asked else new_state

    return optax.GradientTransformationExtraArgs(init_moving, update)


def given(grads: optax.Updates | None, params: optax.Params) -> Evaluated | None:
    """A clean gradient that the user has evaluated; None if there is none.

    `flax.nnx.Optimizer.update(model, None, ...)` makes an empty gradient of None.
    """
    if grads is None or (not jax.tree.leaves(grads) and jax.tree.leaves(params)):
        return None
    check_gradient("the gradient", grads, params)
    return without_float0(grads), NO_RESULTS


def moving(params: Any) -> Any:
    """The parameters at which gradients are taken: the fast ones, if the base is a lookahead."""
    return params.fast if isinstance(params, optax.LookaheadParams) else params


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


def whole_batch(evaluate: Evaluate, microbatches: int) -> Callable[[optax.Params], Evaluated]:
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
    norm, cosine = norm_and_cosine(grads, eps)
    return norm.astype(jnp.float32), cosine.astype(jnp.float32)


def report(
    clean: Evaluation,
    perturbed: Evaluation,
    norm: jax.Array,
    cosine: jax.Array,
    is_finite: jax.Array | bool = True,
) -> Passes:
    """The `Passes` of a step, where the facts of a pass that was not made are NaN."""
    norm = jnp.where(perturbed.taken, norm, jnp.nan)
    cosine = jnp.where(clean.taken & perturbed.taken, cosine, jnp.nan)
    return Passes(clean, perturbed, norm, cosine, jnp.asarray(is_finite))
