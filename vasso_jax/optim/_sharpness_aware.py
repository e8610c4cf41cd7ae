"""The step that all sharpness-aware methods share: replace g(w) by the gradient at w + eps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._norms import global_norm, vdot

GradFn = Callable[[optax.Params, int], optax.Updates]


class SharpnessAwareState(NamedTuple):
    """State of `sharpness_aware`.

    Attributes:
        perturbation: state of the perturbation chain (VaSSO's average is in there).
        perturbation_norm: float32 scalar, ||(w + eps) - w|| as realised in the parameters' dtype at
            the last step.
        cosine: float32 scalar, cosine between the clean gradient and the realised perturbation at
            the last step: for an L2 ball, between the gradient and the direction. 0 where either
            vanishes.
    """

    perturbation: optax.OptState
    perturbation_norm: jax.Array
    cosine: jax.Array


def sharpness_aware(
    perturbation: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Replaces the clean gradient at w by the gradient at the perturbed parameters w + eps.

        eps     = perturbation(grad L(w))
        updates = grad L(w + eps)

    Put it first in an `optax.chain`; what follows (clipping, weight decay, the base optimizer) sees
    the perturbed gradient and the unperturbed parameters w.

    `update` needs two things beside the clean gradient: `params`, and the keyword `grad_fn`, a
    function `(params, i) -> gradient` of the same minibatch. It is called once, with i = 0. This is
    the convention of `optax.contrib.sam(opaque_mode=True)`.

    Args:
        perturbation: transform from the clean gradient to eps, as `optax.chain(suppress_variance(
            0.4), l2_ball(0.1))`. Extra keyword arguments of `update` reach it.

    Returns:
        A transform with extra arguments; its state is a `SharpnessAwareState`. It costs one
        evaluation of `grad_fn` a step and no memory beside that of `perturbation`.

    Raises:
        TypeError: `perturbation` is not an optax transform.
        ValueError: (from `update`) `params` or `grad_fn` is missing.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from vasso_jax.optim import l2_ball, sharpness_aware
        >>> loss = lambda w: 0.5 * jnp.sum(w**2)
        >>> tx = optax.chain(sharpness_aware(l2_ball(rho=0.5)), optax.sgd(1.0))
        >>> w = jnp.array([3.0, 4.0])
        >>> updates, _ = tx.update(jax.grad(loss)(w), tx.init(w), w,
        ...                        grad_fn=jax.grad(lambda w, i: loss(w)))
        >>> print(updates)
        [-3.3 -4.4]
    """
    check_transform("perturbation", perturbation)
    perturbation = optax.with_extra_args_support(perturbation)

    def init(params: optax.Params) -> SharpnessAwareState:
        zero = jnp.zeros((), jnp.float32)
        return SharpnessAwareState(perturbation.init(params), zero, zero)

    def update(
        updates: optax.Updates,
        state: SharpnessAwareState,
        params: optax.Params | None = None,
        *,
        grad_fn: GradFn | None = None,
        **extra_args: Any,
    ) -> tuple[optax.Updates, SharpnessAwareState]:
        if params is None or grad_fn is None:
            missing = "params" if params is None else "grad_fn"
            raise ValueError(
                f"a sharpness-aware update needs {missing}: call tx.update(grads, state, params, "
                "grad_fn=grad_fn) with grad_fn(params, i) -> gradients of the same minibatch"
            )
        eps, perturbation_state = perturbation.update(
            updates, state.perturbation, params, **extra_args
        )
        perturbed = optax.apply_updates(params, eps)
        norm, cosine = _realised(updates, params, perturbed)
        return grad_fn(perturbed, 0), SharpnessAwareState(perturbation_state, norm, cosine)

    return optax.GradientTransformationExtraArgs(init, update)  # pyright: ignore[reportArgumentType]


def _realised(
    grads: optax.Updates, params: optax.Params, perturbed: optax.Params
) -> tuple[jax.Array, jax.Array]:
    """Norm of the perturbation after rounding, and its cosine to the clean gradient (float32)."""
    eps = jax.tree.map(jnp.subtract, perturbed, params)
    norm = global_norm(eps)
    product = global_norm(grads) * norm
    cosine = jnp.where(product > 0, vdot(grads, eps) / jnp.where(product > 0, product, 1), 0)
    return norm.astype(jnp.float32), cosine.astype(jnp.float32)


def check_transform(name: str, transform: Any) -> None:
    """Raises TypeError unless `transform` has the `init` and `update` of an optax transform."""
    if not (hasattr(transform, "init") and hasattr(transform, "update")):
        raise TypeError(
            f"{name} must be an optax transform such as optax.sgd(0.1), got {transform!r}"
        )
