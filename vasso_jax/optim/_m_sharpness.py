# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""m-sharpness: one perturbation for each part of the batch."""

from typing import Any

import optax

from vasso_jax.optim._arguments import check_count, check_transform
from vasso_jax.optim._asking import Needs
from vasso_jax.optim._descent import DescentRule, perturbed_gradient
from vasso_jax.optim._evaluation import (
    AxisName,
    Evaluate,
    Evaluated,
    Passes,
    as_local,
    evaluation,
    mean_over,
)
from vasso_jax.optim._numerics import all_finite
from vasso_jax.optim._step import (
    SharpnessAwareState,
    as_transform,
    initial_state,
    perturb,
    realised,
    report,
)


def m_sharpness_aware(
    perturbation: optax.GradientTransformation,
    *,
    descent: DescentRule | None = None,
    microbatches: int | None = None,
    axis_name: AxisName | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Replaces the clean gradient by a mean of gradients, at one perturbed point per microbatch.

        eps_i   = perturbation(grad L_i(w))
        updates = mean over i of grad L_i(w + eps_i)

    L_i is the loss of part i of the batch. The parts are the microbatches of `grad_fn(params, i)`,
    i = 0 .. m - 1, evaluated one after the other. With `axis_name` they are the shards of the
    devices along that axis of a `jax.shard_map` (or `vmap`), each with its own microbatches if both
    are given. SAM's authors found that smaller parts generalise better. Multi-device code that does
    not average the clean gradient has the same effect.

    **What is averaged.** All perturbations of a step start from the same state, which is then
    updated once, with the mean clean gradient. So VaSSO's average is that of the whole batch's
    gradients, while the direction of each part contains its own gradient instead: d_i =
    (1 - theta) d + theta g_i. State and updates are the same on all devices.

    The calling convention is that of `sharpness_aware`, but it asks `grad_fn` for the clean
    gradients of the parts, and ignores the gradient that `update` is given. Under `jax.shard_map`,
    `grad_fn` must return the gradient of the device's own loss: no `psum` or `pmean` inside.

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
        ValueError: microbatches is not an int >= 1; (from `update`) `params` or `grad_fn` is
            missing.

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
        given: Evaluated | None,
        state: SharpnessAwareState,
        params: optax.Params,
        extra_args: dict[str, Any],
    ) -> tuple[Passes, optax.Updates, SharpnessAwareState]:
        del given
        before = state.perturbation

        def both_passes(i: Any) -> tuple[Any, Any]:
            clean, clean_results = evaluate(as_local(params, axis_name), i)
            w_eps, _ = perturb(perturbation, clean, before, params, extra_args)
            grads, results = evaluate(w_eps, i)
            descended = (descent or perturbed_gradient)(clean, grads)
            return (clean, descended, realised(clean, params, w_eps)), (clean_results, results)

        means, (clean_results, results) = mean_over(both_passes, parts, axis_name)
        clean, updates, (norm, cosine) = means
        _, after = perturbation.update(clean, before, params, clean=clean, **extra_args)
        passes = report(
            evaluation(True, clean_results, parts),
            evaluation(True, results, parts),
            norm,
            cosine,
            all_finite(clean),
        )
        return passes, updates, state._replace(perturbation=after)

    return as_transform(init, step, Needs("in parts", parts))
