"""How far the direction turns from one step to the next, for methods that keep theirs.

It is measured between the last two steps of each epoch, outside of the train step: there it would
be read at every step, which costs an H100 about 30 kernels and 2 % of the bytes of a ResNet-18
step (compiled; nothing ran). A fixed place makes a resumed run record the same.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vasso_jax import optim
from vasso_jax.train.state import TrainState


class SuccessiveDirections:
    """The cosine between the directions before and after one step."""

    def __init__(self) -> None:
        self._copy = jax.jit(lambda direction: jax.tree.map(jnp.copy, direction))
        self._cosine = jax.jit(optim.cosine)
        self._before: Any = None

    def before(self, state: TrainState) -> None:
        """Keeps the direction, as the step reuses its buffers."""
        direction = optim.kept_direction(state.opt_state)
        self._before = None if direction is None else self._copy(direction)

    def after(self, state: TrainState) -> float | None:
        """The cosine to the direction that was kept; None if there was none.

        It is 0 at the first step of a run, as the direction is zero before.
        """
        before, self._before = self._before, None
        if before is None:
            return None
        return float(self._cosine(before, optim.kept_direction(state.opt_state)))
