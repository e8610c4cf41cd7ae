# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Parts of JAX with stricter types than its own, for the strict checks of this package."""

from collections.abc import Callable
from typing import Any, cast, overload

import jax

Array = jax.Array

# Whose results are Any instead of unknown.
lax = cast(Any, jax.lax)
tree_util = cast(Any, jax.tree_util)


IsLeaf = Callable[[Any], bool] | None


@overload
def tree_map(function: Callable[[Array], Any], a: Any, /, *, is_leaf: IsLeaf = None) -> Any: ...
@overload
def tree_map(
    function: Callable[[Array, Array], Any], a: Any, b: Any, /, *, is_leaf: IsLeaf = None
) -> Any: ...
@overload
def tree_map(
    function: Callable[[Array, Array, Array], Any],
    a: Any,
    b: Any,
    c: Any,
    /,
    *,
    is_leaf: IsLeaf = None,
) -> Any: ...


def tree_map(function: Callable[..., Any], *trees: Any, is_leaf: IsLeaf = None) -> Any:
    """`function` of the leaves of one to three trees of one structure."""
    return jax.tree.map(function, *trees, is_leaf=is_leaf)
