# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""GSAM and LookSAM, which do more with the two gradients than descend along the perturbed one.

`_recipe.py` says what all recipes share.
"""

from typing import Any

import optax

from vasso_jax.optim._arguments import Mask, ScalarOrSchedule, check_transform
from vasso_jax.optim._descent import surrogate_gap
from vasso_jax.optim._directions import suppress_variance
from vasso_jax.optim._geometries import l2_ball
from vasso_jax.optim._looksam import look_sharpness_aware
from vasso_jax.optim._recipe import SharpnessAware, Transform, make_recipe


def gsam(
    base: Transform,
    rho: ScalarOrSchedule = 0.05,
    *,
    alpha: float = 0.4,
    mask: Mask | None = None,
    microbatches: int | None = None,
) -> SharpnessAware:
    """Surrogate-gap guided SAM: descends on the gap between perturbed and clean loss, too.

        eps = rho g / (||g|| + 1e-7),  g = grad L(w),  g_p = grad L(w + eps)
        w  <- base step with g_p - alpha (the part of g orthogonal to g_p), applied at w

    Cost: 2 evaluations, no memory.

    Args:
        rho: radius, >= 0, or a schedule; the paper's is `rho_tied_to_lr(...)`.
        alpha: weight of the gap, >= 0; 0 is SAM.
        mask: which parameters are perturbed, such as `matrices`; see `l2_ball`.
        microbatches: parts of a batch that are taken in turn, >= 1; see `sharpness_aware`.

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
    return make_recipe(
        base,
        l2_ball(rho, mask=mask),
        descent=surrogate_gap(alpha),
        microbatches=microbatches,
    )


def vasso_gsam(
    base: Transform,
    rho: ScalarOrSchedule = 0.05,
    theta: ScalarOrSchedule = 0.9,
    *,
    alpha: float = 0.4,
    mask: Mask | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """VaSSO's direction with GSAM's descent.

        d  <- (1 - theta) d + theta g,  g = grad L(w), starting at the first g
        eps = rho d / (||d|| + 1e-7),  g_p = grad L(w + eps)
        w  <- base step with g_p - alpha (the part of g orthogonal to g_p), applied at w

    Cost: 2 evaluations, 1 copy (half with bfloat16).

    Args:
        rho, alpha: see `gsam`.
        theta, accumulator_dtype: see `vasso`.
        mask: which parameters are perturbed, such as `matrices`; see `l2_ball`.
        microbatches: parts of a batch that are taken in turn, >= 1; see `sharpness_aware`.

    References:
        https://arxiv.org/abs/2309.15639 and https://arxiv.org/abs/2203.08065

    Example:
        >>> import optax
        >>> from vasso_jax.optim import vasso_gsam
        >>> tx = vasso_gsam(optax.sgd(0.1, momentum=0.9), rho=0.1, theta=0.4, alpha=0.2)
    """
    return make_recipe(
        base,
        l2_ball(rho, mask=mask),
        direction=suppress_variance(theta, accumulator_dtype=accumulator_dtype),
        descent=surrogate_gap(alpha),
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
        rho: radius of the perturbation, >= 0, or a schedule.
        alpha, look_every, accumulator_dtype: see `look_sharpness_aware`.
        mask: which parameters are perturbed, such as `matrices`; see `l2_ball`.
        microbatches: parts of a batch that are taken in turn, >= 1; see `sharpness_aware`.

    References:
        Liu et al., Towards Efficient and Scalable Sharpness-Aware Minimization, CVPR 2022,
        https://arxiv.org/abs/2203.02714

    Example:
        >>> import optax
        >>> from vasso_jax.optim import looksam
        >>> tx = looksam(optax.adamw(1e-3), rho=0.1, alpha=0.7, look_every=5)
    """
    gradient = look_sharpness_aware(
        l2_ball(rho, mask=mask),
        alpha=alpha,
        look_every=look_every,
        microbatches=microbatches,
        accumulator_dtype=accumulator_dtype,
    )
    return optax.chain(gradient, check_transform("base", base))
