# pyright: strict, reportMissingTypeStubs=false, reportUnknownMemberType=false
"""Published methods as compositions of a direction, a geometry and a base optimizer.

Costs are gradient evaluations a step, and memory beside the base's that lasts from step to step, in
copies of the parameters. With `refresh_every`, a method without a memory gets one: a copy that
holds the last direction.
"""

from typing import Any, Literal

import optax

from vasso_jax.optim._directions import friendly, suppress_variance
from vasso_jax.optim._geometries import adaptive_ball, l2_ball
from vasso_jax.optim._hyperparameters import Mask, ScalarOrSchedule, check_transform
from vasso_jax.optim._sharpness_aware import sharpness_aware
from vasso_jax.optim._sparsity import sparse_mask

Transform = optax.GradientTransformation
SharpnessAware = optax.GradientTransformationExtraArgs


def sam(
    base: Transform,
    rho: ScalarOrSchedule = 0.05,
    *,
    mask: Mask | None = None,
    refresh_every: int | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """Sharpness-aware minimization.

        eps = rho g / (||g|| + 1e-7),  g = grad L(w)
        w  <- base step with grad L(w + eps), applied at w

    Cost: 2 evaluations (1 + 1/k with `refresh_every`), no memory (1 copy with it).

    Args:
        base: takes the result, as `optax.sgd(0.1)`; weight decay and clipping belong in there.
        rho: radius of the perturbation, >= 0, or a schedule.
        mask: which parameters are perturbed; see `l2_ball`.
        refresh_every, microbatches: counts >= 1; see `sharpness_aware`.
        accumulator_dtype: of the copy that `refresh_every` keeps; see `suppress_variance`.

    Returns:
        A transform whose `update` needs `params` and `grad_fn`; see `sharpness_aware`.

    Raises:
        ValueError: a number is out of range.
        TypeError: base is not an optax transform.

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
    perturbation = optax.chain(*_memory(refresh_every, accumulator_dtype), l2_ball(rho, mask=mask))
    gradient = sharpness_aware(perturbation, refresh_every=refresh_every, microbatches=microbatches)
    return optax.chain(gradient, check_transform("base", base))


def asam(
    base: Transform,
    rho: ScalarOrSchedule = 0.5,
    *,
    eta: float = 0.01,
    adapt: Mask | None = None,
    mask: Mask | None = None,
    refresh_every: int | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """Adaptive SAM: the perturbation follows the size of each parameter.

        eps = rho T^2 g / (||T g|| + 1e-7),  T = |w| + eta
        w  <- base step with grad L(w + eps), applied at w

    Cost: 2 evaluations (1 + 1/k with `refresh_every`), no memory (1 copy with it).

    Args:
        base: takes the result, as `optax.sgd(0.1)`; weight decay and clipping belong in there.
        rho: radius relative to T, >= 0, or a schedule. The authors: 0.5 on CIFAR-10, 1 on
            CIFAR-100 and ImageNet.
        eta, adapt: see `adaptive_ball`.
        mask: which parameters are perturbed; see `l2_ball`.
        refresh_every, microbatches: counts >= 1; see `sharpness_aware`.
        accumulator_dtype: of the copy that `refresh_every` keeps; see `suppress_variance`.

    Returns:
        A transform whose `update` needs `params` and `grad_fn`; see `sharpness_aware`.

    Raises:
        ValueError: a number is out of range.
        TypeError: base is not an optax transform.

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
    ball = adaptive_ball(rho, eta=eta, adapt=adapt, mask=mask)
    perturbation = optax.chain(*_memory(refresh_every, accumulator_dtype), ball)
    gradient = sharpness_aware(perturbation, refresh_every=refresh_every, microbatches=microbatches)
    return optax.chain(gradient, check_transform("base", base))


def friendly_sam(
    base: Transform,
    rho: ScalarOrSchedule = 0.05,
    theta: ScalarOrSchedule = 0.1,
    *,
    sigma: ScalarOrSchedule = 1.0,
    mask: Mask | None = None,
    refresh_every: int | None = None,
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """Friendly SAM: perturbs along the minibatch noise only.

        m  <- (1 - theta) m + theta g,  g = grad L(w), starting at the first g
        eps = rho d / (||d|| + 1e-7),   d = g - sigma m (g itself at the first step)
        w  <- base step with grad L(w + eps), applied at w

    Cost: 2 evaluations (1 + 1/k with `refresh_every`), 1 copy (2 with it).

    Args:
        base: takes the result, as `optax.sgd(0.1)`; weight decay and clipping belong in there.
        rho: radius of the perturbation, >= 0, or a schedule.
        theta: weight of the new gradient in m, in [0, 1], or a schedule: 1 - lambda of the paper.
            The authors: 0.4 to 0.05.
        sigma: how much of m is taken out, >= 0, or a schedule.
        accumulator_dtype: of what it keeps; see `suppress_variance`.
        mask: which parameters are perturbed; see `l2_ball`.
        refresh_every, microbatches: counts >= 1; see `sharpness_aware`.

    Returns:
        A transform whose `update` needs `params` and `grad_fn`; see `sharpness_aware`.

    Raises:
        ValueError: a number is out of range.
        TypeError: base is not an optax transform.

    References:
        Li et al., Friendly Sharpness-Aware Minimization, CVPR 2024,
        https://arxiv.org/abs/2403.12350

    Example:
        >>> import optax
        >>> from vasso_jax.optim import friendly_sam
        >>> tx = friendly_sam(optax.sgd(0.1, momentum=0.9), rho=0.1, theta=0.4)
    """
    direction = friendly(sigma, theta, accumulator_dtype=accumulator_dtype)
    perturbation = optax.chain(
        direction, *_memory(refresh_every, accumulator_dtype), l2_ball(rho, mask=mask)
    )
    gradient = sharpness_aware(perturbation, refresh_every=refresh_every, microbatches=microbatches)
    return optax.chain(gradient, check_transform("base", base))


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
    microbatches: int | None = None,
    accumulator_dtype: Any = None,
) -> SharpnessAware:
    """Sparse SAM: perturbs a share of the coordinates only.

        eps = rho g / (||g|| + 1e-7) * m,  g = grad L(w),  m a mask of 0 and 1
        w  <- base step with grad L(w + eps), applied at w

    Cost: 2 evaluations (1 + 1/k with `refresh_every`), one byte a parameter (and 1 copy with it).

    Args:
        base: takes the result, as `optax.sgd(0.1)`; weight decay and clipping belong in there.
        rho: radius before the mask, >= 0, or a schedule.
        density: share of ones in m, in [0, 1]: 1 - sparsity of the paper.
        choice, seed: how m is drawn; see `sparse_mask`.
        mask_every: steps between two choices of m, >= 1.
        mask: which parameters are perturbed; see `l2_ball`.
        refresh_every, microbatches: counts >= 1; see `sharpness_aware`.
        accumulator_dtype: of the copy that `refresh_every` keeps; see `suppress_variance`.

    Returns:
        A transform whose `update` needs `params` and `grad_fn`; see `sharpness_aware`.

    Raises:
        ValueError: a number is out of range.
        TypeError: base is not an optax transform.

    References:
        Mi et al., Make Sharpness-Aware Minimization Stronger: A Sparsified Perturbation Approach,
        NeurIPS 2022, https://arxiv.org/abs/2210.05177

    Example:
        >>> import optax
        >>> from vasso_jax.optim import ssam
        >>> tx = ssam(optax.sgd(0.1, momentum=0.9), rho=0.1, density=0.1, mask_every=390)
    """
    sparse = sparse_mask(density, choice=choice, every=mask_every, seed=seed, mask=mask)
    perturbation = optax.chain(
        *_memory(refresh_every, accumulator_dtype), l2_ball(rho, mask=mask), sparse
    )
    gradient = sharpness_aware(perturbation, refresh_every=refresh_every, microbatches=microbatches)
    return optax.chain(gradient, check_transform("base", base))


def _memory(refresh_every: int | None, accumulator_dtype: Any) -> list[Transform]:
    """What holds the direction while it is reused."""
    if refresh_every is None:
        return []
    return [suppress_variance(1.0, accumulator_dtype=accumulator_dtype)]
