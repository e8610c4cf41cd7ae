"""Learning rates, one value per optimizer step, all after an optional linear warm-up from 0.

Each schedule is made of `lr`, the rate after the warm-up, and the length of the run, `epochs` of
`steps_per_epoch`; without a step, there is no rate to speak of. All raise ValueError where a number
is out of range.
"""

import itertools
import math
from collections.abc import Callable, Sequence

import optax


def constant(
    lr: float, epochs: int, steps_per_epoch: int, *, warmup_epochs: float = 0.0
) -> optax.Schedule:
    """The same rate throughout.

    Args:
        lr, epochs, steps_per_epoch: see above.
        warmup_epochs: length of a linear rise from 0 to lr at the start, within `epochs`.
    """
    return _after_warmup(
        lr, epochs, steps_per_epoch, warmup_epochs, lambda steps: optax.constant_schedule(lr)
    )


def cosine(
    lr: float,
    epochs: int,
    steps_per_epoch: int,
    *,
    warmup_epochs: float = 0.0,
    final_lr: float = 0.0,
) -> optax.Schedule:
    """Half a cosine from lr to final_lr (Loshchilov and Hutter, arXiv 1608.03983).

    Args:
        lr, epochs, steps_per_epoch: see above.
        warmup_epochs: length of a linear rise from 0 to lr at the start, within `epochs`.
        final_lr: where the cosine ends, in [0, lr].
    """
    if lr > 0 and not 0 <= final_lr <= lr:
        raise ValueError(f"final_lr must be in [0, lr], got {final_lr}")

    def after(warmup_steps: int) -> optax.Schedule:
        length = epochs * steps_per_epoch - warmup_steps
        return optax.cosine_decay_schedule(lr, length, final_lr / lr)

    return _after_warmup(lr, epochs, steps_per_epoch, warmup_epochs, after)


def multistep(
    lr: float,
    epochs: int,
    steps_per_epoch: int,
    *,
    warmup_epochs: float = 0.0,
    milestones: Sequence[float] = (60, 120, 160),
    decay_factor: float = 0.2,
) -> optax.Schedule:
    """The rate is multiplied by decay_factor at each milestone.

    Args:
        lr, epochs, steps_per_epoch: see above.
        warmup_epochs: length of a linear rise from 0 to lr at the start, within `epochs`.
        milestones: epochs at which the rate decays, at least one, counted from the start of the
            run.
        decay_factor: what the rate is multiplied by, > 0, and not 1.
    """
    if not 0 < decay_factor < math.inf:
        raise ValueError(f"decay_factor must be a number > 0, got {decay_factor}")
    if decay_factor == 1:
        raise ValueError("decay_factor=1 has no effect: choose the schedule constant")
    if not len(milestones):
        raise ValueError("milestones=() has no effect: choose the schedule constant")
    if epochs:
        _check_milestones(milestones, warmup_epochs, epochs)

    def after(warmup_steps: int) -> optax.Schedule:
        steps = [round(epoch * steps_per_epoch) for epoch in milestones]
        total = epochs * steps_per_epoch
        if not _increasing([warmup_steps, *steps, total]):
            raise ValueError(
                f"milestones {tuple(milestones)} are at the steps {tuple(steps)} of this run: each "
                f"needs its own, after step {warmup_steps} and before step {total}"
            )
        # join_schedules restarts the count after the warm-up.
        steps = [step - warmup_steps for step in steps]
        return optax.piecewise_constant_schedule(lr, dict.fromkeys(steps, decay_factor))

    return _after_warmup(lr, epochs, steps_per_epoch, warmup_epochs, after)


SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "cosine": cosine,
    "multistep": multistep,
    "constant": constant,
}


def _after_warmup(
    lr: float,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    after: Callable[[int], optax.Schedule],
) -> optax.Schedule:
    """The warm-up, then `after(warmup_steps)`, which counts from its end."""
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be a number > 0, got {lr}")
    if not epochs:
        return optax.constant_schedule(0.0)
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(f"warmup_epochs must be in [0, epochs), got {warmup_epochs} of {epochs}")
    warmup_steps, total = round(warmup_epochs * steps_per_epoch), epochs * steps_per_epoch
    if warmup_epochs and not 0 < warmup_steps < total:
        raise ValueError(
            f"warmup_epochs={warmup_epochs:g} is {warmup_steps} of the {total} steps of this run: "
            "at least one must be in the warm-up, and one after it"
        )
    main = after(warmup_steps)
    if not warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, lr, warmup_steps)
    return optax.join_schedules([warmup, main], [warmup_steps])


def _check_milestones(milestones: Sequence[float], warmup_epochs: float, epochs: int) -> None:
    try:
        increasing = _increasing([warmup_epochs, *milestones, epochs])
    except TypeError:
        increasing = False
    if not increasing:
        raise ValueError(
            "milestones must be increasing epochs after the warm-up and before the end "
            f"({warmup_epochs:g} to {epochs}), got {tuple(milestones)}"
        )


def _increasing(values: Sequence[float]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))
