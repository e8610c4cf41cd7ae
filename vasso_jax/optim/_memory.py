# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""What `refresh_every` asks of a perturbation."""

from typing import Any

import jax
import optax

from vasso_jax.optim._directions import SuppressVarianceState


def check_memory(state: optax.OptState, params: optax.Params) -> None:
    """Raises ValueError unless a perturbation with this state keeps its direction."""
    del params

    def has_memory(node: Any) -> bool:
        return isinstance(node, SuppressVarianceState)

    if not any(map(has_memory, jax.tree.leaves(state, is_leaf=has_memory))):
        raise ValueError(
            "refresh_every needs a perturbation that remembers its direction: put "
            "suppress_variance(theta) before the ball, with theta=1.0 for SAM"
        )
