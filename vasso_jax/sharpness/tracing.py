"""Where measurements cannot be made: within functions that JAX traces."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer


def check_not_traced(tree: Any) -> None:
    """Raises ValueError within `jax.jit`, and where a leaf is traced by `jax.grad` and such."""
    # Within jax.jit all that is computed is traced, of constants too.
    if any(isinstance(x, Tracer) for x in jax.tree.leaves((tree, jnp.zeros(())))):
        raise ValueError(
            "a measurement needs the values of arrays, which jax.jit, jax.grad and jax.vmap hide: "
            "call it outside of them. Within them, use `value` and `value_and_grad` of the "
            "objective, and `product` of an operator"
        )
