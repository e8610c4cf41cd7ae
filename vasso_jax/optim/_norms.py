# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Arithmetic over whole pytrees, in at least float32 whatever the leaves' dtype."""

from typing import Any

import jax
import jax.numpy as jnp

from vasso_jax.optim._typed import tree_map


def accumulation_dtype(leaf: jax.Array) -> jnp.dtype:
    """The dtype in which sums over `leaf` are taken: its own, or float32 where that is wider."""
    return jnp.promote_types(leaf.dtype, jnp.float32)


def average_dtype(leaf: jax.Array, wanted: Any) -> jnp.dtype:
    """The dtype in which an average of `leaf` is kept: `wanted` if given and `leaf` is real."""
    real = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.dtype(wanted) if wanted is not None and real else accumulation_dtype(leaf)


def widen(leaf: jax.Array) -> jax.Array:
    """`leaf` in its accumulation dtype."""
    return leaf.astype(accumulation_dtype(leaf))


def real_like(scalar: jax.Array, leaf: jax.Array) -> jax.Array:
    """`scalar` in the real dtype of the precision of `leaf`, which may be complex."""
    return scalar.astype(leaf.real.dtype)


def zero_count() -> jax.Array:
    """int32 scalar 0, a buffer of its own: a donated state must not hold one buffer twice."""
    return jnp.zeros((), jnp.int32)


def vdot(a: Any, b: Any) -> jax.Array:
    """Real part of the inner product of two pytrees of one structure: a float scalar."""

    def leaf_vdot(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sum(jnp.real(jnp.conj(widen(x)) * widen(y)))

    products = jax.tree.leaves(tree_map(leaf_vdot, a, b))
    return sum(products, start=jnp.zeros((), jnp.float32))


def global_norm(tree: Any) -> jax.Array:
    """The L2 norm of all leaves of `tree` taken as one vector: a scalar, float32 or wider."""
    return jnp.sqrt(vdot(tree, tree))


def scale(tree: Any, factor: jax.Array) -> Any:
    """`tree` times a scalar, multiplied in the accumulation dtype and returned in its own."""

    def scaled(leaf: jax.Array) -> jax.Array:
        wide = widen(leaf)
        return (wide * real_like(factor, wide)).astype(leaf.dtype)

    return tree_map(scaled, tree)


def ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """numerator / denominator of scalars, 0 where the denominator is not above 0."""
    above = denominator > 0
    return jnp.where(above, numerator / jnp.where(above, denominator, 1), 0)


def add_scaled(a: Any, factor: jax.Array, b: Any) -> Any:
    """a + factor * b, added in the accumulation dtype and returned in a's."""

    def added(x: jax.Array, y: jax.Array) -> jax.Array:
        wide = widen(x)
        return (wide + real_like(factor, wide) * y).astype(x.dtype)

    return tree_map(added, a, b)


def orthogonal_part(a: Any, b: Any) -> Any:
    """The component of `a` orthogonal to `b`; `a` itself where b vanishes."""
    return add_scaled(a, -ratio(vdot(b, a), vdot(b, b)), b)


def all_finite(tree: Any) -> jax.Array:
    """Whether no leaf of `tree` has a NaN or an infinity: a bool scalar."""
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.stack([jnp.array(True), *leaves]).all()


def any_nonzero(tree: Any) -> jax.Array:
    """Whether some leaf of `tree` is not zero throughout: a bool scalar."""
    leaves = [jnp.any(leaf != 0) for leaf in jax.tree.leaves(tree)]
    return jnp.stack([jnp.array(False), *leaves]).any()


def vary_with(x: jax.Array, scalar: jax.Array) -> jax.Array:
    """`x`, marked as differing between the devices of a `jax.shard_map` where `scalar` does.

    The two branches of a conditional, and what a loop starts from and returns, must agree in that.
    """
    return x + (0 * scalar).astype(x.dtype)
