# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""The state that all sharpness-aware transforms share, and how its parts are measured."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._evaluation import GradFn
from vasso_jax.optim._norms import global_norm, ratio, vdot, zero_count
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

    With one perturbation a microbatch or a device, the last two are means over these.
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


def next_reuses(left: jax.Array, renewed: jax.Array, every: Any) -> jax.Array:
    """`reuses_left` after a step; where nothing usable was found, the next step tries again."""
    return jnp.where(renewed, every - 1, jnp.maximum(left - 1, 0)).astype(jnp.int32)


def required(params: optax.Params | None, grad_fn: GradFn | None) -> tuple[optax.Params, GradFn]:
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
