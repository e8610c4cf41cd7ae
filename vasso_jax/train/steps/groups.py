"""A batch in groups: microbatches one after the other, devices side by side.

Each group is one call of the network, with batch statistics and a dropout key of its own. All start
from the same running statistics, which move by the mean over the groups.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vasso_jax.train.devices.sharding import batch_sharding, gather, keep_spread, keep_whole

# (params, images, running statistics, dropout key) -> (logits, new running statistics).
Forward = Callable[[Any, jax.Array, Any, jax.Array], tuple[jax.Array, Any]]


def per_device(forward: Forward, mesh: Mesh) -> Forward:
    """`forward`, applied to each device's own images, with its own dropout key.

    Logits are in the order of the images. Running statistics are the mean over the devices, which
    is all that the devices exchange.
    """

    def of_all(
        params: Any, images: jax.Array, running: Any, key: jax.Array
    ) -> tuple[jax.Array, Any]:
        own_images, keys = jax.lax.with_sharding_constraint(
            (images.reshape(mesh.size, -1, *images.shape[1:]), jax.random.split(key, mesh.size)),
            batch_sharding(mesh),
        )
        side_by_side = jax.vmap(forward, (None, 0, None, 0), spmd_axis_name=mesh.axis_names)
        logits, moved = side_by_side(params, own_images, running, keys)
        return logits.reshape(len(images), *logits.shape[2:]), _mean(moved)

    return of_all


def in_microbatches(batch: Any, microbatches: int, mesh: Mesh) -> Any:
    """[B, ...] -> [microbatches, B / microbatches, ...] for each array.

    Microbatch i has the images i, i + microbatches, ...: an equal number of each device's own, so
    that none moves to another device.
    """

    def interleaved(x: jax.Array) -> jax.Array:
        return x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1)

    rows = PartitionSpec(None, *batch_sharding(mesh).spec)
    return jax.lax.with_sharding_constraint(
        jax.tree.map(interleaved, batch), NamedSharding(mesh, rows)
    )


def mean_over_microbatches(loss_fn: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """The mean of `loss_fn` over microbatches, with the memory of one.

    They are evaluated one after the other, each with its gradient, so that no activation outlives
    its microbatch. The gradients are summed in float32 or wider.

    Args:
        loss_fn: `(whole_params, microbatch, running) -> (loss, aux)`.
        mesh: that the parameters are spread over, by `spread`. They are gathered once; each
            device keeps its part of the sum of the gradients.

    Returns:
        `(params, microbatches, running) -> (loss, aux)`, where each array of `microbatches` has one
        more leading axis. Of aux, it is the mean of the floats, and otherwise that of the first
        microbatch. Only the loss can be differentiated, in reverse mode, and only with respect to
        `params`.
    """

    def loss_of(whole: Any, each: Any, running: Any) -> Any:
        # Said again inside the loop. Else the compiler may gather the parameters there.
        return loss_fn(keep_whole(whole, mesh), each, running)

    @jax.custom_vjp
    def mean_loss(params: Any, microbatches: Any, running: Any) -> Any:
        whole = gather(params, mesh)
        return _mean(jax.lax.map(lambda each: loss_of(whole, each, running), microbatches))

    def forward(params: Any, microbatches: Any, running: Any) -> tuple[Any, Any]:
        whole = gather(params, mesh)

        def add(total: Any, each: Any) -> tuple[Any, Any]:
            results, grads = jax.value_and_grad(loss_of, has_aux=True)(whole, each, running)
            return jax.tree.map(jnp.add, total, keep_spread(grads, mesh)), results

        zeros = jax.tree.map(
            lambda w: jnp.zeros_like(w, jnp.promote_types(w.dtype, jnp.float32)), params
        )
        total, results = jax.lax.scan(add, keep_spread(zeros, mesh), microbatches)
        count = len(jax.tree.leaves(microbatches)[0])
        return _mean(results), jax.tree.map(lambda t, w: (t / count).astype(w.dtype), total, params)

    def backward(grads: Any, cotangent: Any) -> tuple[Any, None, None]:
        of_loss, _ = cotangent
        return jax.tree.map(lambda g: (g * of_loss).astype(g.dtype), grads), None, None

    mean_loss.defvjp(forward, backward)
    return mean_loss


def _mean(groups: Any) -> Any:
    """The mean over the leading axis; of what is no float, such as a counter, the first."""
    return jax.tree.map(
        lambda x: x.mean(0) if jnp.issubdtype(x.dtype, jnp.floating) else x[0], groups
    )
