# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""LookSAM: a perturbed pass every k-th step only, whose result is reused in between."""

from typing import Any

import optax

from vasso_jax.optim._arguments import (
    ScalarOrSchedule,
    check_count,
    check_dtype,
    check_range,
    check_transform,
    value_at,
)
from vasso_jax.optim._asking import Needs
from vasso_jax.optim._evaluation import Evaluate, Evaluated, Passes, evaluation, if_needed
from vasso_jax.optim._numerics import (
    add_scaled,
    all_finite,
    cast_like,
    global_norm,
    orthogonal_part,
    ratio,
    select,
    zeros,
)
from vasso_jax.optim._step import (
    SharpnessAwareState,
    as_transform,
    initial_state,
    next_reuses,
    perturb,
    realised,
    report,
    whole_batch,
)


def look_sharpness_aware(
    perturbation: optax.GradientTransformation,
    *,
    alpha: ScalarOrSchedule = 0.7,
    look_every: int = 5,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformationExtraArgs:
    """Takes the perturbed gradient every k-th step, and imitates it in the steps between.

        every k-th step:  g_s = grad L(w + eps),  eps = perturbation(g)
                          g_v = g_s - <g_s, g> / ||g||^2  g,      updates = g_s
        else:             updates = g + alpha ||g|| / ||g_v||  g_v

    g_v, the part of the perturbed gradient orthogonal to the clean one, is what leads to flat
    regions, and it changes slowly. Here the clean pass is made at every step and the perturbed one
    is saved; `sharpness_aware(refresh_every=k)` does the opposite. Calling convention and
    microbatches are those of `sharpness_aware`.

    Where g_s or g is not finite, g_v is left unchanged, and the next step tries again. g_v is zero
    before the first step.

    Args:
        perturbation: see `sharpness_aware`; it sees the clean gradient of every step.
        alpha: norm of the reused part relative to ||g||, >= 0, or a schedule of the step.
        look_every: k >= 1; 1 is SAM.
        microbatches: see `sharpness_aware`.
        accumulator_dtype: dtype in which g_v is kept; None: the parameters', at least float32.

    Returns:
        A transform with extra arguments; its state is a `SharpnessAwareState`, whose `memory` is
        g_v: one copy of the parameters. 1 + 1/k gradient evaluations per step, the clean one
        included.

    Raises:
        TypeError: `perturbation` is not an optax transform.
        ValueError: an argument is out of range; (from `update`) `params` or `grad_fn` is missing.

    References:
        Liu et al., Towards Efficient and Scalable Sharpness-Aware Minimization, CVPR 2022,
        algorithm 1, https://arxiv.org/abs/2203.02714

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np
        >>> from vasso_jax.optim import l2_ball, look_sharpness_aware
        >>> grad_fn = jax.grad(lambda w, i: 0.5 * (w[0]**2 + 2 * w[1]**2))
        >>> tx = look_sharpness_aware(l2_ball(0.5), alpha=1.0, look_every=2)
        >>> w = jnp.array([2.0, 0.75])
        >>> looked, state = tx.update(grad_fn(w, 0), tx.init(w), w, grad_fn=grad_fn)
        >>> print(looked)
        [2.4 2.1]
        >>> imitated, state = tx.update(grad_fn(w, 0), state, w, grad_fn=grad_fn)
        >>> print(np.asarray(imitated).round(3))
        [0.5 3.5]
    """
    check_transform("perturbation", perturbation)
    check_range("alpha", alpha, 0.0)
    check_count("look_every", look_every)
    check_count("microbatches", microbatches, static=True)
    check_dtype("accumulator_dtype", accumulator_dtype)
    perturbation = optax.with_extra_args_support(perturbation)
    parts = microbatches or 1

    def init(params: optax.Params) -> SharpnessAwareState:
        return initial_state(perturbation.init(params), zeros(params, accumulator_dtype))

    def step(
        evaluate: Evaluate,
        given: Evaluated | None,
        state: SharpnessAwareState,
        params: optax.Params,
        extra_args: dict[str, Any],
    ) -> tuple[Passes, optax.Updates, SharpnessAwareState]:
        gradient = whole_batch(evaluate, parts)
        look = state.reuses_left == 0

        clean, clean_results = given or gradient(params)
        w_eps, perturbed = perturb(perturbation, clean, state.perturbation, params, extra_args)
        grads, results = if_needed(look, gradient, w_eps)

        part = orthogonal_part(grads, clean)
        usable = look & all_finite(part)
        memory = select(usable, cast_like(part, state.memory), state.memory)
        length = value_at(alpha, state.count) * ratio(global_norm(clean), global_norm(state.memory))
        imitated = add_scaled(clean, length, state.memory)

        new_state = state._replace(
            reuses_left=next_reuses(state.reuses_left, usable, look_every),
            perturbation=perturbed,
            memory=memory,
        )
        passes = report(
            evaluation(True, clean_results, parts),
            evaluation(look, results, parts),
            *realised(clean, params, w_eps),
            all_finite(clean),
        )
        return passes, select(look, grads, imitated), new_state

    return as_transform(init, step, Needs("always", parts))
