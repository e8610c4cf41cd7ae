"""The average of the weights that is evaluated beside them.

    ema <- beta ema + (1 - beta) w      with beta = min(decay, (1 + t) / (10 + t)) after step t >= 0

of parameters and BatchNorm's running statistics alike. The ramp, that of TensorFlow's
`ExponentialMovingAverage` with `num_updates`, forgets the initial weights in short runs. Averaging
of the iterates: Polyak and Juditsky, SIAM J. Control Optim. 30 (1992).
"""

from typing import Any

import jax
import jax.numpy as jnp


def start(params: Any, batch_stats: Any, decay: float) -> dict[str, Any]:
    """The average before the first step: the weights themselves, in float32 or wider.

    {} without one (decay 0).
    """
    if not decay:
        return {}
    return jax.tree.map(_wide, {"params": params, "batch_stats": batch_stats})


def _wide(x: jax.Array) -> jax.Array:
    """A copy in float32 or wider: a small step would be lost in less."""
    floats = jnp.issubdtype(x.dtype, jnp.floating)
    return jnp.array(x, jnp.promote_types(x.dtype, jnp.float32) if floats else x.dtype)


def update(
    ema: dict[str, Any], params: Any, batch_stats: Any, decay: float, step: jax.Array
) -> dict[str, Any]:
    """The average with the weights after step `step`; traced.

    Args:
        ema: of `start`.
        params, batch_stats: the new weights. What is no float, such as a counter, is taken over.
        decay: in [0, 1).
        step: int32 scalar, counted from 0.
    """
    if not ema:
        return {}
    t = step.astype(jnp.float32)
    share = 1 - jnp.minimum(decay, (1 + t) / (10 + t))

    def averaged(old: jax.Array, new: jax.Array) -> jax.Array:
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        return old + share.astype(old.dtype) * (new.astype(old.dtype) - old)

    return jax.tree.map(averaged, ema, {"params": params, "batch_stats": batch_stats})
