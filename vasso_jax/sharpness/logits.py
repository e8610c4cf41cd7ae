"""Losses of logits whose scale has no effect."""

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from vasso_jax.sharpness.objective import Batch, Objective, Params

SMALLEST_NORM = 1e-10


def normalized(objective: Objective, params: Params) -> Objective:
    """The loss of the logits of each example, minus their mean, divided by their L2 norm.

    As in the code of Andriushchenko et al., https://arxiv.org/abs/2302.07011.

    Args:
        objective: the loss, whose outputs are logits, float [B, classes].
        params: for the shapes.

    Raises:
        ValueError: the outputs have another shape, or fewer than two classes.
    """
    batch = jax.tree.map(lambda x: x[0], objective.batches)
    shape = jax.eval_shape(objective.outputs, params, batch).shape
    if len(shape) != 2 or shape[1] < 2:
        raise ValueError(
            f"normalize_logits needs outputs [B, classes] with at least 2 classes, not {shape}"
        )
    return objective._replace(outputs=Partial(_normalized, objective.outputs))


def _normalized(outputs: Partial, params: Params, batch: Batch) -> jax.Array:
    logits = outputs(params, batch)
    centered = logits - logits.mean(axis=-1, keepdims=True)
    squares = jnp.square(centered).sum(axis=-1, keepdims=True)
    # Not the larger of two norms: the derivative of that of equal logits would be 0 / 0.
    return centered / jnp.sqrt(jnp.maximum(squares, SMALLEST_NORM**2))
