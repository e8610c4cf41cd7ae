# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The step that sharpness-aware methods share: replace g(w) by the gradient at w + eps."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import check_count, check_transform
from vasso_jax.optim._descent import DescentRule, perturbed_gradient
from vasso_jax.optim._directions import RemembersDirection
from vasso_jax.optim._equations import perturbed_point
from vasso_jax.optim._evaluation import Evaluate, Found, if_needed, mean_over
from vasso_jax.optim._numerics import all_finite
from vasso_jax.optim._transform import (
    Result,
    SharpnessAwareState,
    as_transform,
    initial_state,
    next_reuses,
    realised,
)


def sharpness_aware(
    perturbation: optax.GradientTransformation,
    *,
    descent: DescentRule | None = None,
    refresh_every: int | None = None,
    microbatches: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Replaces the clean gradient at w by the gradient at the perturbed parameters w + eps.

        eps     = perturbation(grad L(w))
        updates = grad L(w + eps),  or descent(grad L(w), grad L(w + eps))

    Put it first in an `optax.chain`; what follows (clipping, weight decay, the base optimizer) sees
    these updates and the unperturbed parameters w.

    **Calling convention.** `update(grads, state, params, grad_fn=grad_fn)`, where `grad_fn(params,
    i)` is the gradient of microbatch i (always 0 without `microbatches`) of the same batch: the
    convention of `optax.contrib.sam(opaque_mode=True)`. With None in place of `grads` the optimizer
    asks `grad_fn` for the clean gradient itself, when it needs it; transforms that precede it in a
    chain then do not see that gradient. `value_and_update` returns loss values and aux too.

    **Cadence.** With `refresh_every=k` the direction is renewed by every k-th clean gradient only
    and reused in between; `perturbation` must remember it (`suppress_variance`, with theta = 1 for
    SAM). With None for `grads` the clean pass of the other steps is not made, which leaves 1 + 1/k
    evaluations per step. Where that gradient is not finite, the next step tries again. (Under
    `vmap` a conditional becomes a selection, and nothing is saved.)

    **Microbatches.** With `microbatches=m` every pass is the mean of m evaluations, i = 0 .. m - 1,
    one after the other, so that a large batch need not fit into memory at once. There is one
    perturbation, that of the whole batch, and `grads` is the mean of the m gradients too. For one
    perturbation per microbatch see `m_sharpness_aware`.

    Args:
        perturbation: transform from the clean gradient to eps, as `optax.chain(suppress_variance(
            0.4), l2_ball(0.1))`. Extra keyword arguments of `update` reach it, and `clean`, the
            clean gradient.
        descent: rule for the updates, as `surrogate_gap(alpha)`; None: the perturbed gradient.
        refresh_every: k >= 1; None is 1.
        microbatches: m >= 1; None is 1.

    Returns:
        A transform with extra arguments; its state is a `SharpnessAwareState`. It costs one
        evaluation of `grad_fn` per step besides the clean one, and no memory besides that of
        `perturbation`.

    Raises:
        TypeError: `perturbation` is not an optax transform.
        ValueError: a count is not an int >= 1; `refresh_every` together with `descent`; (from
            `init`) `refresh_every` without a memory; (from `update`) `params` or `grad_fn` missing.

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
    check_count("refresh_every", refresh_every)
    if refresh_every is not None and descent is not None:
        raise ValueError(
            "refresh_every cannot be combined with descent, which needs the clean gradient of "
            "every step"
        )
    perturbation = optax.with_extra_args_support(perturbation)
    parts = microbatches or 1

    def init(params: optax.Params) -> SharpnessAwareState:
        state = perturbation.init(params)
        if refresh_every is not None and not _remembers(state):
            raise ValueError(
                "refresh_every needs a perturbation that remembers its direction, such as "
                "optax.chain(suppress_variance(theta), l2_ball(rho)); any other direction becomes "
                "one by remember(direction), such as optax.chain(remember(optax.ema(0.9)), "
                "l2_ball(rho)), and SAM's by remember(optax.identity())"
            )
        return initial_state(state)

    def step(
        evaluate: Evaluate,
        updates: optax.Updates | None,
        state: SharpnessAwareState,
        w: optax.Params,
        extra_args: Mapping[str, Any],
    ) -> Result:
        def gradient_at(point: optax.Params) -> tuple[optax.Updates, Any]:
            return mean_over(lambda i: evaluate(point, i), parts)

        fresh: Any = True if refresh_every is None else state.reuses_left == 0
        cadence = {} if refresh_every is None else {"fresh": fresh}
        g, clean_results = (
            (updates, None) if updates is not None else if_needed(fresh, gradient_at, w)
        )
        eps, perturbation_state = perturbation.update(
            g, state.perturbation, w, clean=g, **cadence, **extra_args
        )
        point = perturbed_point(w, eps)
        perturbed_g, perturbed_results = gradient_at(point)

        reuses_left = state.reuses_left
        if refresh_every is not None:
            reuses_left = next_reuses(reuses_left, fresh & all_finite(g), refresh_every)
        norm, cosine = realised(g, w, point)
        new_state = SharpnessAwareState(
            jnp.asarray(optax.safe_increment(state.count)),
            reuses_left,
            perturbation_state,
            (),
            norm,
            jnp.where(fresh, cosine, state.cosine),
        )
        return Result(
            (descent or perturbed_gradient)(g, perturbed_g),
            new_state,
            Found(fresh, clean_results),
            Found(True, perturbed_results),
        )

    return as_transform(init, step, parts)


def _remembers(state: optax.OptState) -> bool:
    """Whether a perturbation chain with this state keeps its direction from step to step."""

    def is_memory(node: Any) -> bool:
        return isinstance(node, RemembersDirection)

    return any(map(is_memory, jax.tree.leaves(state, is_leaf=is_memory)))
