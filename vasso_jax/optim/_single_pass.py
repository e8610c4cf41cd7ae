# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Steps of one evaluation: perturbed along what earlier gradients have left in a memory."""

from typing import Any

import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import (
    Window,
    check_count,
    check_transform,
    check_window,
    in_window,
)
from vasso_jax.optim._asking import Needs
from vasso_jax.optim._equations import moved
from vasso_jax.optim._evaluation import Evaluate, Evaluated, Passes, evaluation
from vasso_jax.optim._memory import check_memory
from vasso_jax.optim._numerics import all_finite, select
from vasso_jax.optim._step import (
    SharpnessAwareState,
    as_transform,
    initial_state,
    realised,
    report,
    whole_batch,
)
from vasso_jax.optim._typed import tree_map


def single_pass_sharpness_aware(
    perturbation: optax.GradientTransformation,
    *,
    active: Window | None = None,
    microbatches: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Takes the gradient at w + eps, where eps follows from earlier steps: one evaluation per step.

        eps     = perturbation(d),  d the direction of the last step
        updates = grad L(w + eps)
        d      <- the direction, fed with these updates

    There is no clean pass: the direction is fed by the gradients that make the steps. It is that of
    other minibatches, so eps is no ascent of this one's loss. The first step has no direction yet,
    and is that of the base.

    Calling convention and microbatches are those of `sharpness_aware`, but the gradient that
    `update` is given is ignored: give None. In the passes of `value_and_update`, the one evaluation
    is the perturbed pass. Outside of the window it is the clean one. Put it first in a chain: after
    or inside another transform, `value_and_update` evaluates a clean gradient for that one, which
    is then ignored.

    Args:
        perturbation: transform from the gradient to eps that remembers its direction; see
            `refresh_every` of `sharpness_aware`. With `suppress_variance(1.0)` the direction is the
            last gradient.
        active: see `sharpness_aware`.
        microbatches: see `sharpness_aware`.

    Returns:
        A transform with extra arguments; its state is a `SharpnessAwareState`. It costs one
        evaluation of `grad_fn` per step, and the memory of `perturbation`.

    Raises:
        TypeError: `perturbation` is not an optax transform.
        ValueError: an argument is out of range; (from `init`) the perturbation does not remember
            its direction; (from `update`) `params` or `grad_fn` missing.

    References:
        With the last gradient: Ji et al., A Single-Step, Sharpness-Aware Minimization is All You
        Need to Achieve Efficient and Accurate Sparse Training, NeurIPS 2024. A direction that is
        one step old, evaluated concurrently: AsyncSAM, https://arxiv.org/abs/2503.11147

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from vasso_jax.optim import l2_ball, single_pass_sharpness_aware, suppress_variance
        >>> grad_fn = jax.grad(lambda w, i: 0.5 * jnp.sum(w**2))
        >>> perturbation = optax.chain(suppress_variance(1.0), l2_ball(rho=0.5))
        >>> tx, w = single_pass_sharpness_aware(perturbation), jnp.array([3.0, 4.0])
        >>> first, state = tx.update(None, tx.init(w), w, grad_fn=grad_fn)
        >>> second, state = tx.update(None, state, w, grad_fn=grad_fn)
        >>> print(first, second)
        [3. 4.] [3.3 4.4]
    """
    check_transform("perturbation", perturbation)
    return single_pass(perturbation, active, microbatches, check_it=True)


def single_pass(
    perturbation: optax.GradientTransformation,
    active: Window | None,
    microbatches: int | None,
    *,
    check_it: bool,
) -> optax.GradientTransformationExtraArgs:
    """As above; without `check_it`, the direction may come from elsewhere."""
    check_count("microbatches", microbatches, static=True)
    check_window(active)
    perturbation = optax.with_extra_args_support(perturbation)
    parts = microbatches or 1

    def init(params: optax.Params) -> SharpnessAwareState:
        state = perturbation.init(params)
        if check_it:
            check_memory(perturbation, state, params, "a step of one evaluation")
        return initial_state(state)

    def step(
        evaluate: Evaluate,
        given: Evaluated | None,
        state: SharpnessAwareState,
        params: optax.Params,
        extra_args: dict[str, Any],
    ) -> tuple[Passes, optax.Updates, SharpnessAwareState]:
        del given
        before = state.perturbation

        def perturbed_by(grads: optax.Updates, *, fresh: bool) -> tuple[optax.Updates, Any]:
            return perturbation.update(
                grads, before, params, clean=grads, **{**extra_args, "fresh": fresh}
            )

        nothing = tree_map(lambda w: jnp.zeros_like(w), params)
        eps, _ = perturbed_by(nothing, fresh=False)
        is_open = in_window(active, state.count)
        if is_open is not True:
            eps = select(is_open, eps, nothing)
        w_eps = moved(params, eps)
        grads, results = whole_batch(evaluate, parts)(w_eps)
        _, memory = perturbed_by(grads, fresh=True)

        norm, _ = realised(grads, params, w_eps)
        passes = report(
            evaluation(jnp.logical_not(is_open), results, parts),
            evaluation(is_open, results, parts),
            norm,
            jnp.full((), jnp.nan, jnp.float32),
            all_finite(grads),
        )
        return passes, grads, state._replace(perturbation=memory)

    return as_transform(init, step, Needs("never", parts))
