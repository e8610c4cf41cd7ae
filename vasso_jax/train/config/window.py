"""The epochs in which a sharpness-aware method perturbs the parameters."""

import math


def epoch_window(
    epochs: int, steps_per_epoch: int, *, start_epoch: float = 0.0, end_epoch: float | None = None
) -> tuple[int, int | None]:
    """The steps that a method's argument `active` takes, from epochs.

    Args:
        epochs: length of the run.
        steps_per_epoch: of the run.
        start_epoch: epochs of the base alone before the first perturbed step, in [0, epochs).
        end_epoch: epoch after which the base goes on alone, in (start_epoch, epochs]; None: no end.

    Raises:
        ValueError: an epoch is out of range, or the window is the whole run or less than a step.
    """
    for name, value in (("start_epoch", start_epoch), ("end_epoch", end_epoch)):
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise ValueError(f"{name} must be a number, got {value!r}")
    if not 0 <= start_epoch < max(epochs, 1):
        raise ValueError(f"start_epoch must be in [0, epochs), got {start_epoch} of {epochs}")
    if end_epoch is not None and not start_epoch < end_epoch < math.inf:
        raise ValueError(f"end_epoch must be after start_epoch={start_epoch:g}, got {end_epoch}")
    if end_epoch is not None and epochs and end_epoch > epochs:
        raise ValueError(f"end_epoch={end_epoch:g} is after the end of the run, epoch {epochs}")
    total = epochs * steps_per_epoch
    start = round(start_epoch * steps_per_epoch)
    end = None if end_epoch is None else round(end_epoch * steps_per_epoch)
    if start == 0 and end in (None, total):
        raise ValueError("a window over the whole run has no effect: leave it out")
    if (end is not None and end <= start) or start >= max(total, 1):
        raise ValueError("the window must hold at least one step of this run")
    return start, end
