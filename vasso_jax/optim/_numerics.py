# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Arithmetic over whole pytrees. All care for dtypes and for numbers that are not finite is here.

Sums, norms and averages are taken in the accumulation dtype of a leaf: its own, or float32 where
that is wider.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._typed import tree_map


def dtype_of(leaf: Any) -> jnp.dtype:
    """The dtype of an array, or that of the array which a Python number would be."""
    return jnp.result_type(leaf)


def accumulation_dtype(leaf: Any) -> jnp.dtype:
    """The dtype of `leaf`, or float32 where that is wider."""
    return jnp.promote_types(dtype_of(leaf), jnp.float32)


def average_dtype(leaf: Any, wanted: Any) -> jnp.dtype:
    """The dtype in which an average of `leaf` is kept: `wanted` if given and `leaf` is real."""
    real = jnp.issubdtype(dtype_of(leaf), jnp.floating)
    return jnp.dtype(wanted) if wanted is not None and real else accumulation_dtype(leaf)


def widen(leaf: Any) -> jax.Array:
    """`leaf` in its accumulation dtype."""
    return jnp.asarray(leaf, accumulation_dtype(leaf))


def real_like(scalar: jax.Array, leaf: jax.Array) -> jax.Array:
    """`scalar` in the real dtype of the precision of `leaf`, which may be complex."""
    return scalar.astype(leaf.real.dtype)


def leafwise(equation: Callable[..., jax.Array]) -> Callable[..., Any]:
    """Makes an equation between arrays one between pytrees.

    Positional arguments are pytrees of one structure, keyword arguments scalar arrays. The equation
    is evaluated leaf by leaf in the accumulation dtype of the first pytree: leaves are cast to it,
    scalars to its real part. The result stays in that dtype; see `cast_like`.
    """

    @functools.wraps(equation)
    def of_trees(first: Any, *others: Any, **scalars: jax.Array) -> Any:
        def of_leaves(x: jax.Array, *ys: jax.Array) -> jax.Array:
            x = widen(x)
            cast = [jnp.asarray(y, x.dtype) for y in ys]
            return equation(x, *cast, **{name: real_like(s, x) for name, s in scalars.items()})

        return jax.tree.map(of_leaves, first, *others)

    return of_trees


def widened(tree: Any) -> Any:
    """`tree` with every leaf in its accumulation dtype."""
    return tree_map(widen, tree)


def cast_like(tree: Any, like: Any) -> Any:
    """`tree` with the dtypes of `like`."""
    return tree_map(lambda x, y: jnp.asarray(x, dtype_of(y)), tree, like)


def zeros(params: Any, dtype: Any) -> Any:
    """The start of an average of `params`: zeros of their shapes and sharding.

    `dtype` is that of the average; None is the accumulation dtype of each leaf.
    """
    return tree_map(lambda p: jnp.zeros_like(p, average_dtype(p, dtype)), params)


def zero_count() -> jax.Array:
    """int32 scalar 0, a buffer of its own: a donated state must not hold one buffer twice."""
    return jnp.zeros((), jnp.int32)


def increment(count: jax.Array) -> jax.Array:
    """count + 1, but no more than the largest integer of its dtype."""
    return jnp.asarray(optax.safe_increment(count))


def select(condition: jax.Array, a: Any, b: Any) -> Any:
    """`a` where the bool scalar is True, else `b`.

    A product with a mask would not do: 0 * NaN is NaN.
    """
    return tree_map(lambda x, y: jnp.where(condition, x, y), a, b)


# Numbers from _LARGE on are multiplied by _SMALL, so that no square overflows: float32 squares do
# from 1.8e19 on. Powers of two, which change no digit.
_LARGE, _SMALL = 2.0**40, 2.0**-80


class Inner(NamedTuple):
    """The inner product of two pytrees (real part, a float scalar), whatever their size.

    Attributes:
        plain: sum of the products. It overflows where they do.
        small: the same for both pytrees times 2**-80, without numbers below 2**40, which do not
            count where `plain` overflows. It is finite exactly if all numbers of a pytree are, for
            `inner(a, a)` (in float64: and below 1e178).
    """

    plain: jax.Array
    small: jax.Array


