# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The step that sharpness-aware methods share: replace g(w) by the gradient at w + eps."""

from typing import Any

import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import (
    Window,
    check_alone,
    check_count,
    check_transform,
    check_window,
    in_window,
)
from vasso_jax.optim._asking import Needs
from vasso_jax.optim._descent import DescentRule, perturbed_gradient
from vasso_jax.optim._evaluation import (
    Evaluate,
    Evaluated,
    Passes,
    evaluation,
    if_needed,
    zeros_of,
)
from vasso_jax.optim._memory import check_memory
from vasso_jax.optim._numerics import all_finite, cast_like
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
from vasso_jax.optim._typed import lax


def sharpness_aware(
    perturbation: optax.GradientTransformation,
    *,
    descent: DescentRule | None = None,
    refresh_every: int | None = None,
    active: Window | None = None,
    ascent_steps: int | None = None,
    microbatches: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Replaces the clean gradient at w by the gradient at the perturbed parameters w + eps.

        eps     = perturbation(grad L(w))
        updates = grad L(w + eps),  or descent(grad L(w), grad L(w + eps))

    Put it first in an `optax.chain`. What follows (clipping, weight decay, the base optimizer) sees
    these updates and the unperturbed parameters w.

    **Calling convention.** `update(grads, state, params, grad_fn=grad_fn)`, where `grad_fn(params,
    i)` is the gradient of microbatch i (always 0 without `microbatches`) of the same batch: the
    convention of `optax.contrib.sam(opaque_mode=True)`. With None in place of `grads` the optimizer
    asks `grad_fn` for the clean gradient when it needs it; transforms that precede it in a chain
    then do not see that gradient. `value_and_update` also returns loss values and aux.

    **Reuse.** With `refresh_every=k` the direction is renewed by every k-th clean gradient only and
    reused in between. `perturbation` must remember it, and no part of it may use the gradient of
    the steps between: see `remember`, which makes any direction do so. With None for `grads` the
    clean pass of these steps is not made, which leaves 1 + 1/k evaluations per step. Where a clean
    gradient that was due is not finite, the next step tries again. (Under `vmap` a conditional
    becomes a selection, and nothing is saved.)

    **Window.** With `active=(start, end)` parameters are perturbed at the steps start <= t < end
    only. At the others the updates are the clean gradient and the perturbed pass is not made, so
    that a step costs what it costs the base. The perturbation sees every clean gradient all the
    same: at the first step of the window VaSSO's average is that of all gradients so far, and
    schedules are read at the step.

    **Ascent steps.** With `ascent_steps=n` the perturbation is made of n moves, each along the
    gradient where the last one ended: eps = eps_1 + .. + eps_n, at most n rho long, with n + 1
    evaluations per step. All moves start from the memory as it was before the step, and it is
    updated with the clean gradient alone.

    **Microbatches.** With `microbatches=m` every pass is the mean of m evaluations, i = 0 .. m - 1,
    one after the other, so that a large batch need not fit into memory at once. There is one
    perturbation, that of the whole batch, and `grads` must be the mean of the m gradients. For one
    perturbation per microbatch see `m_sharpness_aware`.

    Args:
        perturbation: transform from the clean gradient to eps, such as
            `optax.chain(suppress_variance(0.4), l2_ball(0.1))`. It gets the extra keyword arguments
            of `update`, and `clean`, the clean gradient.
        descent: rule for the updates, such as `surrogate_gap(alpha)`; None: the perturbed gradient.
        refresh_every: k >= 1; None is 1. Cannot be combined with `descent` or `ascent_steps`.
        active: (start, end) in steps, end None for no end; or a function of the step (int32 scalar)
            that returns a bool scalar; None: always.
        ascent_steps: n >= 1; None is 1.
        microbatches: m >= 1; None is 1.

    Returns:
        A transform with extra arguments; its state is a `SharpnessAwareState`. It costs
        `ascent_steps` evaluations of `grad_fn` per step beside the clean one, and no memory beside
        that of `perturbation`.

    Raises:
        TypeError: `perturbation` is not an optax transform.
        ValueError: a count is not an int >= 1, the window is empty, or `refresh_every` is given
            with `descent` or `ascent_steps`; (from `init`) `refresh_every` without a memory, or
            with a part that uses stale gradients; (from `update`) `params` or `grad_fn` missing.

    References:
        Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization,
        ICLR 2021, algorithm 1, https://arxiv.org/abs/2010.01412. A window at the end: Zhou et al.,
        Sharpness-Aware Minimization Efficiently Selects Flatter Minima Late in Training, ICLR 2025,
        https://arxiv.org/abs/2410.10373

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from vasso_jax.optim import l2_ball, sharpness_aware
        >>> grad_fn = jax.grad(lambda w, i: 0.5 * jnp.sum(w**2))
        >>> tx = optax.chain(sharpness_aware(l2_ball(rho=0.5)), optax.sgd(1.0))
        >>> w = jnp.array([3.0, 4.0])
        >>> updates, _ = tx.update(grad_fn(w, 0), tx.init(w), w, grad_fn=grad_fn)
        >>> print(updates)
        [-3.3 -4.4]
    """
    check_transform("perturbation", perturbation)
    check_count("microbatches", microbatches, static=True)
    check_count("ascent_steps", ascent_steps, static=True)
    check_count("refresh_every", refresh_every)
    check_alone(refresh_every, descent, ascent_steps)
    check_window(active)
    perturbation = optax.with_extra_args_support(perturbation)
    descent = descent or perturbed_gradient
    parts = microbatches or 1

    def init(params: optax.Params) -> SharpnessAwareState:
        state = perturbation.init(params)
        if refresh_every is not None:
            check_memory(perturbation, state, params, "refresh_every")
        return initial_state(state)

    def step(
        evaluate: Evaluate,
        given: Evaluated | None,
        state: SharpnessAwareState,
        params: optax.Params,
        extra_args: dict[str, Any],
    ) -> tuple[Passes, optax.Updates, SharpnessAwareState]:
        gradient = whole_batch(evaluate, parts)
        is_open = in_window(active, state.count)
        fresh: Any = True
        if refresh_every is not None:
            fresh = (state.reuses_left == 0) | jnp.logical_not(is_open)
            extra_args = extra_args | {"fresh": fresh}
        clean, clean_results = given or if_needed(fresh, gradient, params)
        before = state.perturbation

        def both_passes() -> tuple[Any, ...]:
            w_eps, memory = perturb(perturbation, clean, before, params, extra_args)
            for _ in range((ascent_steps or 1) - 1):
                further, _ = gradient(w_eps)
                w_eps, _ = perturb(perturbation, further, before, w_eps, extra_args)
            grads, results = gradient(w_eps)
            return descent(clean, grads), results, memory, *realised(clean, params, w_eps)

        def clean_pass() -> tuple[Any, ...]:
            # What only eps needs is not computed.
            _, memory = perturb(perturbation, clean, before, params, extra_args)
            updates, results, _, norm, cosine = zeros_of(both_passes)
            return cast_like(clean, updates), results, memory, norm, cosine

        updates, results, memory, norm, cosine = (
            both_passes() if is_open is True else lax.cond(is_open, both_passes, clean_pass)
        )
        left = state.reuses_left
        if refresh_every is not None:
            left = next_reuses(left, fresh & all_finite(clean), refresh_every)
        new_state = state._replace(
            reuses_left=jnp.where(is_open, left, 0),
            perturbation=memory,
        )
        passes = report(
            evaluation(fresh, clean_results, parts),
            evaluation(is_open, results, parts),
            norm,
            cosine,
            all_finite(clean),
        )
        return passes, updates, new_state

    needs = Needs("always" if refresh_every is None else "sometimes", parts)
    return as_transform(init, step, needs, lambda params: descent(params, params))
