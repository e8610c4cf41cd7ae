"""Rematerialisation: a backward pass computes the activations of a block again.

What is kept between the passes is each block's input, and the sums over the batch that BatchNorm
takes. These sums are small, but a pass over an activation each, and between devices an exchange.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

_Block = TypeVar("_Block", bound=Callable[..., Any])

_KEPT = "kept between the passes"


def rematerialized(block: _Block, remat: bool, static_argnums: tuple[int, ...] = ()) -> _Block:
    """`block`, a class of modules or a method, rematerialised if `remat`.

    Names, values and derivatives are the same. Modules need explicit names, as Flax derives others
    from the name of the class.

    Args:
        block: its arrays are arguments; what it closes over is kept.
        remat: False returns `block` itself.
        static_argnums: positions of arguments that are no arrays; `self` is 0.
    """
    if not remat:
        return block
    policy = jax.checkpoint_policies.save_only_these_names(_KEPT)
    return nn.remat(block, static_argnums=static_argnums, policy=policy)


def keep(x: jax.Array) -> jax.Array:
    """`x`, which is not computed again where the block around it is rematerialised."""
    return checkpoint_name(x, _KEPT)
