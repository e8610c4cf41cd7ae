"""Arithmetic of parameter trees."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from vasso_jax.sharpness.objective import Params


@jax.jit
def dot(a: Params, b: Params) -> jax.Array:
    """The inner product over all leaves, a scalar of at least float32."""

    def of_leaves(x: jax.Array, y: jax.Array) -> jax.Array:
        wide = jnp.promote_types(x.dtype, jnp.float32)
        return (x.astype(wide) * y.astype(wide)).sum()

    return sum(jax.tree.leaves(jax.tree.map(of_leaves, a, b)), start=jnp.zeros(()))


@jax.jit
def norm(tree: Params) -> jax.Array:
    """The L2 norm over all leaves, a scalar of at least float32; also where squares overflow."""
    largest = jnp.stack([jnp.abs(x).max(initial=0) for x in jax.tree.leaves(tree)]).max()
    unit = jnp.where(largest > 0, largest, 1)
    small = jax.tree.map(lambda x: x / unit, tree)
    return unit * jnp.sqrt(dot(small, small))


def scaled(factor: Any, tree: Params) -> Params:
    """factor * tree, in the dtypes of the tree."""
    return jax.tree.map(lambda x: (factor * x).astype(x.dtype), tree)


@jax.jit
def unit(tree: Params) -> Params:
    """The tree divided by its norm; zero if that is 0."""
    size = norm(tree)
    return jax.tree.map(lambda x: (x / jnp.where(size > 0, size, 1)).astype(x.dtype), tree)


def moved(params: Params, factor: Any, change: Params) -> Params:
    """params + factor * change, in the dtypes of the parameters."""
    return jax.tree.map(
        lambda w, x: (w + factor * x.astype(w.dtype)).astype(w.dtype), params, change
    )


def replicated(tree: Params) -> Params:
    """On a mesh of explicit axes, leaves with different shardings cannot become one array."""

    def whole(x: jax.Array) -> jax.Array:
        return resharded(x, NamedSharding(jax.typeof(x).sharding.mesh, PartitionSpec()))

    return jax.tree.map(whole, tree)


def resharded(x: jax.Array, sharding: NamedSharding) -> jax.Array:
    """The same where there is no such mesh."""
    return x if sharding.mesh.empty else jax.sharding.reshard(x, sharding)


@jax.jit
def all_finite(tree: Params) -> jax.Array:
    """Whether no number is NaN or infinite."""
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()
