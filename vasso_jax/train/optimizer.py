"""The optimizer of a run from plain arguments, and in words."""

import inspect
from collections.abc import Callable
from typing import Any

import optax

from vasso_jax import optim
from vasso_jax.choices import check_choice

BASES = ("sgd", "adam", "adamw")
_RECIPES: dict[str, Callable[..., optax.GradientTransformationExtraArgs]] = {
    "sam": optim.sam,
    "vasso": optim.vasso,
    "asam": optim.asam,
    "vasso_asam": optim.vasso_asam,
    "friendly_sam": optim.friendly_sam,
    "gsam": optim.gsam,
    "vasso_gsam": optim.vasso_gsam,
    "looksam": optim.looksam,
    "ssam": optim.ssam,
}
_TITLES = {
    "vasso": "VaSSO",
    "vasso_asam": "VaSSO in ASAM's geometry",
    "vasso_gsam": "VaSSO with GSAM's descent",
    "friendly_sam": "Friendly-SAM",
    "looksam": "LookSAM",
}
OPTIMIZERS = ("sgd", *_RECIPES)


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
    name: str, base: optax.GradientTransformation, **hyperparameters: Any
) -> optax.GradientTransformationExtraArgs:
    """`base` alone (`sgd`), or inside the sharpness-aware method `name` of `vasso_jax.optim`.

    Args:
        name: one of OPTIMIZERS.
        base: see `make_base`.
        hyperparameters: arguments of the methods; a method gets those that it has and that are not
            None, so that one set serves to compare several.

    Raises:
        ValueError: unknown name, or a number out of range.
    """
    check_choice("optimizer", name, OPTIMIZERS)
    if name == "sgd":
        return optax.with_extra_args_support(base)
    known = inspect.signature(_RECIPES[name]).parameters
    given = {k: v for k, v in hyperparameters.items() if k in known and v is not None}
    return _RECIPES[name](base, **given)


def default_rho(name: str) -> float:
    """The radius of the method `name` where none is given; 0 for `sgd`."""
    return 0.0 if name == "sgd" else inspect.signature(_RECIPES[name]).parameters["rho"].default


def describe(
    optimizer: str,
    base: str,
    *,
    lr: float,
    schedule: str,
    warmup_epochs: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    clip_norm: float,
    **hyperparameters: Any,
) -> str:
    """The optimizer in words, leaving out what does not apply; names as in `make_optimizer`."""
    check_choice("optimizer", optimizer, OPTIMIZERS)
    warmup = f" after {warmup_epochs:g} epochs of warm-up" if warmup_epochs else ""
    words = [f"lr {lr:g} {schedule}{warmup}"]
    if base == "sgd" and momentum:
        words.append(f"{'Nesterov ' if nesterov else ''}momentum {momentum:g}")
    if weight_decay:
        words.append(f"weight decay {weight_decay:g}")
    if clip_norm:
        words.append(f"gradient norm clipped at {clip_norm:g}")
    text = f"{base} ({', '.join(words)})"
    if optimizer == "sgd":
        return text
    known = inspect.signature(_RECIPES[optimizer]).parameters
    defaults = {k: v.default for k, v in known.items() if v.default is not v.empty}
    given = {k: v for k, v in hyperparameters.items() if k in known and v is not None}
    values = {k: v for k, v in (defaults | given).items() if v is not None and k != "seed"}
    in_words = [f"{name.replace('_', ' ')} {_word(value)}" for name, value in values.items()]
    return f"{_TITLES.get(optimizer, optimizer.upper())} ({', '.join(in_words)}) on {text}"


def _word(value: Any) -> str:
    """A hyperparameter's value for people."""
    if isinstance(value, float):
        return f"{value:g}"
    # Schedules, masks and dtypes are known by their names.
    return getattr(value, "__name__", str(value)).strip("_").replace("_", " ")
