"""The methods of the study of compute, and how often each evaluates the gradient."""

import math
from typing import Any

from vasso_jax.train.config.window import epoch_window

STEPS_PER_EPOCH = 11  # 1,438 images in batches of 128
THETA, EVERY, WINDOW = 0.4, 5, 1 / 6
_VASSO = {"name": "vasso", "theta": THETA}
METHODS: dict[str, dict[str, Any]] = {
    "SGD": {"name": "none"},
    "SAM": {"name": "sam"},
    "VaSSO": _VASSO,
    "VaSSO, every 5th": {**_VASSO, "refresh_every": EVERY},
    "VaSSO, late window": _VASSO,
    "VaSSO, descent": {**_VASSO, "refresh": "descent"},
    "Momentum-SAM": {"name": "momentum_sam"},
}


def window(method: str, epochs: int) -> dict[str, float]:
    """The config section `window` of a run; empty where the method has none."""
    return {"start_epoch": (1 - WINDOW) * epochs} if method.endswith("window") else {}


def evaluations(method: str, epochs: int, steps_per_epoch: int = STEPS_PER_EPOCH) -> int:
    """Gradients of a minibatch in all of a run, from what the method does at each step.

    One at each step for the update. Besides, the clean one: at each step for SAM and VaSSO, at each
    fifth from the first on with `refresh_every=5`, inside of the window with one, and never where
    the perturbation follows the gradients of the updates (`refresh="descent"`) or their average
    (Momentum-SAM).
    """
    steps = epochs * steps_per_epoch
    settings = METHODS[method]
    if settings["name"] in ("none", "momentum_sam") or settings.get("refresh") == "descent":
        return steps
    if section := window(method, epochs):
        start, _ = epoch_window(epochs, steps_per_epoch, **section)
        return steps + (steps - start)
    return steps + math.ceil(steps / settings.get("refresh_every", 1))
