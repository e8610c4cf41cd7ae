"""Minibatches, and how they are taken from a data set that is held on the device.

Every function here can be jitted.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Batch(NamedTuple):
    """A training batch. images: uint8 [B, H, W, C]; labels: int32 [B]."""

    images: jax.Array
    labels: jax.Array


class EvalBatch(NamedTuple):
    """An evaluation batch of fixed size; `valid`, bool [B], is False where there is no image."""

    images: jax.Array
    labels: jax.Array
    valid: jax.Array


def epoch_order(key: jax.Array, num_examples: int, batch_size: int) -> jax.Array:
    """A fresh shuffle for one epoch, without the last partial batch.

    Args:
        key: PRNG key of the epoch.
        num_examples: size of the training split, at least `batch_size`.
        batch_size: over all devices.

    Returns:
        int32 [num_examples // batch_size, batch_size], indices into the split.
    """
    steps = num_examples // batch_size
    order = jax.random.permutation(key, jnp.arange(num_examples, dtype=jnp.int32))
    return order[: steps * batch_size].reshape(steps, batch_size)


def take_batch(images: jax.Array, labels: jax.Array, order: jax.Array, step: jax.Array) -> Batch:
    """A batch of an epoch.

    Args:
        images: of the split, uint8 [N, H, W, C].
        labels: their classes, int32 [N].
        order: of the epoch's examples, int32 [steps per epoch, B].
        step: of the run, counted over all epochs, int32 scalar.

    Returns:
        Its images uint8 [B, H, W, C] and labels int32 [B].
    """
    indices = order[step % order.shape[0]]
    return Batch(images[indices], labels[indices])


def evaluation_batch(
    images: jax.Array, labels: jax.Array, start: jax.Array, batch_size: int
) -> EvalBatch:
    """Examples start, start + 1, ... as a batch of fixed size.

    Places after the end of the split repeat its last example and are not valid, so that every
    example is counted once.

    Args:
        images: of the split, uint8 [N, H, W, C].
        labels: their classes, int32 [N].
        start: index of the first example, int32 scalar.
        batch_size: B, fixed.

    Returns:
        images uint8 [B, H, W, C], labels int32 [B], and which are valid, bool [B].
    """
    indices = start + jnp.arange(batch_size)
    valid = indices < images.shape[0]
    indices = jnp.minimum(indices, images.shape[0] - 1)
    return EvalBatch(images[indices], labels[indices], valid)
