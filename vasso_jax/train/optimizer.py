"""The optimizer of a run from plain arguments: schedule, base optimizer, sharpness-aware method."""

import difflib
from collections.abc import Sequence

import optax

from vasso_jax.optim import sam, vasso

SCHEDULES = ("cosine", "multistep", "constant")
BASES = ("sgd", "adam", "adamw")
OPTIMIZERS = ("sgd", "sam", "vasso")


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
    """The learning rate at each optimizer step.

    Args:
        name: `cosine` (from lr to final_lr), `multistep` (times decay_factor at each milestone) or
            `constant`.
        lr: the rate after the warm-up.
        final_lr: where the cosine ends.
        epochs, steps_per_epoch: length of the run.
        warmup_epochs: length of a linear rise from 0 to lr at the start, within `epochs`.
        milestones: epochs at which `multistep` decays, counted from the start of the run.
        decay_factor: see `multistep`.

    Raises:
        ValueError: unknown name, or a number out of range.
    """
    _check_name("schedule", name, SCHEDULES)
    if not lr > 0:
        raise ValueError(f"lr must be > 0, got {lr}")
    if not 0 <= final_lr <= lr:
        raise ValueError(f"final_lr must be in [0, lr], got {final_lr}")
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(f"warmup_epochs must be in [0, epochs), got {warmup_epochs} of {epochs}")
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if name == "cosine":
        main = optax.cosine_decay_schedule(
            lr, epochs * steps_per_epoch - warmup_steps, final_lr / lr
        )
    elif name == "multistep":
        # join_schedules restarts the count behind the warm-up.
        steps = [round(epoch * steps_per_epoch) - warmup_steps for epoch in milestones]
        if any(step <= 0 for step in steps):
            raise ValueError(f"milestones must lie behind the warm-up, got {tuple(milestones)}")
        main = optax.piecewise_constant_schedule(lr, dict.fromkeys(steps, decay_factor))
    else:
        main = optax.constant_schedule(lr)
    if not warmup_steps:
        return main
    warmup = optax.linear_schedule(0.0, lr, warmup_steps)
    return optax.join_schedules([warmup, main], [warmup_steps])


def make_base(
    name: str,
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    b1: float,
    b2: float,
    eps: float,
    clip_norm: float,
) -> optax.GradientTransformation:
    """The base optimizer, with PyTorch's semantics, as the authors use it.

    Args:
        name: `sgd` and `adam` (weight decay is an L2 term of the gradient, on every parameter) or
            `adamw` (decoupled).
        learning_rate: number or schedule.
        momentum, nesterov: of sgd.
        weight_decay: >= 0.
        b1, b2, eps: of adam and adamw.
        clip_norm: bound on the global norm of the gradient that it receives (for a sharpness-aware
            method: the perturbed one), before the weight decay; 0: none.

    Raises:
        ValueError: unknown name, or a number out of range.
    """
    _check_name("base", name, BASES)
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be >= 0, got {weight_decay}")
    if not clip_norm >= 0:
        raise ValueError(f"clip_norm must be >= 0 (0: no clipping), got {clip_norm}")
    for field, value in (("momentum", momentum), ("b1", b1), ("b2", b2)):
        if not 0 <= value < 1:
            raise ValueError(f"{field} must be in [0, 1), got {value}")
    clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    if name == "adamw":
        return optax.chain(
            *clip, optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay)
        )
    decay = optax.add_decayed_weights(weight_decay)
    if name == "adam":
        return optax.chain(*clip, decay, optax.adam(learning_rate, b1, b2, eps))
    return optax.chain(*clip, decay, optax.sgd(learning_rate, momentum or None, nesterov))


def make_optimizer(
    name: str, base: optax.GradientTransformation, *, rho: float, theta: float
) -> optax.GradientTransformationExtraArgs:
    """`base` alone (`sgd`), or inside the sharpness-aware method `name` (`sam`, `vasso`).

    Raises:
        ValueError: unknown name, or rho or theta out of range.
    """
    _check_name("optimizer", name, OPTIMIZERS)
    if name == "sam":
        return sam(base, rho)
    if name == "vasso":
        return vasso(base, rho, theta)
    return optax.with_extra_args_support(base)


def _check_name(field: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ValueError(f"there is no {field} {name!r}.{hint} Known: {', '.join(known)}.")


def describe(
    optimizer: str,
    base: str,
    *,
    rho: float,
    theta: float,
    lr: float,
    schedule: str,
    warmup_epochs: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    clip_norm: float,
) -> str:
    """The optimizer in words, leaving out what does not apply."""
    warmup = f" after {warmup_epochs:g} epochs of warm-up" if warmup_epochs else ""
    words = [f"lr {lr:g} {schedule}{warmup}"]
    if base == "sgd" and momentum:
        words.append(f"{'Nesterov ' if nesterov else ''}momentum {momentum:g}")
    if weight_decay:
        words.append(f"weight decay {weight_decay:g}")
    if clip_norm:
        words.append(f"gradient norm clipped at {clip_norm:g}")
    text = f"{base} ({', '.join(words)})"
    if optimizer == "sam":
        return f"SAM (rho {rho:g}) on {text}"
    if optimizer == "vasso":
        return f"VaSSO (rho {rho:g}, theta {theta:g}) on {text}"
    return text
