# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Arithmetic over whole pytrees, in at least float32 whatever the dtype of their leaves.

All care for dtypes, for values that are not finite, and for sharded tracing stands here.
"""

from collections.abc import Callable
from typing import Any, overload

import jax
import jax.numpy as jnp

from vasso_jax.optim._typed import Array, tree_map


def accumulation_dtype(leaf: Array) -> jnp.dtype:
    """The dtype in which sums over `leaf` are taken: its own, or float32 where that is wider."""
    return jnp.promote_types(leaf.dtype, jnp.float32)


def average_dtype(leaf: Array, wanted: Any) -> jnp.dtype:
    """The dtype in which an average of `leaf` is kept: `wanted` if given and `leaf` is real."""
    real = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.dtype(wanted) if wanted is not None and real else accumulation_dtype(leaf)


def widen(leaf: Array) -> Array:
    """`leaf` in its accumulation dtype."""
    return leaf.astype(accumulation_dtype(leaf))


def real_like(scalar: Array, leaf: Array) -> Array:
    """`scalar` in the real dtype of the precision of `leaf`, which may be complex."""
    return scalar.astype(leaf.real.dtype)


def zero_count() -> Array:
    """int32 scalar 0, a buffer of its own: a donated state must not hold one buffer twice."""
    return jnp.zeros((), jnp.int32)


def zeros_for_average(params: Any, dtype: Any) -> Any:
    """Zeros with the structure and shapes of `params`, in the dtype that averages are kept in."""
    return tree_map(lambda p: jnp.zeros_like(p, average_dtype(p, dtype)), params)


@overload
def wide_map(f: Callable[[Array, Array], Any], scalar: Array, a: Any, /) -> Any: ...
@overload
def wide_map(f: Callable[[Array, Array, Array], Any], scalar: Array, a: Any, b: Any, /) -> Any: ...


def wide_map(f: Callable[..., Any], scalar: Array, *trees: Any) -> Any:
    """f(scalar, leaf of a, leaf of b) for one or two trees of one structure.

    The leaves are in the accumulation dtype of those of the first tree, the scalar in its real
    counterpart, and so is the result.
    """

    def mapped(first: Array, *others: Array) -> Any:
        wide = widen(first)
        return f(real_like(scalar, wide), wide, *(x.astype(wide.dtype) for x in others))

    return jax.tree.map(mapped, *trees)


def widen_like(tree: Any, like: Any) -> Any:
    """`tree` in the accumulation dtypes of the leaves of `like`."""
    return tree_map(lambda x, y: x.astype(accumulation_dtype(y)), tree, like)


def cast_like(tree: Any, like: Any) -> Any:
    """`tree` with the dtypes of `like`."""
    return tree_map(lambda x, y: x.astype(y.dtype), tree, like)


def select(condition: Array | bool, new: Any, old: Any) -> Any:
    """`new` where the condition (a bool scalar) holds, else `old`, in the dtypes of `new`.

    By `jnp.where`, not by a product with a mask: 0 * NaN is NaN.
    """
    return tree_map(lambda n, o: jnp.where(condition, n, o.astype(n.dtype)), new, old)


def vdot(a: Any, b: Any) -> Array:
    """Real part of the inner product of two pytrees of one structure: a float scalar."""

    def leaf_vdot(x: Array, y: Array) -> Array:
        return jnp.sum(jnp.real(jnp.conj(widen(x)) * widen(y)))

    products = jax.tree.leaves(tree_map(leaf_vdot, a, b))
    return sum(products, start=jnp.zeros((), jnp.float32))


def global_norm(tree: Any) -> Array:
    """The L2 norm of all leaves of `tree` taken as one vector: a scalar, float32 or wider."""
    return jnp.sqrt(vdot(tree, tree))


def scale(tree: Any, factor: Array) -> Any:
    """`tree` times a scalar, multiplied in the accumulation dtype and returned in its own."""
    return cast_like(wide_map(lambda factor, x: x * factor, factor, tree), tree)


def ratio(numerator: Array, denominator: Array) -> Array:
    """numerator / denominator of scalars, 0 where the denominator is not above 0."""
    above = denominator > 0
    return jnp.where(above, numerator / jnp.where(above, denominator, 1), 0)


def add_scaled(a: Any, factor: Array, b: Any) -> Any:
    """a + factor * b, added in the accumulation dtype and returned in a's."""
    return cast_like(wide_map(lambda factor, x, y: x + factor * y, factor, a, b), a)


def orthogonal_part(a: Any, b: Any) -> Any:
    """The component of `a` orthogonal to `b`; `a` itself where b vanishes."""
    return add_scaled(a, -ratio(vdot(b, a), vdot(b, b)), b)


def all_finite(tree: Any) -> Array:
    """Whether no leaf of `tree` has a NaN or an infinity: a bool scalar."""
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.stack([jnp.array(True), *leaves]).all()


def any_nonzero(tree: Any) -> Array:
    """Whether some leaf of `tree` is not zero throughout: a bool scalar."""
    leaves = [jnp.any(leaf != 0) for leaf in jax.tree.leaves(tree)]
    return jnp.stack([jnp.array(False), *leaves]).any()


def vary_with(x: Array, scalar: Array) -> Array:
    """`x`, marked as differing between the devices of a `jax.shard_map` where `scalar` does.

    The two branches of a conditional, and what a loop starts from and returns, must agree in that.
    """
    return x + (0 * scalar).astype(x.dtype)
