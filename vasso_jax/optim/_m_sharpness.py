# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""m-sharpness: a perturbation for each part of the batch, instead of one for the whole."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import optax

from vasso_jax.optim._arguments import check_count, check_transform
from vasso_jax.optim._descent import DescentRule, perturbed_gradient
from vasso_jax.optim._equations import perturbed_point
from vasso_jax.optim._evaluation import AxisName, Evaluate, Found, as_local, mean_over
from vasso_jax.optim._transform import (
    Result,
    SharpnessAwareState,
    as_transform,
    initial_state,
    realised,
)


def m_sharpness_aware(
    perturbation: optax.GradientTransformation,
    *,
    descent: DescentRule | None = None,
    microbatches: int | None = None,
    axis_name: AxisName | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Replaces the clean gradient by the mean of gradients at one perturbed point per microbatch.

        eps_i   = perturbation(grad L_i(w))
        updates = mean over i of grad L_i(w + eps_i)

    L_i is the loss of part i of the batch. The parts are the microbatches of `grad_fn(params, i)`,
    i = 0 .. m - 1, taken one after the other; or, with `axis_name`, the shards of the devices along
    that axis of a `jax.shard_map` (or `vmap`), each with its own microbatches if both are given.
    SAM's authors found that smaller parts generalise better; multi-device code that does not
    average the clean gradient does this, too.

    **What is averaged.** All perturbations of a step start from the same state, which then moves
    once, by the mean clean gradient. So VaSSO's average is that of the gradients of the whole
    batch, of which each eps_i sees a version moved by its own part instead: d_i = (1 - theta) d +
    theta g_i. State and updates are the same on all devices.

    Use it as `sharpness_aware`, with the same calling convention; it asks `grad_fn` for the clean
    gradients of the parts, and does not look at the ones that `update` is given. Under
    `jax.shard_map`, `grad_fn` must return the gradient of the device's own loss: no `psum` or
    `pmean` inside.

    Args:
        perturbation: see `sharpness_aware`.
        descent: rule for the updates of each part; see `sharpness_aware`.
        microbatches: m >= 1; None is 1.
        axis_name: name of an axis of devices, or a tuple of names.

    Returns:
        A transform with extra arguments; its state is a `SharpnessAwareState`. It evaluates
        `grad_fn` twice per microbatch.

    Raises:
        TypeError: `perturbation` is not an optax transform.
        ValueError: microbatches is not an int >= 1; (from `update`) `params` or `grad_fn` missing.

    References:
        Foret et al., ICLR 2021, section 4.1, https://arxiv.org/abs/2010.01412

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from vasso_jax.optim import l2_ball, m_sharpness_aware
        >>> targets = jnp.array([[1.0, 0.0], [0.0, 1.0]])
        >>> grad_fn = jax.grad(lambda w, i: 0.5 * jnp.sum((w - targets[i]) ** 2))
        >>> tx = optax.chain(m_sharpness_aware(l2_ball(rho=0.5), microbatches=2), optax.sgd(1.0))
        >>> w = jnp.zeros(2)
        >>> updates, _ = tx.update(None, tx.init(w), w, grad_fn=grad_fn)
        >>> print(updates)
        [0.75 0.75]
    """
    check_transform("perturbation", perturbation)
    check_count("microbatches", microbatches, static=True)
    perturbation = optax.with_extra_args_support(perturbation)
    parts = microbatches or 1

    def init(params: optax.Params) -> SharpnessAwareState:
        return initial_state(perturbation.init(params))

    def step(
        evaluate: Evaluate,
        updates: optax.Updates | None,
        state: SharpnessAwareState,
        w: optax.Params,
        extra_args: Mapping[str, Any],
    ) -> Result:
        del updates

        def both_passes(i: Any) -> tuple[Any, Any]:
            g, clean_results = evaluate(as_local(w, axis_name), i)
            eps, _ = perturbation.update(g, state.perturbation, w, clean=g, **extra_args)
            point = perturbed_point(w, eps)
            perturbed_g, perturbed_results = evaluate(point, i)
            descended = (descent or perturbed_gradient)(g, perturbed_g)
            return (g, descended, realised(g, w, point)), (clean_results, perturbed_results)

        means, results = mean_over(both_passes, parts, axis_name)
        g, new_updates, (norm, cosine) = means
        _, perturbation_state = perturbation.update(g, state.perturbation, w, clean=g, **extra_args)
        new_state = SharpnessAwareState(
            jnp.asarray(optax.safe_increment(state.count)),
            state.reuses_left,
            perturbation_state,
            (),
            norm,
            cosine,
        )
        clean, perturbed = (Found(True, found) for found in results)
        return Result(new_updates, new_state, clean, perturbed)

    return as_transform(init, step, parts)
