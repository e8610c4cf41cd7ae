"""How far the direction turns from one step to the next, for methods that keep theirs.

It is measured between the last two steps of each epoch, outside of the train step: there it would
be read at every step, which costs an H100 about 30 kernels and 2 % of the bytes of a ResNet-18
step (compiled; nothing ran). It takes a copy of the direction there. A fixed place makes a resumed
run record the same.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vasso_jax import optim
from vasso_jax.train.steps.state import TrainState


class SuccessiveDirections:
    """The cosine between the directions before and after one step."""

    def __init__(self) -> None:
        self._copy = jax.jit(lambda direction: jax.tree.map(jnp.copy, direction))
        self._compare = jax.jit(lambda a, b: (optim.cosine(a, b), _differ(a, b)))
        self._before: Any = None

    def before(self, state: TrainState) -> None:
        """Keeps the direction, as the step reuses its buffers."""
        direction = optim.kept_direction(state.opt_state)
        self._before = None if direction is None else self._copy(direction)

    def after(self, state: TrainState) -> float | None:
        """The cosine to the direction that was kept; None if there was none, or it is the same one.

        The latter is so where the step has reused it. At the first step of a run the cosine is 0,
        as the direction is zero before.
        """
        before, self._before = self._before, None
        if before is None:
            return None
        cosine, differ = self._compare(before, optim.kept_direction(state.opt_state))
        return float(cosine) if differ else None


def _differ(a: Any, b: Any) -> jax.Array:
    """Whether any number of two pytrees differs."""
    return jnp.stack(jax.tree.leaves(jax.tree.map(lambda x, y: jnp.any(x != y), a, b))).any()
