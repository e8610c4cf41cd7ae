"""Learning rates, one value an optimizer step."""

import itertools
import math
from collections.abc import Sequence

import optax

from vasso_jax.choices import check_choice

SCHEDULES = ("cosine", "multistep", "constant")


def make_schedule(
    name: str,
    *,
    lr: float,
    final_lr: float,
    epochs: int,
    warmup_epochs: float,
    steps_per_epoch: int,
    milestones: Sequence[float],
    decay_factor: float,
) -> optax.Schedule:
    """The learning rate as a function of the step.

    Args:
        name: `cosine` (from lr to final_lr), `multistep` (times decay_factor at each milestone) or
            `constant`.
        lr: the rate after the warm-up.
        final_lr: where the cosine ends.
        epochs, steps_per_epoch: length of the run; without a step, there is no rate to speak of.
        warmup_epochs: length of a linear rise from 0 to lr at the start, within `epochs`.
        milestones: epochs at which `multistep` decays, counted from the start of the run.
        decay_factor: see `multistep`, > 0.

    Raises:
        ValueError: unknown name, or a number out of range.
    """
    check_choice("schedule", name, SCHEDULES)
    if not epochs:
        return optax.constant_schedule(0.0)
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be a number > 0, got {lr}")
    if not 0 <= final_lr <= lr:
        raise ValueError(f"final_lr must be in [0, lr], got {final_lr}")
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(f"warmup_epochs must be in [0, epochs), got {warmup_epochs} of {epochs}")
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if name == "cosine":
        length = epochs * steps_per_epoch - warmup_steps
        main = optax.cosine_decay_schedule(lr, length, final_lr / lr)
    elif name == "multistep":
        _check_milestones(milestones, warmup_epochs, epochs)
        if not 0 < decay_factor < math.inf:
            raise ValueError(f"decay_factor must be a number > 0, got {decay_factor}")
        # join_schedules restarts the count behind the warm-up.
        steps = [round(epoch * steps_per_epoch) - warmup_steps for epoch in milestones]
        main = optax.piecewise_constant_schedule(lr, dict.fromkeys(steps, decay_factor))
    else:
        main = optax.constant_schedule(lr)
    if not warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, lr, warmup_steps)
    return optax.join_schedules([warmup, main], [warmup_steps])


def _check_milestones(milestones: Sequence[float], warmup_epochs: float, epochs: int) -> None:
    bounds = [warmup_epochs, *milestones, epochs]
    try:
        increasing = all(a < b for a, b in itertools.pairwise(bounds))
    except TypeError:
        increasing = False
    if not increasing:
        raise ValueError(
            "milestones must be increasing epochs behind the warm-up and before the end "
            f"({warmup_epochs:g} to {epochs}), got {tuple(milestones)}"
        )
