# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""SAM, and its published descendants with a direction or a geometry of their own.

What all recipes have in common is described in `vasso_jax.optim`.
"""

from typing import Any, Literal

import optax

from vasso_jax.optim._arguments import (
    Refresh,
    ScalarOrSchedule,
    Window,
)
from vasso_jax.optim._compose import SharpnessAware, Transform, compose, memory
from vasso_jax.optim._directions import friendly
from vasso_jax.optim._geometries import adaptive_ball, l2_ball
from vasso_jax.optim._masks import (
    Mask,
)
from vasso_jax.optim._sparsity import sparse_mask


def sam(
    base: Transform,
    rho: ScalarOrSchedule = 0.05,
    *,
    mask: Mask | None = None,
    refresh_every: int | None = None,
    refresh: Refresh | None = None,
    active: Window | None = None,
    ascent_steps: int | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """Sharpness-aware minimization.

        eps = rho g / (||g|| + 1e-7),  g = grad L(w)
        w  <- base step with grad L(w + eps), applied at w

    Cost: 2 evaluations (1 + 1/k with `refresh_every`), no memory (1 copy with it).

    Args:
        base, rho, mask, and what follows: see `vasso_jax.optim`.

    References:
        Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization,
        ICLR 2021, https://arxiv.org/abs/2010.01412

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from vasso_jax.optim import sam
        >>> grad_fn = jax.grad(lambda w, i: 0.5 * jnp.sum(w**2))
        >>> tx, w = sam(optax.sgd(0.5), rho=0.1), jnp.array([1.0, 0.0])
        >>> updates, _ = tx.update(grad_fn(w, 0), tx.init(w), w, grad_fn=grad_fn)
        >>> print(optax.apply_updates(w, updates))
        [0.45 0.  ]
    """
    return compose(
        base,
        optax.chain(*memory(refresh_every, refresh, accumulator_dtype), l2_ball(rho, mask=mask)),
        refresh_every=refresh_every,
        refresh=refresh,
        active=active,
        ascent_steps=ascent_steps,
        microbatches=microbatches,
    )


def asam(
    base: Transform,
    rho: ScalarOrSchedule = 0.5,
    *,
    eta: float = 0.01,
    adapt: Mask | None = None,
    mask: Mask | None = None,
    refresh_every: int | None = None,
    refresh: Refresh | None = None,
    active: Window | None = None,
    ascent_steps: int | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """Adaptive SAM: the perturbation follows the size of each parameter.

        eps = rho T^2 g / (||T g|| + 1e-7),  T = |w| + eta
        w  <- base step with grad L(w + eps), applied at w

    Cost: 2 evaluations (1 + 1/k with `refresh_every`), no memory (1 copy with it).

    Args:
        rho: radius relative to T, >= 0, or a schedule of the step. The authors: 0.5 on CIFAR-10,
            1 on CIFAR-100 and ImageNet.
        eta, adapt: see `adaptive_ball`.
        base, mask, and what follows: see `vasso_jax.optim`.

    References:
        Kwon et al., ASAM, ICML 2021, https://arxiv.org/abs/2102.11600

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from vasso_jax.optim import asam
        >>> grad_fn = jax.grad(lambda w, i: 0.5 * jnp.sum(w**2))
        >>> tx, w = asam(optax.sgd(0.5), rho=0.1, eta=0.0), jnp.array([2.0, 0.0])
        >>> updates, _ = tx.update(grad_fn(w, 0), tx.init(w), w, grad_fn=grad_fn)
        >>> print(optax.apply_updates(w, updates))
        [0.9 0. ]
    """
    return compose(
        base,
        optax.chain(
            *memory(refresh_every, refresh, accumulator_dtype),
            adaptive_ball(rho, eta=eta, adapt=adapt, mask=mask),
        ),
        refresh_every=refresh_every,
        refresh=refresh,
        active=active,
        ascent_steps=ascent_steps,
        microbatches=microbatches,
    )


def friendly_sam(
    base: Transform,
    rho: ScalarOrSchedule = 0.05,
    theta: ScalarOrSchedule = 0.1,
    *,
    sigma: ScalarOrSchedule = 1.0,
    mask: Mask | None = None,
    refresh_every: int | None = None,
    refresh: Refresh | None = None,
    active: Window | None = None,
    ascent_steps: int | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """Friendly SAM: perturbs along the minibatch noise only.

        m  <- (1 - theta) m + theta g,  g = grad L(w), starting at the first g
        eps = rho d / (||d|| + 1e-7),   d = g - sigma m (g itself at the first step)
        w  <- base step with grad L(w + eps), applied at w

    Cost: 2 evaluations (1 + 1/k with `refresh_every`), 1 copy (2 with it).

    Args:
        theta: weight of the new gradient in m, in [0, 1], or a schedule of the step: 1 - lambda of
            the paper. The authors: 0.4 to 0.05.
        sigma: how much of m is subtracted, >= 0, or a schedule of the step.
        base, rho, mask, and what follows: see `vasso_jax.optim`.

    References:
        Li et al., Friendly Sharpness-Aware Minimization, CVPR 2024,
        https://arxiv.org/abs/2403.12350

    Example:
        >>> import optax
        >>> from vasso_jax.optim import friendly_sam
        >>> tx = friendly_sam(optax.sgd(0.1, momentum=0.9), rho=0.1, theta=0.4)
    """
    return compose(
        base,
        optax.chain(
            friendly(sigma, theta, accumulator_dtype=accumulator_dtype),
            *memory(refresh_every, refresh, accumulator_dtype, keeps_already=True),
            l2_ball(rho, mask=mask),
        ),
        refresh_every=refresh_every,
        refresh=refresh,
        active=active,
        ascent_steps=ascent_steps,
        microbatches=microbatches,
    )


def ssam(
    base: Transform,
    rho: ScalarOrSchedule = 0.1,
    *,
    density: float = 0.5,
    choice: Literal["fisher", "random"] = "fisher",
    mask_every: int = 100,
    seed: int = 0,
    mask: Mask | None = None,
    refresh_every: int | None = None,
    refresh: Refresh | None = None,
    active: Window | None = None,
    ascent_steps: int | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """Sparse SAM: perturbs only a share of the coordinates.

        eps = rho g / (||g|| + 1e-7) * m,  g = grad L(w),  m a mask of 0 and 1
        w  <- base step with grad L(w + eps), applied at w

    Cost: 2 evaluations (1 + 1/k with `refresh_every`), one byte per parameter (and 1 copy with it).

    Args:
        rho: radius before the mask, >= 0, or a schedule of the step.
        density: share of ones in m, in [0, 1]: 1 - sparsity of the paper.
        choice: how m is chosen, `fisher` or `random`; see `sparse_mask`.
        mask_every: steps between two choices of m, >= 1.
        seed: seed of the choice `random`.
        base, mask, and what follows: see `vasso_jax.optim`.

    References:
        Mi et al., Make Sharpness-Aware Minimization Stronger: A Sparsified Perturbation Approach,
        NeurIPS 2022, https://arxiv.org/abs/2210.05177

    Example:
        >>> import optax
        >>> from vasso_jax.optim import ssam
        >>> tx = ssam(optax.sgd(0.1, momentum=0.9), rho=0.1, density=0.1, mask_every=390)
    """
    return compose(
        base,
        optax.chain(
            *memory(refresh_every, refresh, accumulator_dtype),
            l2_ball(rho, mask=mask),
            sparse_mask(density, choice=choice, every=mask_every, seed=seed, mask=mask),
        ),
        refresh_every=refresh_every,
        refresh=refresh,
        active=active,
        ascent_steps=ascent_steps,
        microbatches=microbatches,
    )
