# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""SAM's published descendants with a descent rule or a radius of their own.

What all recipes have in common is described in `vasso_jax.optim`.
"""

from typing import Any

import optax

from vasso_jax.optim._arguments import (
    Refresh,
    ScalarOrSchedule,
    Window,
    check_range,
)
from vasso_jax.optim._compose import SharpnessAware, Transform, compose, memory
from vasso_jax.optim._descent import surrogate_gap, weighted_sharpness
from vasso_jax.optim._geometries import l2_ball
from vasso_jax.optim._looksam import look_sharpness_aware
from vasso_jax.optim._loss_budget import loss_budget_ball
from vasso_jax.optim._masks import (
    Mask,
)
from vasso_jax.optim._preconditioned import preconditioned_ball
from vasso_jax.optim._wsam import decoupled_sharpness


def gsam(
    base: Transform,
    rho: ScalarOrSchedule = 0.05,
    *,
    alpha: float = 0.4,
    mask: Mask | None = None,
    active: Window | None = None,
    ascent_steps: int | None = None,
    microbatches: int | None = None,
) -> SharpnessAware:
    """Surrogate-gap guided SAM: also descends on the gap between perturbed and clean loss.

        eps = rho g / (||g|| + 1e-7),  g = grad L(w),  g_p = grad L(w + eps)
        w  <- base step with g_p - alpha (the part of g orthogonal to g_p), applied at w

    Cost: 2 evaluations, no memory.

    Args:
        rho: radius, >= 0, or a schedule of the step; the paper's is `rho_tied_to_lr(...)`.
        alpha: weight of the gap, >= 0; 0 is SAM.
        base, mask, and what follows: see `vasso_jax.optim`.

    References:
        Zhuang et al., Surrogate Gap Minimization Improves Sharpness-Aware Training, ICLR 2022,
        https://arxiv.org/abs/2203.08065

    Example:
        >>> import optax
        >>> from vasso_jax.optim import gsam, rho_tied_to_lr
        >>> lr = optax.cosine_decay_schedule(0.1, 1000)
        >>> rho = rho_tied_to_lr(lr, rho_max=0.1, rho_min=0.02, lr_max=0.1)
        >>> tx = gsam(optax.sgd(lr, momentum=0.9), rho, alpha=0.4)
    """
    return compose(
        base,
        l2_ball(rho, mask=mask),
        descent=surrogate_gap(alpha),
        active=active,
        ascent_steps=ascent_steps,
        microbatches=microbatches,
    )


def looksam(
    base: Transform,
    rho: ScalarOrSchedule = 0.05,
    *,
    alpha: ScalarOrSchedule = 0.7,
    look_every: int = 5,
    mask: Mask | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """LookSAM: SAM's perturbed pass every k-th step, its effect reused in between.

        every k-th step: as SAM; g_v = the part of grad L(w + eps) orthogonal to g = grad L(w)
        else:            w <- base step with g + alpha ||g|| / ||g_v||  g_v

    Cost: 1 + 1/k evaluations, 1 copy (half with bfloat16).

    Args:
        alpha, look_every: see `look_sharpness_aware`.
        base, rho, mask, and what follows: see `vasso_jax.optim`.

    References:
        Liu et al., Towards Efficient and Scalable Sharpness-Aware Minimization, CVPR 2022,
        https://arxiv.org/abs/2203.02714

    Example:
        >>> import optax
        >>> from vasso_jax.optim import looksam
        >>> tx = looksam(optax.adamw(1e-3), rho=0.1, alpha=0.7, look_every=5)
    """
    return compose(
        base,
        l2_ball(rho, mask=mask),
        look_sharpness_aware,
        alpha=alpha,
        look_every=look_every,
        microbatches=microbatches,
        accumulator_dtype=accumulator_dtype,
    )


def wsam(
    base: Transform,
    rho: ScalarOrSchedule = 0.05,
    *,
    gamma: float = 0.9,
    decoupled: bool = True,
    learning_rate: ScalarOrSchedule | None = None,
    mask: Mask | None = None,
    ascent_steps: int | None = None,
    microbatches: int | None = None,
) -> SharpnessAware:
    """WSAM: the sharpness as a term of the loss, with a weight of its own.

        eps = rho g / (||g|| + 1e-7),  g = grad L(w),  s = gamma / (1 - gamma) (grad L(w + eps) - g)
        w  <- base step with g, applied at w, and - learning_rate s besides       decoupled
        w  <- base step with g + s, applied at w                                  coupled

    Decoupled, as weight decay is in AdamW, the sharpness does not pass through the base: neither
    through its moments and preconditioner, nor through clipping, accumulation or guards in it. It
    is left out where it is not finite.

    Cost: 2 evaluations, no memory.

    Args:
        gamma: in [0, 1); see `weighted_sharpness`.
        decoupled: which of the two forms.
        learning_rate: that of the base, a number or its schedule; the decoupled form needs it, the
            other one ignores it.
        base, rho, mask, and what follows: see `vasso_jax.optim`.

    Raises:
        ValueError: gamma is out of range, or the learning rate is missing.

    References:
        Yue et al., Sharpness-Aware Minimization Revisited: Weighted Sharpness as a Regularization
        Term, KDD 2023, https://arxiv.org/abs/2305.15817

    Example:
        >>> import optax
        >>> from vasso_jax.optim import wsam
        >>> lr = optax.cosine_decay_schedule(0.1, 1000)
        >>> tx = wsam(optax.sgd(lr, momentum=0.9), rho=0.2, gamma=0.9, learning_rate=lr)
    """
    options: Any = {"ascent_steps": ascent_steps, "microbatches": microbatches}
    ball = l2_ball(rho, mask=mask)
    if learning_rate is not None:
        check_range("learning_rate", learning_rate, 0.0)
    if not decoupled:
        return compose(base, ball, descent=weighted_sharpness(gamma), **options)
    if learning_rate is None:
        raise ValueError(
            "decoupled sharpness needs learning_rate=..., that of the base; or give decoupled=False"
        )
    return decoupled_sharpness(base, ball, gamma, learning_rate, **options)


def lesam(
    base: Transform,
    budget: ScalarOrSchedule = 0.35,
    *,
    rho_max: ScalarOrSchedule | None = 0.5,
    mask: Mask | None = None,
    refresh_every: int | None = None,
    refresh: Refresh | None = None,
    active: Window | None = None,
    ascent_steps: int | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """LE-SAM: the radius follows from a rise of the loss.

        eps = min(budget / ||g||, rho_max) g / (||g|| + 1e-7),  g = grad L(w)
        w  <- base step with grad L(w + eps), applied at w

    Cost: 2 evaluations (1 + 1/k with `refresh_every`), no memory (1 copy with it).

    Args:
        budget, rho_max: see `loss_budget_ball`. The authors' command for ResNet-18 on CIFAR-100:
            0.35 and no cap (None), with a budget that falls to 0 by a cosine from epoch 160 of 200
            on; the default cap is that of their script.
        base, mask, and what follows: see `vasso_jax.optim`.

    References:
        https://arxiv.org/abs/2605.10183

    Example:
        >>> import optax
        >>> from vasso_jax.optim import lesam
        >>> tx = lesam(optax.sgd(0.05, momentum=0.9), budget=0.35, rho_max=0.5)
    """
    return compose(
        base,
        optax.chain(
            *memory(refresh_every, refresh, accumulator_dtype),
            loss_budget_ball(budget, rho_max=rho_max, mask=mask),
        ),
        refresh_every=refresh_every,
        refresh=refresh,
        active=active,
        ascent_steps=ascent_steps,
        microbatches=microbatches,
    )


def preconditioned_sam(
    base: Transform,
    rho: ScalarOrSchedule = 0.05,
    *,
    b2: float = 0.999,
    eps: float = 1e-8,
    mask: Mask | None = None,
    active: Window | None = None,
    ascent_steps: int | None = None,
    microbatches: int | None = None,
) -> SharpnessAware:
    """SAM in the metric of Adam's second moment.

        nu  = b2 nu + (1 - b2) g^2,  g = grad L(w);   P = sqrt(nu / (1 - b2^t)) + eps
        eps = rho P^-1 g / (sqrt(<g, P^-1 g>) + 1e-7)
        w  <- base step with grad L(w + eps), applied at w

    Cost: 2 evaluations, 1 copy.

    Args:
        rho, b2, eps: see `preconditioned_ball`, which says what of it is ours.
        base, mask, and what follows: see `vasso_jax.optim`.

    References:
        https://arxiv.org/abs/2502.02407

    Example:
        >>> import optax
        >>> from vasso_jax.optim import preconditioned_sam
        >>> tx = preconditioned_sam(optax.adamw(1e-3), rho=0.05)
    """
    return compose(
        base,
        preconditioned_ball(rho, b2=b2, eps=eps, mask=mask),
        active=active,
        ascent_steps=ascent_steps,
        microbatches=microbatches,
    )
