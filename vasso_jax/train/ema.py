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
    """The average before the first step: the weights themselves; {} without one (decay 0)."""
    if not decay:
        return {}
    return jax.tree.map(jnp.array, {"params": params, "batch_stats": batch_stats})


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
        wide = jnp.promote_types(old.dtype, jnp.float32)
        moved = old.astype(wide) + share.astype(wide) * (new.astype(wide) - old.astype(wide))
        return moved.astype(old.dtype)

    return jax.tree.map(averaged, ema, {"params": params, "batch_stats": batch_stats})
