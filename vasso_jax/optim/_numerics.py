# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Arithmetic over whole pytrees. All care for dtypes and for numbers that are not finite is here.

Sums, norms and averages are taken in the accumulation dtype of a leaf: its own, or float32 where
that is wider.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vasso_jax.optim._typed import lax, tree_map


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


# Sums of products are taken of numbers times 2**-24, which changes no digit. In float32 they then
# hold norms of up to 3e26 instead of 1.8e19; numbers below 2e-12 do not count. (One sum, since with
# a second one for large numbers XLA:GPU no longer averages in place.)
_UNIT = 2.0**-24
# Most arrays of a network, biases and scales, have no more numbers than this.
_SMALL = 4096
# So many of them are joined by one kernel, together with the arithmetic before: a kernel of XLA:GPU
# reads and writes at most 96 arrays, and an average reads two for each.
_TOGETHER = 40


def inner(a: Any, b: Any) -> jax.Array:
    """Real part of the inner product of two pytrees, times 2**-48: a float scalar.

    Read it by `norm_of`, or relative to another one.
    """
    return inners((a, b))[0]


def inners(*pairs: tuple[Any, Any]) -> list[jax.Array]:
    """`inner` of each pair of pytrees; all have one structure and the same shapes."""
    leaves = [list(zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)) for a, b in pairs]
    if any(_may_be_split(x) or _may_be_split(y) for each in leaves for x, y in each):
        products = [[_product_of(x, y) for x, y in each] for each in leaves]
        return [_sum(map(jnp.sum, each)) for each in products]
    vectors = [_joined_products(each) for each in leaves]
    if any(list(map(jax.typeof, each)) != list(map(jax.typeof, vectors[0])) for each in vectors):
        return [_sum(map(jnp.sum, map(_kept, each))) for each in vectors]
    # The sums of a matrix are kernels of all its rows.
    rows = [jnp.sum(_kept(jnp.stack(each)), axis=1) for each in zip(*vectors, strict=True)]
    return [_sum(row[i] for row in rows) for i in range(len(pairs))]


def _sum(scalars: Iterable[jax.Array]) -> jax.Array:
    return sum(scalars, start=jnp.zeros((), jnp.float32))


def _product_of(x: Any, y: Any) -> jax.Array:
    if x is y:
        x = widen(x) * _UNIT
        return jnp.real(jnp.conj(x) * x)
    # Not half of the factor to each: XLA:GPU would store x * 2**-24 for both kinds of product.
    return jnp.real(jnp.conj(widen(x)) * (widen(y) * _UNIT**2))


def _may_be_split(x: Any) -> bool:
    """Whether a mesh is set, or `x` is known to be split over the devices of one."""
    return not jax.sharding.get_abstract_mesh().empty or any(
        jax.typeof(jnp.asarray(x)).sharding.spec
    )


def _joined_products(pairs: list[tuple[Any, Any]]) -> list[jax.Array]:
    """A vector of each dtype, together with the sum of the products of all pairs.

    On a GPU the product and the sum of each array are kernels of their own. So small arrays are
    joined before they are multiplied, and large ones after they were summed in part. Arrays that
    are split over devices would be gathered for it.
    """
    small: dict[Any, list[tuple[Any, Any]]] = {}
    parts: dict[Any, list[jax.Array]] = {}

    def add(part: jax.Array) -> None:
        parts.setdefault(part.dtype, []).append(jnp.ravel(part))

    for x, y in pairs:
        # Kernels of convolutions may be transposed in memory.
        if jnp.size(x) <= _SMALL and jnp.ndim(x) < 4:
            small.setdefault((widen(x).dtype, widen(y).dtype), []).append((x, y))
        else:
            add(_partial_sums(_product_of(x, y)))
    for group in small.values():
        for i in range(0, len(group), _TOGETHER):
            firsts, seconds = zip(*group[i : i + _TOGETHER], strict=True)
            first = _joined(firsts)
            same = all(x is y for x, y in zip(firsts, seconds, strict=True))
            add(_product_of(first, first if same else _joined(seconds)))
    return list(map(jnp.concatenate, parts.values()))


def _joined(arrays: Sequence[Any]) -> jax.Array:
    return _kept(jnp.concatenate([jnp.ravel(widen(x)) for x in arrays]))


def _kept(joined: jax.Array) -> jax.Array:
    """As it is. Without the barrier XLA would take what was joined one by one again."""
    return lax.optimization_barrier(joined)


def _partial_sums(x: jax.Array) -> jax.Array:
    """At most `_SMALL` numbers with the same sum as `x`."""
    # Sums over all axes but the outermost in memory are one kernel each on a GPU, together with the
    # arithmetic before. That axis is the first, but the last of a convolution's kernel in the order
    # that cuDNN wants.
    kept = x.ndim - 1 if x.ndim == 4 else 0
    others = tuple(axis for axis in range(x.ndim) if axis != kept)
    return jnp.sum(x, others if x.shape[kept] <= _SMALL else None)


def norm_of(square: jax.Array) -> jax.Array:
    """||a|| for `inner(a, a)`: a scalar."""
    return _root(square) / _UNIT


def global_norm(tree: Any) -> jax.Array:
    """The L2 norm of all leaves of `tree` taken as one vector: a scalar, float32 or wider."""
    return norm_of(inner(tree, tree))


def uncounted(tree: Any) -> float:
    """The norm that numbers too small for `inner` can have together."""
    return 2e-12 * sum(jnp.size(leaf) for leaf in jax.tree.leaves(tree)) ** 0.5


def _root(square: jax.Array) -> jax.Array:
    """The square root, with the derivative 0 instead of infinity at 0."""
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """numerator / denominator of scalars, 0 where the denominator is not above 0."""
    above = denominator > 0
    return jnp.where(above, numerator / jnp.where(above, denominator, 1), 0)


def norm_and_cosine(a: Any, b: Any) -> tuple[jax.Array, jax.Array]:
    """||b|| and <a, b> / (||a|| ||b||), which is 0 where either vanishes."""
    of_b, of_both = inners((b, b), (a, b))
    return norm_of(of_b), ratio(of_both, _root(inner(a, a)) * _root(of_b))


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
    return add_scaled(a, -ratio(inner(b, a), inner(b, b)), b)


def all_finite(tree: Any) -> jax.Array:
    """Whether no leaf of `tree` has a NaN or an infinity: a bool scalar.

    It is read off the sum of squares, which is often needed besides. So it is also False where the
    norm is beyond 3e26 (float32).
    """
    return jnp.isfinite(inner(tree, tree))


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