def inner(a: Any, b: Any) -> Inner:
    """Both sums of an `Inner`. They read the pytrees once, as they are fused."""

    def of_leaves(x: Any, y: Any) -> Inner:
        x, y = widen(x), widen(y)
        return Inner(_sum_of_products(x, y), _sum_of_products(_reduced(x), _reduced(y)))

    sums = jax.tree.leaves(tree_map(of_leaves, a, b), is_leaf=lambda node: isinstance(node, Inner))
    start = jnp.zeros((), jnp.float32)
    return Inner(sum((s.plain for s in sums), start), sum((s.small for s in sums), start))


def _sum_of_products(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.sum(jnp.real(jnp.conj(x) * y))


def _reduced(x: jax.Array) -> jax.Array:
    # NaN is not below. Without the choice, XLA would multiply by 2**-160 after the product.
    return jnp.where(jnp.abs(x) < _LARGE, 0, x * _SMALL)


def _comparable(*products: Inner) -> list[jax.Array]:
    """The plain form of all of them, or the small one of all where one has overflowed."""
    fits = jnp.stack([jnp.isfinite(product.plain) for product in products]).all()
    return [jnp.where(fits, product.plain, product.small) for product in products]


def norm_of_products(square: Inner) -> jax.Array:
    """The square root of an inner product >= 0, as of `inner(a, a)`: a scalar."""
    fits = jnp.isfinite(square.plain)
    return jnp.where(fits, _root(square.plain), _root(square.small) / _SMALL)


def global_norm(tree: Any) -> jax.Array:
    """The L2 norm of all leaves of `tree` taken as one vector: a scalar, float32 or wider."""
    return norm_of_products(inner(tree, tree))


def _root(square: jax.Array) -> jax.Array:
    """The square root, with the derivative 0 instead of infinity at 0."""
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """numerator / denominator of scalars, 0 where the denominator is not above 0."""
    above = denominator > 0
    return jnp.where(above, numerator / jnp.where(above, denominator, 1), 0)


def inner_ratio(numerator: Inner, denominator: Inner) -> jax.Array:
    """The ratio of two inner products, as `ratio`."""
    return ratio(*_comparable(numerator, denominator))


def cosine(a: Any, b: Any) -> jax.Array:
    """<a, b> / (||a|| ||b||); 0 where either vanishes."""
    return ratio(ratio(inner(a, b).plain, global_norm(a)), global_norm(b))


def scale(tree: Any, factor: jax.Array) -> Any:
    """factor * tree, multiplied in the accumulation dtype and returned in its own."""
    return cast_like(_product(tree, factor=factor), tree)


@leafwise
def _product(x: Any, *, factor: Any) -> Any:
    return x * factor


def add_scaled(a: Any, factor: jax.Array, b: Any) -> Any:
    """a + factor * b, added in the accumulation dtype and returned in a's."""
    return cast_like(_scaled_sum(a, b, factor=factor), a)


@leafwise
def _scaled_sum(x: Any, y: Any, *, factor: Any) -> Any:
    return x + factor * y


def difference(a: Any, b: Any) -> Any:
    """a - b, in the accumulation dtype and returned in a's."""
    return cast_like(_difference(a, b), a)


@leafwise
def _difference(x: Any, y: Any) -> Any:
    return x - y


def orthogonal_part(a: Any, b: Any) -> Any:
    """The component of `a` orthogonal to `b`; `a` itself where b vanishes."""
    return add_scaled(a, -inner_ratio(inner(b, a), inner(b, b)), b)


def all_finite(tree: Any) -> jax.Array:
    """Whether no leaf of `tree` has a NaN or an infinity: a bool scalar.

    It is read off the sum of squares, which is often needed besides.
    """
    return jnp.isfinite(inner(tree, tree).small)


def any_nonzero(tree: Any) -> jax.Array:
    """Whether some leaf of `tree` is not zero throughout: a bool scalar."""
    leaves = [jnp.any(jnp.asarray(leaf) != 0) for leaf in jax.tree.leaves(tree)]
    return jnp.stack([jnp.array(False), *leaves]).any()


def vary_with(tree: Any, scalar: jax.Array) -> Any:
    """`tree`, marked as differing between the devices of a `jax.shard_map` where `scalar` does.

    The two branches of a conditional, and what a loop starts from and returns, must agree in that.
    """
    return tree_map(lambda x: x + (0 * scalar).astype(x.dtype), tree)


def without_float0(grads: Any) -> Any:
    """`grads` with zeros in place of float0, the type of a derivative by an integer."""

    def plain(g: Any) -> Any:
        is_float0 = getattr(g, "dtype", None) == jax.dtypes.float0
        return jnp.zeros(g.shape, jnp.float32) if is_float0 else g

    return tree_map(plain, grads)
