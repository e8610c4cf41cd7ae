"""The optimizer of a run: a base, alone or inside a sharpness-aware method, and its summary."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from vasso_jax import optim

Base = optax.GradientTransformation
_TITLES = {
    "vasso": "VaSSO",
    "vasso_asam": "VaSSO in ASAM's geometry",
    "vasso_gsam": "VaSSO with GSAM's descent",
    "friendly_sam": "Friendly-SAM",
    "looksam": "LookSAM",
    "lesam": "LE-SAM",
    "momentum_sam": "Momentum-SAM",
    "preconditioned_sam": "preconditioned SAM",
}


def sgd(
    lr: optax.ScalarOrSchedule = 0.05,
    *,
    momentum: float = 0.9,
    nesterov: bool = False,
    weight_decay: float = 5e-4,
    clip_norm: float = 0.0,
) -> Base:
    """Stochastic gradient descent with PyTorch's semantics, as VaSSO's authors use it.

    Args:
        lr: learning rate, or its schedule.
        momentum: in [0, 1); 0: none.
        nesterov: Nesterov's momentum; needs momentum > 0.
        weight_decay: L2 term of the gradient of every parameter, >= 0.
        clip_norm: bound on the global norm of the gradient (for a sharpness-aware method, of the
            perturbed one) before the weight decay; 0: none.

    Raises:
        ValueError: a number is out of range, or nesterov would have no effect.
    """
    _check_numbers(lr, weight_decay=weight_decay, clip_norm=clip_norm)
    _check_shares(momentum=momentum)
    if nesterov and not momentum:
        raise ValueError("nesterov has no effect without momentum: set momentum, or leave it out")
    return optax.chain(
        *_clip(clip_norm),
        optax.add_decayed_weights(weight_decay),
        optax.sgd(lr, momentum or None, nesterov),
    )


def adam(
    lr: optax.ScalarOrSchedule = 1e-3,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
) -> Base:
    """Adam (arXiv 1412.6980); the weight decay is an L2 term of the gradient, as in PyTorch.

    Args:
        lr: learning rate, or its schedule.
        b1, b2: decay of the averages of the gradient and of its square, in [0, 1).
        eps: added to the denominator, > 0.
        weight_decay: L2 term of the gradient of every parameter, >= 0.
        clip_norm: see `sgd`.

    Raises:
        ValueError: a number is out of range.
    """
    _check_numbers(lr, weight_decay=weight_decay, clip_norm=clip_norm)
    _check_adam(b1, b2, eps)
    return optax.chain(
        *_clip(clip_norm),
        optax.add_decayed_weights(weight_decay),
        optax.adam(lr, b1, b2, eps),
    )


def adamw(
    lr: optax.ScalarOrSchedule = 1e-3,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 1e-4,
    clip_norm: float = 0.0,
) -> Base:
    """Adam with decoupled weight decay (arXiv 1711.05101).

    Args:
        lr: learning rate, or its schedule.
        b1, b2, eps: see `adam`.
        weight_decay: share of every parameter that a step at lr 1 takes away, >= 0.
        clip_norm: see `sgd`.

    Raises:
        ValueError: a number is out of range.
    """
    _check_numbers(lr, weight_decay=weight_decay, clip_norm=clip_norm)
    _check_adam(b1, b2, eps)
    return optax.chain(*_clip(clip_norm), optax.adamw(lr, b1, b2, eps, weight_decay=weight_decay))


def none(base: Base) -> optax.GradientTransformationExtraArgs:
    """The base optimizer alone: one gradient per step, at the parameters themselves."""
    return optax.with_extra_args_support(base)


BASES: dict[str, Callable[..., Base]] = {"sgd": sgd, "adam": adam, "adamw": adamw}
METHODS: dict[str, Callable[..., optax.GradientTransformationExtraArgs]] = {
    "none": none,
    "sam": optim.sam,
    "vasso": optim.vasso,
    "asam": optim.asam,
    "vasso_asam": optim.vasso_asam,
    "friendly_sam": optim.friendly_sam,
    "gsam": optim.gsam,
    "vasso_gsam": optim.vasso_gsam,
    "looksam": optim.looksam,
    "ssam": optim.ssam,
    "wsam": optim.wsam,
    "lesam": optim.lesam,
    "momentum_sam": optim.momentum_sam,
    "preconditioned_sam": optim.preconditioned_sam,
}


# Methods whose perturbation has the norm rho, as far as arithmetic allows.
_OF_NORM_RHO = frozenset(
    {
        *("sam", "vasso", "friendly_sam", "gsam", "vasso_gsam", "looksam", "wsam"),
        "momentum_sam",
    }
)


class Optimizer(NamedTuple):
    """The optimizer of a run.

    Attributes:
        tx: the transform.
        schedule: its learning rate by step; None where that is not known.
        rho: the norm that its perturbation is to have, by step; None where that is not known.
    """

    tx: optax.GradientTransformation
    schedule: optax.Schedule | None = None
    rho: optax.Schedule | None = None


def intended_norm(method: str, rho: Any, ascent_steps: int | None) -> optax.Schedule | None:
    """The norm of the perturbation by step; None where it does not follow from rho.

    Args:
        method: its name.
        rho: a number, a schedule, or None if the method has none.
        ascent_steps: of the method.
    """
    if method not in _OF_NORM_RHO or rho is None or (ascent_steps or 1) > 1:
        return None
    if callable(rho):
        return lambda step: jnp.asarray(rho(step))
    return optax.constant_schedule(rho)


def summary(
    method: Mapping[str, Any],
    rho_schedule: Mapping[str, Any],
    window: Mapping[str, Any],
    base: Mapping[str, Any],
    schedule: Mapping[str, Any],
) -> str:
    """The optimizer in a line for people, from the settings of its sections."""
    warmup = schedule.get("warmup_epochs")
    after = f" after {warmup:g} epochs of warm-up" if warmup else ""
    used = {field: value for field, value in base.items() if value and field not in ("name", "lr")}
    rate = f"{_word(base['lr'])} {schedule['name']}{after}"
    text = f"{base['name']} ({_listed({'lr': rate, **used})})"
    if method["name"] == "none":
        return text
    values = {field: value for field, value in method.items() if field not in ("name", "seed")}
    if rho_schedule:
        values["rho"] = f"{values['rho']:g} to {rho_schedule['rho_min']:g} with the learning rate"
    if window:
        end = window["end_epoch"]
        values["epochs"] = (
            f"{window['start_epoch']:g} to {'the end' if end is None else f'{end:g}'}"
        )
    name = method["name"]
    title = _TITLES.get(name, name.upper().replace("_", "-") if name in METHODS else name)
    return f"{title} ({_listed(values)}) on {text}"


def _listed(values: Mapping[str, Any]) -> str:
    given = {name: value for name, value in values.items() if value is not None}
    return ", ".join(f"{name.replace('_', ' ')} {_word(value)}" for name, value in given.items())


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _clip(norm: float) -> list[Base]:
    return [optim.clip_by_global_norm(norm)] if norm else []


def _check_numbers(lr: optax.ScalarOrSchedule, **numbers: float) -> None:
    if not callable(lr) and not 0 < lr < math.inf:
        raise ValueError(f"lr must be a number > 0, got {lr}")
    for field, value in numbers.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{field} must be a number >= 0, got {value}")


def _check_shares(**shares: float) -> None:
    for field, value in shares.items():
        if not 0 <= value < 1:
            raise ValueError(f"{field} must be in [0, 1), got {value}")


def _check_adam(b1: float, b2: float, eps: float) -> None:
    _check_shares(b1=b1, b2=b2)
    if not 0 < eps < math.inf:
        raise ValueError(f"eps must be a number > 0, got {eps}")
