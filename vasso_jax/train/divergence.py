"""Ends a run whose numbers are no longer finite, before such a state is saved."""

import math
from collections.abc import Mapping
from typing import Any, NoReturn

from vasso_jax.train.checkpoints.about import Examined, examine
from vasso_jax.train.errors import UsageError
from vasso_jax.train.steps.state import TrainState

# Against divergence, by the field that it needs.
_REMEDIES = {
    ("base", "lr"): "a smaller base.lr",
    ("method", "rho"): "a smaller method.rho",
    ("schedule", "warmup_epochs"): "a longer schedule.warmup_epochs",
    ("base", "clip_norm"): "base.clip_norm",
}


class DivergenceCheck:
    """Raises a UsageError, which says what is not finite and what may help."""

    def __init__(self, settings: Mapping[str, Any]):
        """`settings` of the run, of whose fields some may help."""
        known = [text for (section, field), text in _REMEDIES.items() if field in settings[section]]
        self._remedies = " or ".join(known) if known else "a smaller learning rate of tx"

    def value(self, step: int, what: str, value: float) -> None:
        """Checks one number after `step` steps."""
        if not math.isfinite(value):
            self._fail(step, f"{what} is {value}")

    def state(self, step: int, state: TrainState) -> dict[str, Examined]:
        """Checks all arrays of the state; returns what was found in them."""
        # The loss was computed before the last update, which may have diverged.
        arrays = examine(state)
        if found := not_finite(arrays):
            self._fail(step, found)
        return arrays

    def _fail(self, step: int, what: str) -> NoReturn:
        raise UsageError(
            f"the run diverged: {what} at step {step}. Try {self._remedies}, in a new workdir. "
            "Checkpoints hold finite states only."
        )


def not_finite(arrays: Mapping[str, Examined]) -> str | None:
    """The first array of a state that a run cannot go on with, and what is wrong; None if none is.

    NaN is wrong everywhere. So is infinity, but for single numbers of the optimizer, of which some
    begin there (such as the best loss in `optax.contrib.reduce_on_plateau`), and sums of metrics.

    Args:
        arrays: what was found in the train state, by path.
    """
    for path, array in arrays.items():
        is_sum = path.startswith(("metric_sums/", "window_sums/"))
        may_be_infinite = is_sum or (path.startswith("opt_state/") and array.shape == ())
        if array.has_nan or (array.has_infinity and not may_be_infinite):
            return f"{path} holds {'NaN' if array.has_nan else 'infinity'}"
    return None
