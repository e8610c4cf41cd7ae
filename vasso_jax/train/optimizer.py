"""The optimizer of a run from plain arguments, and in words."""

import optax

from vasso_jax.choices import check_choice
from vasso_jax.optim import sam, vasso

BASES = ("sgd", "adam", "adamw")
OPTIMIZERS = ("sgd", "sam", "vasso")


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
    check_choice("base", name, BASES)
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be >= 0, got {weight_decay}")
    if not clip_norm >= 0:
        raise ValueError(f"clip_norm must be >= 0 (0: no clipping), got {clip_norm}")
    for field, value in (("momentum", momentum), ("b1", b1), ("b2", b2)):
        if not 0 <= value < 1:
            raise ValueError(f"{field} must be in [0, 1), got {value}")
    if not eps > 0:
        raise ValueError(f"eps must be > 0, got {eps}")
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
    check_choice("optimizer", name, OPTIMIZERS)
    if name == "sam":
        return sam(base, rho)
    if name == "vasso":
        return vasso(base, rho, theta)
    return optax.with_extra_args_support(base)


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
