"""Reductions over a whole pytree, accumulated in at least float32 whatever the leaves' dtype."""

from typing import Any

import jax
import jax.numpy as jnp


def accumulation_dtype(leaf: jax.Array) -> jnp.dtype:
    """The dtype in which sums over `leaf` are taken: its own, or float32 where that is wider."""
    return jnp.promote_types(leaf.dtype, jnp.float32)


def vdot(a: Any, b: Any) -> jax.Array:
    """Real part of the inner product of two pytrees of one structure: a float scalar."""

    def leaf_vdot(x: jax.Array, y: jax.Array) -> jax.Array:
        dtype = accumulation_dtype(x)
        return jnp.sum(jnp.real(jnp.conj(x.astype(dtype)) * y.astype(dtype)))

    products = jax.tree.leaves(jax.tree.map(leaf_vdot, a, b))
    return sum(products, start=jnp.zeros((), jnp.float32))


def global_norm(tree: Any) -> jax.Array:
    """The L2 norm of all leaves of `tree` taken as one vector: a scalar, float32 or wider."""
    return jnp.sqrt(vdot(tree, tree))


def all_finite(tree: Any) -> jax.Array:
    """Whether no leaf of `tree` has a NaN or an infinity: a bool scalar."""
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.stack([jnp.array(True), *leaves]).all()
